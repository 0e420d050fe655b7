"""Memory of CA2-SIS's attention: what PyTorch's fused attention and the averaged logits save, against the direct way.

The direct way multiplies all queries with all keys, takes the softmax and multiplies with the values, and averages the
logits of the attention loss over heads; so does the official code. Memory is that of the most tensors alive at once, a
model of published widths and its parameters included, in generating one image and in a training step of the generator
(attention loss, gradients; without discriminator). It is found by running the operations on tensors without content,
so that sizes are possible that no memory holds; `--time` runs them with content too, checks that both ways agree, and
that the memory is the same. `--quick` takes a small image.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from segscape.evaluation.cost.timing import LiveTensors, machine, thread_count
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.models.ca2_sis import CA2SISConfig, CA2SISGenerator

SIZES = (256, 512, 1024)
QUICK_SIZES = (64,)
LABELS = LabelSet.numbered(19)

Step = Callable[[CA2SISGenerator, Layout], Tensor]


def main() -> None:
    """Measure, print the rows, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small image only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--time", type=int, metavar="SIDE", help="run images of this side with content, too")
    options = parser.parse_args()
    rows = []
    with thread_count(options.threads):
        computer = machine()
        print(", ".join(f"{key} {value}" for key, value in computer.items()))
        print(f"{'image':<11}{'what':<10}{'fused MB':>10}{'direct MB':>11}{'ratio':>7}{'fused s':>9}{'direct s':>9}")
        for size in QUICK_SIZES if options.quick else SIZES:
            rows += [counted(size, name, step) for name, step in STEPS.items()]
        if options.time or options.quick:
            rows += [timed(options.time or QUICK_SIZES[0], name, step) for name, step in STEPS.items()]
    if options.json:
        options.json.write_text(
            json.dumps({"machine": computer, "quick": options.quick, "rows": rows}, indent=1) + "\n"
        )


def generate(model: CA2SISGenerator, layout: Layout) -> Tensor:
    """One image."""
    with torch.no_grad():
        image: Tensor = model(layout)
        return image


def train(model: CA2SISGenerator, layout: Layout) -> Tensor:
    """One image with attention loss, and the gradients; the style is that of a grey photo."""
    photo = torch.zeros(1, 3, *layout.size)
    image, losses = model.forward_with_losses(layout, model.encode(photo, layout).draw(None))
    loss = image.square().mean() + losses["attention"]
    torch.autograd.grad(loss, list(model.parameters()))
    return image.detach()


STEPS: dict[str, Step] = {"generate": generate, "train": train}


def direct_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """All products at once, `[N, heads, P, C]`."""
    logits: Tensor = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
    return logits.softmax(dim=-1) @ value


def direct_logits(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """The logits of every head, averaged afterwards."""
    q, k = (tokens.view(*tokens.shape[:2], heads, -1).transpose(1, 2) for tokens in (query, key))
    logits: Tensor = k @ q.transpose(2, 3) / q.shape[-1] ** 0.5
    return logits.mean(dim=1)


@contextmanager
def directly() -> Iterator[None]:
    """Attention the direct way inside the block."""
    with (
        patch("torch.nn.functional.scaled_dot_product_attention", direct_attention),
        patch("segscape.models.ca2_sis.mean_logits", direct_logits),
    ):
        yield


def counted(size: int, name: str, step: Step) -> dict[str, Any]:
    """Memory of both ways, nothing computed."""
    with FakeTensorMode():
        row = {"size": size, "what": name, "computed": False} | memory_of_both(size, step)
    return printed(row)


def timed(size: int, name: str, step: Step) -> dict[str, Any]:
    """Memory and seconds of both ways, and how far their images differ."""
    model, layout = model_and_layout(size)
    row: dict[str, Any] = {"size": size, "what": name, "computed": True} | memory_of_both(size, step)
    images = []
    for way, around in (("fused", nullcontext), ("direct", directly)):
        with around():
            start = perf_counter()
            images.append(step(model, layout))
            row[f"{way}_seconds"] = perf_counter() - start
    row["difference"] = (images[0] - images[1]).abs().max().item()
    return printed(row)


def memory_of_both(size: int, step: Step) -> dict[str, int]:
    """Bytes of the most tensors alive at once."""
    found = {}
    for way, around in (("fused_bytes", nullcontext), ("direct_bytes", directly)):
        model, layout = model_and_layout(size)
        with around(), LiveTensors() as tensors:
            step(model, layout)
        found[way] = tensors.peak
    return found


def model_and_layout(size: int) -> tuple[CA2SISGenerator, Layout]:
    """A model of published widths for square images, in which nothing is zero, and a layout of stripes."""
    torch.manual_seed(0)
    options = {"labels": LABELS, "image_size": (size, size), "exclude_background": True, "mapping_dim": None}
    model = CA2SISGenerator(CA2SISConfig.build(**options))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    stripes = torch.arange(size) * LABELS.num_classes // size
    return model, Layout(stripes.expand(1, size, size).contiguous(), LABELS, check=False)


def printed(row: dict[str, Any]) -> dict[str, Any]:
    """The row, once it is on the screen."""
    fused, direct = row["fused_bytes"], row["direct_bytes"]
    side = f"{row['size']}x{row['size']}"
    seconds = "".join(f"{row[f'{way}_seconds']:>9.2f}" for way in ("fused", "direct")) if row["computed"] else ""
    memory = f"{fused / 1e6:>10.0f}{direct / 1e6:>11.0f}{direct / fused:>7.2f}"
    print(f"{side:<11}{row['what']:<10}{memory}{seconds}", flush=True)
    return row


if __name__ == "__main__":
    main()
