"""Every published system, so small that a test can build, train, save and export it in a second."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from segscape.layout import Layout
from segscape.models.generator import Generator
from segscape.models.registry import create_model
from segscape.nn.clade import CLADE
from segscape.style import Style

LABELS = "camvid"
SIZE = (32, 64)
"""Training size of all of them; not square, so that height and width cannot be exchanged unseen."""

_GROUPDNET = {"widths": [24, 24, 24, 24, 24, 12, 12, 12], "groups": [12, 12, 8, 4, 4, 2, 1], "base_channels": 12}
_GROUPDNET |= {"encoder_channels": 1, "upsampling": "normal", "use_instances": True}
_SEAN = {"base_channels": 1, "hidden_channels": 4, "style_dim": 4, "encoder_channels": 2, "use_instances": True}

TINY: dict[str, dict[str, Any]] = {
    "spade": {"base_channels": 1, "hidden_channels": 4, "use_instances": True},
    "spade-light": {"base_channels": 1, "hidden_channels": 4},
    "clade": {"base_channels": 1, "use_instances": True},
    "clade-icpe": {"base_channels": 1},
    "pix2pixhd": {
        "base_channels": 2,
        "num_downsamplings": 2,
        "num_blocks": 1,
        "enhancers": 1,
        "num_enhancer_blocks": 1,
        "feature_channels": 2,
        "encoder_channels": 2,
        "encoder_downsamplings": 2,
        "use_instances": True,
    },
    "cc-fpse": {"base_channels": 1, "hidden_channels": 4, "latent_dim": 4},
    "ca2-sis": {
        "base_channels": 2,
        "norm_groups": 2,
        "heads": 2,
        "head_channels": 4,
        "last_heads": 1,
        "last_head_channels": 4,
        "mask_size": 8,
        "style_features": 1,
        "style_channels": 4,
        "mapping_dim": 4,
        "mapping_channels": 4,
    },
    "dagan": {"base_channels": 1, "hidden_channels": 4},
    "sean": _SEAN,
    "sean-clade": _SEAN,
    "groupdnet": _GROUPDNET,
    "groupdnet-clade": _GROUPDNET,
}
"""Options of each name in the registry, in its order; together they cover what the systems can be given."""

AnyGenerator = TypeVar("AnyGenerator", bound=Generator)


def build(name: str, **options: Any) -> Generator:
    """A tiny model of the CamVid classes with fresh weights, always the same."""
    torch.manual_seed(0)
    return create_model(name, **{"labels": LABELS, "image_size": SIZE, **TINY[name], **options})


def build_settled(name: str, **options: Any) -> Generator:
    """As `build`, as after some training; see `settled`."""
    return settled(build(name, **options))


@torch.no_grad()
def settled(model: AnyGenerator) -> AnyGenerator:
    """The model in evaluation mode, all of whose parts matter to its pictures, which are neither flat nor saturated.

    Weights start so small, or at zero, that a part could be left out unseen: here they are of the order of one, and
    running statistics and singular vectors are those of the features.
    """
    torch.manual_seed(0)
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.ndim == 1 or isinstance(module, CLADE):
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
            else:
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    height, width = model.config.image_size if model.config.fixed_size else (2 * model.config.size_multiple,) * 2
    model.train()
    for seed in range(3):
        model(*random_inputs(model, 2, (height, width), seed=100 + seed))
    _scale_head(model, *random_inputs(model, 2, (height, width)))
    return model.eval()


def _scale_head(model: Generator, layout: Layout, style: Style | None) -> None:
    """Bring what the last convolution gives to the tanh to a deviation of about 0.5."""
    head = [part for part in model.modules() if isinstance(part, nn.Conv2d) and part.out_channels == 3][-1]

    def scale(_: nn.Module, inputs: tuple[Tensor]) -> None:
        head.weight.mul_(0.5 / inputs[0].square().mean().sqrt())

    hook = head.register_forward_pre_hook(scale)
    model(layout, style)
    hook.remove()


def random_inputs(model: Generator, batch: int, size: tuple[int, int], seed: int = 0) -> tuple[Layout, Style | None]:
    """Layouts of blocks of 4x4 pixels, with instances, and a style if the model has any."""
    config, generator = model.config, torch.Generator().manual_seed(seed)
    shape = (batch, size[0] // 4, size[1] // 4)
    ids = torch.randint(0, 10**6, shape, generator=generator).repeat_interleave(4, 1).repeat_interleave(4, 2)
    style = None if config.style_shape is None else Style.sample(batch, config.style_shape, generator)
    return Layout(ids % config.labels.num_classes, config.labels, ids), style


def feeds(layout: Layout, style: Style | None, model: Generator) -> dict[str, Tensor]:
    """What a file of the model is fed with, found from the layout and the config alone."""
    config = model.config
    found = {"label_map": layout.label_map}
    if config.reads_instances and layout.instance_map is not None:
        found["instance_map"] = layout.instance_map
    if config.encoding_rule is not None:
        found["position"] = layout.position(rule=config.encoding_rule)
    if style is not None:
        found["style"] = style.values
    return found
