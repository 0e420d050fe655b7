"""What papers published about cost, as data: their settings as model options, and the figures of their tables.

Source of all figures: Tan et al., "Efficient Semantic Image Synthesis via Class-Adaptive Normalization", TPAMI 2021,
arXiv 2012.04644. Its "FLOPs" are multiply-accumulates by `complexity.PAPER_RULE`; its run times were measured on a
Titan XP (Table II: one thread of a Xeon Gold 6148); its memory is that of training with a batch of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch

from segscape.errors import EvaluationError
from segscape.evaluation.cost.complexity import Complexity, count
from segscape.layout import Size
from segscape.models import create_model
from segscape.models.config import ModelConfig
from segscape.models.generator import Generator
from segscape.models.groupdnet import PUBLISHED as GROUPDNETS
from segscape.models.registry import MODELS, variant

PAPER: Final = "CLADE paper (arXiv 2012.04644)"


@dataclass(frozen=True)
class Setting:
    """How the generators of a paper were built for a dataset.

    Attributes:
        title: the dataset as the paper writes it.
        num_classes: with the unknown class where there is one.
        image_size: (height, width).
        use_instances: whether instance maps are used.
        upsampling: of the generators that have this option.
    """

    title: str
    num_classes: int
    image_size: Size = (256, 256)
    use_instances: bool = False
    upsampling: str = "normal"

    def options(self, model: str) -> dict[str, Any]:
        """The options of `create_model` for one system; one that the system does not have is left out.

        Raises:
            ConfigError: there is no such model.
        """
        offered = {
            "image_size": self.image_size,
            "use_instances": self.use_instances,
            "upsampling": self.upsampling,
            **_OF_ONE_MODEL.get((model, self.title), {}),
        }
        known = variant(model).generator.config_class.model_fields
        return {"labels": self.num_classes, **{key: value for key, value in offered.items() if key in known}}


SETTINGS: Final[dict[str, Setting]] = {
    "ade20k": Setting("ADE20K", 151),
    "ade20k-outdoor": Setting("ADE20K-outdoor", 151),
    "coco-stuff": Setting("COCO-Stuff", 183, use_instances=True),
    "cityscapes": Setting("Cityscapes", 35, (256, 512), use_instances=True, upsampling="more"),
    "celebamask-hq": Setting("CelebAMask-HQ", 19),
    "deepfashion": Setting("DeepFashion", 8),
}
"""The settings by name."""

_OF_ONE_MODEL: Final[dict[tuple[str, str], dict[str, Any]]] = {
    # The paper does not say it; this width gives the multiply-accumulates of its Table IV.
    ("spade-light", "Cityscapes"): {"base_channels": 32},
    # The paper does not say it; without instance edges it is the parameters of its Table VIII.
    ("sean", "Cityscapes"): {"use_instances": False},
    ("sean-clade", "Cityscapes"): {"use_instances": False},
    **{
        (model, SETTINGS[name].title): {"upsampling": "more", **network}
        for name, network in GROUPDNETS.items()
        for model in ("groupdnet", "groupdnet-clade")
    },
}


def setting(name: str) -> Setting:
    """A published setting by name; raises EvaluationError, with the known names, if there is none."""
    if name not in SETTINGS:
        raise EvaluationError(f"there is no published setting {name!r}; known are {', '.join(SETTINGS)}.")
    return SETTINGS[name]


def build_on_paper(model: str, dataset: str, **options: Any) -> Generator:
    """A system in a published setting, on the meta device: with shapes, but neither memory nor weights.

    Args:
        model: a name of the registry.
        dataset: a name of `SETTINGS`.
        options: of `create_model`, to change something.

    Raises:
        ConfigError: unknown model or option.
        EvaluationError: unknown setting.
    """
    with torch.device("meta"):
        return create_model(model, **{**setting(dataset).options(model), **options})


@dataclass(frozen=True)
class PublishedCost:
    """One row of a table of the paper, as printed; None where the table has nothing.

    Attributes:
        table: number of the table.
        dataset: a name of `SETTINGS`.
        model: the system, by the name that it has or would have in the registry.
        parameters: in millions, one decimal.
        flops: in thousand millions, one decimal; multiply-accumulates by the paper's rule.
        seconds: run time of one image.
        training_memory: of training with one image (generator, discriminator, VGG-19), in GB.
    """

    table: str
    dataset: str
    model: str
    parameters: float | None = None
    flops: float | None = None
    seconds: float | None = None
    training_memory: float | None = None

    @property
    def is_ours(self) -> bool:
        """Whether the registry has this system."""
        return self.model in MODELS


_TABLE_I = """
ade20k          cc-fpse     140.7  438.2  0.093  -
ade20k          dagan        96.6  186.1  0.057  4.36
ade20k          pix2pixhd   182.9   99.3  0.041  7.47
ade20k          spade        96.5  181.3  0.042  4.36
ade20k          clade        71.4   42.2  0.024  3.68
ade20k          clade-icpe   71.4   42.2  0.027  4.00
ade20k-outdoor  pix2pixhd   182.9   99.3  0.041  7.47
ade20k-outdoor  spade        96.5  181.3  0.042  4.36
ade20k-outdoor  clade        71.4   42.2  0.024  3.68
ade20k-outdoor  clade-icpe   71.4   42.2  0.027  4.00
coco-stuff      cc-fpse     141.9  456.1  0.094  -
coco-stuff      pix2pixhd   183.0  106.1  0.046  8.32
coco-stuff      spade        97.5  191.3  0.046  4.62
coco-stuff      clade        72.5   42.4  0.027  3.85
coco-stuff      clade-icpe   72.5   42.4  0.030  4.06
cityscapes      cc-fpse     128.1  739.2  0.157  -
cityscapes      dagan        93.1  291.2  0.132  5.46
cityscapes      pix2pixhd   182.5  151.3  0.038  4.88
cityscapes      spade        93.0  281.5  0.065  5.46
cityscapes      clade        67.9   75.5  0.035  4.37
cityscapes      clade-icpe   67.9   75.5  0.039  4.85
"""

_TABLE_II = """
ade20k          spade  -  -  4.104  -
ade20k          clade  -  -  1.710  -
ade20k-outdoor  spade  -  -  4.104  -
ade20k-outdoor  clade  -  -  1.710  -
coco-stuff      spade  -  -  4.226  -
coco-stuff      clade  -  -  1.875  -
cityscapes      spade  -  -  7.031  -
cityscapes      clade  -  -  2.936  -
"""

_TABLE_IV = """
ade20k          spade-light  -   58.0  -  -
ade20k          clade        -   42.2  -  -
ade20k-outdoor  spade-light  -   58.0  -  -
ade20k-outdoor  clade        -   42.2  -  -
coco-stuff      spade-light  -   68.0  -  -
coco-stuff      clade        -   42.4  -  -
cityscapes      spade-light  -  132.9  -  -
cityscapes      clade        -   75.5  -  -
"""

_TABLE_VIII = """
celebamask-hq  sean             266.9  420.8  0.165  -
celebamask-hq  sean-clade       241.3  247.1  0.152  -
celebamask-hq  groupdnet        145.3  225.5  0.090  -
celebamask-hq  groupdnet-clade  134.6  213.6  0.074  -
deepfashion    sean             223.2  342.9  0.165  -
deepfashion    sean-clade       197.8  247.1  0.152  -
deepfashion    groupdnet         96.3  291.6  0.062  -
deepfashion    groupdnet-clade   79.2  118.5  0.042  -
cityscapes     sean             330.4  681.8  0.507  -
cityscapes     sean-clade       304.5  476.1  0.471  -
cityscapes     groupdnet         76.5  463.6  0.224  -
cityscapes     groupdnet-clade   57.7  434.6  0.128  -
"""


def _rows(table: str, text: str) -> tuple[PublishedCost, ...]:
    """The rows of a table: dataset, model, parameters, FLOPs, seconds, memory."""
    split = [line.split() for line in text.strip().splitlines()]
    return tuple(
        PublishedCost(table, dataset, model, *(None if figure == "-" else float(figure) for figure in figures))
        for dataset, model, *figures in split
    )


COSTS: Final[tuple[PublishedCost, ...]] = (
    *_rows("I", _TABLE_I),
    *_rows("II", _TABLE_II),
    *_rows("IV", _TABLE_IV),
    *_rows("VIII", _TABLE_VIII),
)
"""The cost columns of Tables I, II, IV and VIII."""


_WITH_NORMS: Final = "the printed figure also holds operations of batch norm and ReLU, which no rule of ours counts"

REMARKS: Final[dict[tuple[str, str], str]] = {
    **{(dataset, "cc-fpse"): _WITH_NORMS for dataset in ("ade20k", "coco-stuff", "cityscapes")},
    (
        "celebamask-hq",
        "sean",
    ): "nothing reproduces the printed 420.8; DeepFashion's 342.9 and 11 classes more are 346.3",
    ("deepfashion", "sean-clade"): _WITH_NORMS,
    ("cityscapes", "sean"): _WITH_NORMS,
    ("cityscapes", "sean-clade"): _WITH_NORMS,
    ("cityscapes", "groupdnet-clade"): "the printed 434.6 is probably a misprint: the other figures of the row agree",
}
"""Why the FLOPs of a (dataset, model) differ from the printed ones; all other figures agree."""


@dataclass(frozen=True)
class PublishedSplit:
    """A dataset of Table III: what lies in the backbone and what in the norms.

    Attributes:
        parameters: in millions, of `backbone`, `spade` and `clade`.
        seconds: run time on the Titan XP, of the same.
    """

    parameters: dict[str, float]
    seconds: dict[str, float]


def _split(*figures: float) -> PublishedSplit:
    parts = ("backbone", "spade", "clade")
    return PublishedSplit(dict(zip(parts, figures[:3], strict=True)), dict(zip(parts, figures[3:], strict=True)))


TABLE_III: Final[dict[str, PublishedSplit]] = {
    "ade20k": _split(68.1, 28.4, 3.3, 0.015, 0.027, 0.009),
    "cityscapes": _split(67.1, 25.9, 0.8, 0.022, 0.043, 0.013),
    "coco-stuff": _split(68.4, 29.1, 4.1, 0.017, 0.029, 0.010),
}
"""Table III by dataset. Its 25.9 is the rounded total less the rounded backbone; SPADE's norms have 25.986 M."""

