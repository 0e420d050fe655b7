"""Timing with a clock of our own, and memory against sequences of tensors counted by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from segscape import layout as layout_module
from segscape.errors import EvaluationError, LayoutError
from segscape.evaluation.cost import timing
from segscape.evaluation.cost.timing import LiveTensors, Spread, machine, measure, regions, thread_count
from segscape.labels import LABEL_SETS, LabelSet
from segscape.layout import Layout, instance_edges
from segscape.models import create_model
from segscape.models.config import GeneratorConfig
from segscape.models.generator import Generator
from segscape.nn.conditional import ConditionalNorm
from segscape.style import Style


def tiny(name: str = "clade", **options: Any) -> Generator:
    return create_model(name, **{"labels": 5, "image_size": (32, 32), "base_channels": 1, **options})


class Doubling(ConditionalNorm):
    """Makes 8 times its input on the way."""

    def forward(self, x: Tensor, layout: Layout, style: Style | None = None) -> Tensor:
        return x.repeat(8, 1, 1, 1)[:1].clone()


class Small(Generator):
    """1024 bytes of features, a norm, and a convolution whose weights have 4 * 4 * 4 bytes."""

    config: GeneratorConfig
    config_class: ClassVar[type[Any]] = GeneratorConfig

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config)
        self.norm = Doubling(4, "instance")
        self.convolution = nn.Conv2d(4, 4, 1, bias=False)

    def forward(self, layout: Layout, style: Style | None = None) -> Tensor:
        x = torch.zeros(1, 4, 8, 8)
        x = self.norm(x, layout)
        x = self.convolution(x)
        return x


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is one second later whenever it is looked at."""
    moments = iter(range(10**6))
    monkeypatch.setattr(timing, "perf_counter", lambda: float(next(moments)))


def test_spread() -> None:
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(3.0, 2.0, 4.0, 1.0)
    assert Spread.of([2.0]) == Spread(2.0, 2.0, 2.0, 2.0)


@pytest.mark.usefixtures("ticks")
def test_split_between_backbone_and_norms() -> None:
    """CLADE has 18 norms, each of which looks at the clock twice; a second passes from look to look."""
    found = measure(tiny(), warmup=0, repetitions=3)
    assert found.total == found.ready == Spread(1.0, 1.0, 1.0, 1.0)
    assert found.norms.median == 18
    assert found.backbone.median == 18 + 1


@pytest.mark.usefixtures("ticks")
def test_no_hook_stays() -> None:
    model = tiny()
    measure(model, warmup=0, repetitions=1)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_maps_are_derived_in_every_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    derived: list[object] = []
    encode = layout_module.intra_class_position
    monkeypatch.setattr(layout_module, "intra_class_position", lambda *given: derived.append(given) or encode(*given))
    measure(tiny("clade-icpe"), warmup=2, repetitions=3)
    # warm-up, total, once to make ready for "ready", split, memory
    assert len(derived) == 2 + 3 + 1 + 3 + 1


@pytest.mark.parametrize(
    "options", [{"use_instances": True}, {"latent_dim": 4}, {"norm": "spade"}, {"position": "feature"}]
)
def test_every_kind_of_model_in_batches(options: dict[str, Any]) -> None:
    found = measure(tiny(**options).train(), warmup=0, repetitions=2, batch_size=2)
    assert (found.size, found.batch_size, found.repetitions, found.device) == ((32, 32), 2, 2, "cpu")
    for spread in (found.total, found.processor, found.ready, found.backbone, found.norms):
        assert 0 <= spread.minimum <= spread.lower_quartile <= spread.median <= spread.upper_quartile
    assert found.memory.peak == max(found.memory.backbone, found.memory.norms)


def test_thread_count_is_put_back() -> None:
    before = torch.get_num_threads()
    with thread_count(before + 1) as used:
        assert used == torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with thread_count(None) as used:
        assert used == before
    with pytest.raises(LayoutError):
        measure(tiny(), (33, 32), threads=before + 1)
    assert torch.get_num_threads() == before
    assert measure(tiny(), threads=before + 1, warmup=0, repetitions=1).threads == before + 1


@pytest.mark.parametrize("options", [{"repetitions": 0}, {"batch_size": 0}, {"threads": 0}, {"warmup": -1}])
def test_numbers_out_of_range(options: dict[str, int]) -> None:
    with pytest.raises(EvaluationError, match="at least 1"):
        measure(tiny(), **options)  # type: ignore[arg-type]


