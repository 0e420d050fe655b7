"""Run time and peak memory of a generator, split into backbone and norms.

What is timed is what a user pays for a picture: every repetition gets a layout of which nothing was derived yet, so
that resizing the label map, finding its edges and encoding its positions are part of the time. Times are medians after
warm-up, with quartiles. The split is measured in repetitions of its own, so that its hooks do not disturb the total.
"""

from __future__ import annotations

import os
import platform
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typing_extensions import Self

from segscape import __version__
from segscape.errors import EvaluationError
from segscape.evaluation.cost.complexity import outermost_norms
from segscape.evaluation.score import Score
from segscape.labels import LabelSet
from segscape.layout import Layout, Size
from segscape.models.generator import Generator

TIME_RULE: Final = "median; the layout's maps are derived anew each time"
CUDA_MEMORY: Final = "inference; most memory that PyTorch had allocated on the device, weights included"
TENSOR_MEMORY: Final = "inference; most bytes of tensors alive, weights included, without workspaces inside kernels"

SMALLEST_NUMBER_OF_REGIONS: Final = 24


@dataclass(frozen=True)
class Spread:
    """Repeated measurements in seconds: the median, the quartiles around it, and the fastest."""

    median: float
    lower_quartile: float
    upper_quartile: float
    minimum: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """Summarise at least one measurement."""
        lower, median, upper = (float(value) for value in np.quantile(seconds, (0.25, 0.5, 0.75)))
        return cls(median, lower, upper, min(seconds))


@dataclass(frozen=True)
class Memory:
    """The most bytes that one forward pass occupies.

    Attributes:
        peak: of the whole pass; the larger of the next two.
        backbone: the most while no norm runs.
        norms: the most while a norm runs, with what the backbone keeps meanwhile.
        rule: what these bytes are: `CUDA_MEMORY` or `TENSOR_MEMORY`.
    """

    peak: int
    backbone: int
    norms: int
    rule: str


@dataclass(frozen=True)
class Timing:
    """Run time and memory of one forward pass.

    Attributes:
        total: of the whole generator, undisturbed.
        processor: processor time of the same passes, all threads together; on a machine that does other work meanwhile
            it says more than the clock does. Without meaning on a GPU.
        ready: the same for a layout that was used before, so that its maps are ready (a paper times this, since its
            data loader makes the maps).
        backbone: everything but the norms; with `norms` measured in repetitions of their own.
        norms: the conditional norms, with the maps of the layout that they are the first to ask for.
        memory: of one pass, in a run of its own.
        size: (height, width) of the images.
        batch_size: images per pass.
        device: as PyTorch names it.
        threads: of the CPU.
        warmup: passes before the first measurement.
        repetitions: measurements of each time.
    """

    total: Spread
    processor: Spread
    ready: Spread
    backbone: Spread
    norms: Spread
    memory: Memory
    size: Size
    batch_size: int
    device: str
    threads: int
    warmup: int
    repetitions: int

    def scores(self) -> list[Score]:
        """Run time and peak memory, for a report."""
        computer = machine(self.device)
        where = computer["processor"] if self.device == "cpu" else computer["device"]
        run = (
            f"{self.size[0]}x{self.size[1]}, {self.batch_size} per pass, {where}, "
            f"{self.threads} CPU thread{'s' * (self.threads != 1)}, "
            f"PyTorch {computer['torch']}"
        )
        time = f"{run}; {TIME_RULE}; {self.repetitions} repetitions after {self.warmup}"
        return [
            Score("Run time", self.total.median, "s", "lower", "cost", time),
            Score("Peak memory", self.memory.peak / 1e6, "MB", "lower", "cost", f"{run}; {self.memory.rule}"),
        ]


def measure(
    model: Generator,
    size: Size | None = None,
    *,
    device: torch.device | str = "cpu",
    threads: int | None = None,
    warmup: int = 2,
    repetitions: int = 10,
    batch_size: int = 1,
) -> Timing:
    """Time a generator's forward pass on drawn regions of all its classes, and find its peak memory.

    Args:
        model: it is moved to `device` and put into evaluation mode.
        size: (height, width) of the images; the training size by default.
        device: where to run.
        threads: of the CPU, set for the measurement only; None keeps PyTorch's number.
        warmup: passes that are not timed.
        repetitions: timed passes of each kind; the median is reported.
        batch_size: images per pass.

    Raises:
        EvaluationError: fewer than one repetition, image or thread, or a negative warm-up.
        LayoutError: the generator cannot work at this size.
    """
    if warmup < 0 or min(repetitions, batch_size, 1 if threads is None else threads) < 1:
        raise EvaluationError(
            f"cannot time {repetitions} repetitions of {batch_size} images on {threads} threads after {warmup} for "
            "warm-up: each but the warm-up is at least 1."
        )
    config, device = model.config, torch.device(device)
    size = config.image_size if size is None else size
    model = model.to(device).eval()
    layout = regions(config.labels, size, instances=config.reads_instances, count=batch_size).to(device)
    forward = partial(_forward, model)
    with thread_count(threads) as used:
        for _ in range(warmup):
            forward(_fresh(layout))
        total, processor = zip(*(_two_clocks(forward, _fresh(layout)) for _ in range(repetitions)), strict=True)
        forward(layout)
        ready = [_seconds(forward, layout) for _ in range(repetitions)]
        split = [_split(model, forward, _fresh(layout)) for _ in range(repetitions)]
        memory = _memory(model, forward, layout)
    return Timing(
        Spread.of(total),
        Spread.of(processor),
        Spread.of(ready),
        Spread.of([whole - inside for whole, inside in split]),
        Spread.of([inside for _, inside in split]),
        memory,
        size,
        batch_size,
        str(device),
        used,
        warmup,
        repetitions,
    )