TABLE_VI: Final[dict[str, dict[int, float]]] = {
    "ade20k-outdoor": {0: 0.024, 1: 0.025, 2: 0.025, 4: 0.028, 5: 0.029, 6: 0.033, 7: 0.042},
    "cityscapes": {0: 0.039, 1: 0.040, 2: 0.040, 4: 0.043, 5: 0.048, 6: 0.057, 7: 0.065},
}
"""Run time in seconds on the Titan XP of the mixed generators, by the number of SPADE blocks before the CLADE blocks.

Cityscapes with none is 0.039 here and 0.035 in Table I (clade-icpe has 0.039 there); the paper does not explain it.
"""


@dataclass(frozen=True)
class Reproduction:
    """A row of a table of the paper, and what our model costs in the same setting.

    Attributes:
        published: as printed.
        counted: ours.
        parameters_agree: whether ours rounds to what is printed; None where nothing is. Table VIII leaves the tables
            of CLADE out, and so does the comparison with it.
        flops_agree: the same, by the paper's rule of counting.
    """

    published: PublishedCost
    counted: Complexity
    parameters_agree: bool | None
    flops_agree: bool | None


def reproduce_costs() -> Iterator[Reproduction]:
    """Count every model of ours for which Tables I, IV and VIII print FLOPs, row by row, each row once."""
    seen: set[tuple[str, str]] = set()
    counted: dict[ModelConfig, Complexity] = {}
    for row in COSTS:
        if row.flops is None or not row.is_ours or (row.dataset, row.model) in seen:
            continue
        seen.add((row.dataset, row.model))
        model = build_on_paper(row.model, row.dataset)
        if model.config not in counted:
            counted[model.config] = count(model)
        yield _compare(row, counted[model.config])


def _compare(row: PublishedCost, ours: Complexity) -> Reproduction:
    parameters, flops = ours.total.parameters / 1e6, ours.total.paper_macs / 1e9
    if row.table == "VIII":  # which leaves the tables of CLADE out, unlike Table I
        parameters -= ours.table_parameters / 1e6
    return Reproduction(
        row,
        ours,
        None if row.parameters is None else same_digits(parameters, row.parameters),
        None if row.flops is None else same_digits(flops, row.flops),
    )


def same_digits(value: float, printed: float, decimals: int = 1) -> bool:
    """Whether a value rounds to a printed figure."""
    return f"{value:.{decimals}f}" == f"{printed:.{decimals}f}"