@pytest.fixture
def tensors() -> Iterator[LiveTensors]:
    with LiveTensors() as tracker:
        yield tracker


def test_live_tensors_by_hand(tensors: LiveTensors) -> None:
    a = torch.zeros(256)
    assert (tensors.live, tensors.peak) == (1024, 1024)
    b = a + 1
    view = b[:10]
    a.add_(1)
    assert (tensors.live, tensors.peak) == (2048, 2048)
    del b
    assert tensors.live == 2048  # the view keeps the storage
    del view
    assert (tensors.live, tensors.peak) == (1024, 2048)
    c = (a * 2) * 3  # the product in brackets is freed
    assert (tensors.live, tensors.peak) == (2048, 3072)
    del a, c
    assert (tensors.live, tensors.peak) == (0, 3072)


def test_live_tensors_count_what_was_there_before_when_it_is_read() -> None:
    given = torch.zeros(512)
    with LiveTensors() as tensors:
        assert tensors.live == 0
        total = given.sum()
        assert tensors.live == 2048 + 4
        tensors.add(given.view(2, 256))
        assert tensors.live == 2048 + 4
        del given, total
        assert tensors.live == 0


def test_restarted_peak(tensors: LiveTensors) -> None:
    a = torch.zeros(256)
    (a + 1).sum()
    assert tensors.restart_peak() == 2048 + 4
    assert tensors.peak == tensors.live == 1024


def test_memory_of_a_forward_pass_by_hand() -> None:
    model = Small(GeneratorConfig(model="small", labels=2, image_size=(8, 8)))
    memory = measure(model, warmup=0, repetitions=1).memory
    features, weights = 4 * 8 * 8 * 4, 4 * 4 * 4
    # while the norm runs: its input, 8 times that, and its output; then the convolution's input and output
    assert memory.norms == weights + features * (1 + 8 + 1)
    assert memory.peak == memory.norms
    # the norm has returned, but Python still holds its input and output when the hook looks
    assert memory.backbone == weights + 2 * features


def test_regions() -> None:
    camvid = LABEL_SETS["camvid"]
    layout = regions(camvid, (48, 64), instances=True, count=2)
    assert layout.label_map.shape == (2, 48, 64)
    for label_map, ids in zip(layout.label_map, layout.instance_map, strict=True):  # type: ignore[arg-type]
        assert set(label_map.unique().tolist()) == set(range(12))
        assert len(ids.unique()) == timing.SMALLEST_NUMBER_OF_REGIONS
        assert all(len(label_map[ids == number].unique()) == 1 for number in ids.unique())
    again, other = regions(camvid, (48, 64), count=2), regions(camvid, (48, 64), count=2, seed=1)
    assert torch.equal(layout.label_map, again.label_map) and not torch.equal(layout.label_map, other.label_map)
    assert not again.has_instances
    assert not torch.equal(layout.label_map[0], layout.label_map[1])


def test_regions_are_connected_and_many_classes_fit() -> None:
    layout = regions(LabelSet.numbered(151), (256, 256), instances=True)
    assert len(layout.label_map.unique()) == 151
    assert layout.instance_map is not None
    assert instance_edges(layout.instance_map).mean() < 0.2


def test_machine_says_what_a_measurement_depends_on() -> None:
    found = machine()
    assert found["torch"] == torch.__version__ and found["threads"] == torch.get_num_threads()
    assert found["device"] == "cpu" and found["processor"] and int(found["cores"]) >= 1


def test_scores_say_how_they_were_measured() -> None:
    found = measure(tiny(), warmup=1, repetitions=2, threads=1)
    run_time, memory = found.scores()
    assert run_time.value == found.total.median and memory.value == found.memory.peak / 1e6
    for part in ("32x32", "1 per pass", "cpu", "1 CPU thread,", "2 repetitions after 1", "median"):
        assert part in run_time.protocol
    assert "inference" in memory.protocol and "tensors alive" in memory.protocol


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
def test_packed_tensors_count() -> None:
    with timing.LiveTensors() as tensors:
        packed = torch.zeros(4, 8, 3, 3).to_mkldnn()
        alive = tensors.live
        del packed
    assert alive >= 4 * 8 * 9 * 4 and tensors.live < alive