def regions(labels: LabelSet, size: Size, *, instances: bool = False, count: int = 1, seed: int = 0) -> Layout:
    """Layouts of irregular regions, at least one per class where the pixels suffice; the same seed draws the same.

    Args:
        labels: the classes.
        size: (height, width).
        instances: with an instance map, in which every region is one object.
        count: how many label maps.
    """
    random = np.random.default_rng(seed)
    sites = max(SMALLEST_NUMBER_OF_REGIONS, labels.num_classes)
    pixels = np.indices(size).reshape(2, -1).T
    owners = np.stack([KDTree(random.uniform(0, size, (sites, 2))).query(pixels)[1] for _ in range(count)])
    region_map = owners.reshape(count, *size)
    return Layout.from_array(region_map % labels.num_classes, labels, region_map if instances else None)


@contextmanager
def thread_count(threads: int | None) -> Iterator[int]:
    """PyTorch's number of CPU threads inside the block, put back after it; None leaves it as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else threads)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


@contextmanager
def around_norms(model: nn.Module, before: Callable[[], None], after: Callable[[], None]) -> Iterator[None]:
    """Inside the block, call `before` and `after` around every pass through one of the outermost conditional norms."""
    norms = outermost_norms(model).values()
    hooks = [norm.register_forward_pre_hook(lambda *_: before()) for norm in norms]
    hooks += [norm.register_forward_hook(lambda *_: after()) for norm in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors alive, of those that operations inside the block read or made.

    A tensor counts from the first operation that reads or makes it until its storage is freed; views share their
    storage and count once. What a kernel allocates and frees inside itself is not seen.

    Attributes:
        live: bytes now.
        peak: the most bytes so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self._storages: dict[int, weakref.ref[Any]] = {}

    def add(self, tensor: Tensor) -> None:
        """Count a tensor's storage, if it is not counted yet."""
        packed = tensor.is_mkldnn  # it has no storage of its own
        storage: Any = tensor if packed else tensor.untyped_storage()
        key, size = id(storage), tensor.numel() * tensor.element_size() if packed else storage.nbytes()
        if key not in self._storages:
            self._storages[key] = weakref.ref(storage, partial(self._release, key, size))
            self.live += size
            self.peak = max(self.peak, self.live)

    def restart_peak(self) -> int:
        """Return the peak, and begin a new one at what is alive now."""
        peak, self.peak = self.peak, self.live
        return peak

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, result)):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        return result

    def _release(self, key: int, size: int, _: object) -> None:
        del self._storages[key]
        self.live -= size


def machine(device: torch.device | str = "cpu") -> dict[str, str | int]:
    """What a measurement depends on: processor, cores, threads, device, versions of PyTorch, Python and Segscape."""
    device = torch.device(device)
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "segscape": __version__,
    }


def _processor() -> str:
    """The processor's name as Linux knows it, or else what Python knows."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _forward(model: Generator, layout: Layout) -> None:
    with torch.no_grad():
        model(layout)


def _fresh(layout: Layout) -> Layout:
    """The same maps, with nothing derived."""
    return Layout(layout.label_map, layout.labels, layout.instance_map, check=False)


def _now(device: torch.device) -> float:
    """Seconds of a clock, once the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return perf_counter()


def _seconds(forward: Callable[[Layout], None], layout: Layout) -> float:
    start = _now(layout.device)
    forward(layout)
    return _now(layout.device) - start


def _two_clocks(forward: Callable[[Layout], None], layout: Layout) -> tuple[float, float]:
    """Seconds of a pass, and seconds that the processor worked for it."""
    start = process_time()
    return _seconds(forward, layout), process_time() - start


def _split(model: Generator, forward: Callable[[Layout], None], layout: Layout) -> tuple[float, float]:
    """Seconds of a whole pass, and of the norms in it."""
    moments: list[float] = []

    def note() -> None:
        moments.append(_now(layout.device))

    with around_norms(model, note, note):
        whole = _seconds(forward, layout)
    return whole, sum(moments[1::2]) - sum(moments[::2])


def _memory(model: Generator, forward: Callable[[Layout], None], layout: Layout) -> Memory:
    if layout.device.type == "cuda":
        peaks = _peaks(model, lambda: forward(_fresh(layout)), partial(_restart_cuda_peak, layout.device))
        return Memory(max(peaks), *peaks, CUDA_MEMORY)
    with LiveTensors() as tensors:
        for tensor in (*model.parameters(), *model.buffers()):
            tensors.add(tensor)
        peaks = _peaks(model, lambda: forward(_fresh(layout)), tensors.restart_peak)
    return Memory(max(peaks), *peaks, TENSOR_MEMORY)


def _peaks(model: Generator, forward: Callable[[], None], restart_peak: Callable[[], int]) -> tuple[int, int]:
    """The largest of the peaks outside norms, and of those inside; `restart_peak` returns and forgets the last one."""
    outside, inside = [0], [0]
    restart_peak()
    with around_norms(model, lambda: outside.append(restart_peak()), lambda: inside.append(restart_peak())):
        forward()
    outside.append(restart_peak())
    return max(outside), max(inside)


def _restart_cuda_peak(device: torch.device) -> int:
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return peak
