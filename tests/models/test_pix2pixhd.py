from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.errors import ConfigError, LayoutError, StyleError
from segscape.evaluation.cost.complexity import count, count_macs
from segscape.inference import accelerate
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.models import create_model, load_model
from segscape.models.pix2pixhd import Pix2PixHDGenerator
from segscape.style import Style

LABELS = LabelSet.numbered(4)


def layout(size: tuple[int, int] = (32, 48), batch: int = 2, labels: LabelSet = LABELS, seed: int = 0) -> Layout:
    """Rectangles; every class has objects 0 to 2."""
    coarse = torch.randint(0, 3 * labels.num_classes, (batch, 4, 4), generator=torch.Generator().manual_seed(seed))
    objects = F.interpolate(coarse[:, None].float(), size=size)[:, 0].long()
    return Layout(objects // 3, labels, objects % 3)


def small(**options: object) -> Pix2PixHDGenerator:
    torch.manual_seed(0)
    defaults = {"labels": LABELS, "image_size": (32, 48), "base_channels": 4, "num_downsamplings": 2, "num_blocks": 2}
    styles = {"encoder_channels": 3, "encoder_downsamplings": 2}
    return create_model("pix2pixhd", **{**defaults, **styles, "use_instances": True, **options}).eval()  # type: ignore


def lively(model: Pix2PixHDGenerator) -> Pix2PixHDGenerator:
    """With weights and statistics that make a difference."""
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point() and not name.endswith(("weight_u", "weight_v")):
            value.normal_(std=0.2)
    return model


# classes, instances, size, options; parameters, MACs in G, the same with transposed convolutions at their output size
COUNTS = [
    (35, True, (512, 1024), {}, 182_546_755, 489.32, 605.29),
    (35, True, (512, 1024), {"feature_channels": 3}, 182_556_163, 494.26, 610.22),
    (35, True, (1024, 2048), {"enhancers": 1}, 182_857_059, 747.93, 892.88),
    (35, True, (1024, 2048), {"enhancers": 1, "feature_channels": 3}, 182_871_171, 762.73, 907.68),
    (151, False, (256, 256), {}, 182_907_395, 84.80, 99.30),
    (183, True, (256, 256), {"norm": "batch"}, 183_053_635, 91.58, 106.08),
    (35, True, (256, 512), {"norm": "spectral-instance"}, 182_525_379, 122.33, 151.32),
    (35, True, (256, 512), {"norm": "spectral-batch"}, 182_568_131, 122.33, 151.32),
]


@pytest.mark.parametrize(("classes", "instances", "size", "options", "parameters", "macs", "at_output"), COUNTS)
def test_published_counts(
    classes: int,
    instances: bool,
    size: tuple[int, int],
    options: dict[str, object],
    parameters: int,
    macs: float,
    at_output: float,
) -> None:
    with torch.device("meta"):
        model = create_model("pix2pixhd", labels=classes, use_instances=instances, image_size=size, **options)
        label_map = torch.zeros(1, *size, dtype=torch.long)
    found = count_macs(model, lambda: model(Layout(label_map, model.config.labels, label_map, check=False)))
    transposed = [name for name, layer in model.named_modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert sum(p.numel() for name, p in model.named_parameters() if not name.startswith("encoder.")) == parameters
    assert round(found[""].plain / 1e9, 2) == macs
    assert round((found[""].plain + 3 * sum(found[name].plain for name in transposed)) / 1e9, 2) == at_output


@pytest.mark.parametrize(
    ("classes", "instances", "size", "millions", "flops"),
    [
        (151, False, (256, 256), 182.9, 99.3),
        (183, True, (256, 256), 183.0, 106.1),
        (35, True, (256, 512), 182.5, 151.3),
    ],
)
def test_table_1(classes: int, instances: bool, size: tuple[int, int], millions: float, flops: float) -> None:
    """By the paper's rule, with the norm that the re-implementation in SPADE's code needs."""
    options = {"use_instances": instances, "image_size": size, "norm": "spectral-instance"}
    with torch.device("meta"):
        total = count(create_model("pix2pixhd", labels=classes, **options)).total
    assert (round(total.parameters / 1e6, 1), round(total.paper_macs / 1e9, 1)) == (millions, flops)


def test_encoder_count() -> None:
    with torch.device("meta"):
        encoder = create_model("pix2pixhd", labels=35, feature_channels=3).encoder
        assert isinstance(encoder, nn.Module)
        photo = torch.zeros(1, 3, 512, 1024)
    assert sum(p.numel() for p in encoder.parameters()) == 788_803
    assert round(count_macs(encoder, lambda: encoder(photo))[""].plain / 1e9, 2) == 7.30


@pytest.mark.parametrize("enhancers", [0, 1, 2])
@pytest.mark.parametrize("norm", ["instance", "spectral-batch"])
def test_every_parameter_learns(enhancers: int, norm: str) -> None:
    model = small(enhancers=enhancers, norm=norm, feature_channels=3).train()
    given = layout()
    image = model(given, model.encode(torch.rand(2, 3, 32, 48), given).draw(None))
    assert image.shape == (2, 3, 32, 48) and image.abs().max() <= 1
    image.square().sum().backward()
    assert not [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


def test_an_enhancer_adds_to_what_the_global_network_makes_of_the_average() -> None:
    """By hand, from the layers: section 3.1 of the paper."""
    model, given = lively(small(enhancers=1)), layout()
    x = model.network_input(given, None)
    enhancer = model.enhancers[0]
    ones = F.avg_pool2d(torch.ones_like(x), 3, 2, 1)
    coarse = model.coarse(F.avg_pool2d(x, 3, 2, 1) / ones)  # zeros outside do not count
    features = F.relu(enhancer.down(F.relu(enhancer.stem(x)))) + coarse
    for block in enhancer.blocks:
        features = features + block.second(F.relu(block.first(features)))
    features = F.pad(F.relu(enhancer.up(features)), (3, 3, 3, 3), mode="reflect")
    expected = torch.tanh(F.conv2d(features, enhancer.head.weight, enhancer.head.bias))
    torch.testing.assert_close(model(given), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "spectral-batch", "spectral-instance", "spectral"])
def test_accelerated(norm: str) -> None:
    model, given = lively(small(norm=norm, enhancers=1, feature_channels=2)), layout()
    for layer in model.modules():
        if hasattr(layer, "power_iteration"):
            layer.power_iteration()
    style = Style(torch.rand(2, 2, 32, 48))
    expected = model(given, style)
    assert expected.std() > 0.05
    torch.testing.assert_close(accelerate(model)(given, style), expected, rtol=0, atol=3e-5)


@pytest.mark.parametrize(("norm", "deviation"), [("instance", 0.02), ("spectral-instance", None)])
def test_initial_weights(norm: str, deviation: float | None) -> None:
    weights = [m.weight for m in small(norm=norm, base_channels=16).coarse.blocks.modules() if isinstance(m, nn.Conv2d)]
    fan_in = 64 * 9
    expected = deviation or (1 / (3 * fan_in)) ** 0.5  # of PyTorch's own, uniform within 1 / sqrt(fan_in)
    for weight in weights:
        assert weight.std().item() == pytest.approx(expected, rel=0.03)


def test_style_is_the_mean_over_each_object() -> None:
    model, given, photo = lively(small(feature_channels=3)), layout(), torch.rand(2, 3, 32, 48)
    assert model.encoder is not None
    raw, found = model.encoder(photo), model.encode(photo, given).mean.values
    assert given.instance_map is not None
    for image in range(2):
        for label in range(4):
            for number in range(3):
                place = (given.label_map[image] == label) & (given.instance_map[image] == number)
                if place.any():
                    mean = raw[image][:, place].mean(1, keepdim=True)
                    torch.testing.assert_close(found[image][:, place], mean.expand(3, int(place.sum())))


def test_style_of_classes_needs_no_instance_map() -> None:
    model, photo = small(feature_channels=3, feature_regions="class", use_instances=False), torch.rand(2, 3, 32, 48)
    without = Layout(layout().label_map, LABELS)
    style = model.encode(photo, without).mean.values[0]
    for label in without.label_map[0].unique().tolist():
        assert len(style[:, without.label_map[0] == label].unique(dim=1).T) == 1
    with pytest.raises(LayoutError, match="belong to objects"):
        small(feature_channels=3, use_instances=False).encode(photo, without)


def test_style_changes_the_image_and_none_is_zeros() -> None:
    model, given = lively(small(feature_channels=2)), layout()
    zeros = Style(torch.zeros(2, 2, 32, 48))
    assert torch.equal(model(given), model(given, zeros))
    assert not torch.allclose(model(given), model(given, Style(torch.ones(2, 2, 32, 48))))
    quarter = torch.rand(2, 2, 16, 24)
    enlarged = quarter.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(model(given, Style(quarter)), model(given, Style(enlarged)))


class Photo(nn.Module):
    """An encoder that says of each place what colour it has."""

    def forward(self, image: Tensor) -> Tensor:
        return image


def painted(given: Layout, colors: Tensor) -> Tensor:
    """A photo with a colour for each class, brighter by 0.01 for each instance number."""
    assert given.instance_map is not None
    return (colors[given.label_map] + 0.01 * given.instance_map[..., None]).permute(0, 3, 1, 2)


def test_clusters_are_the_styles_of_objects() -> None:
    model = small(feature_channels=3, num_clusters=2)
    model.encoder = Photo()  # type: ignore[assignment]
    label_map = torch.zeros(1, 32, 48, dtype=torch.long)
    label_map[:, :, 24:] = 1
    label_map[:, :4, :4] = 2  # an object of 16 of 1536 places is too small to count
    instances = torch.zeros_like(label_map)
    instances[:, 16:] = 1
    instances[:, :, 36:] += 2  # class 1 has four objects, class 0 two
    colors = torch.rand(4, 3)
    given = Layout(label_map, LABELS, instances)
    model.fit_styles([(painted(given, colors), given)])
    assert model.cluster_counts.tolist() == [2, 2, 0, 0]
    for label, brighter in enumerate(([0.0, 0.01], [0.005, 0.025])):
        found = sorted((model.cluster_centres[label, :2] - colors[label]).mean(1).tolist())
        assert found == pytest.approx(brighter, abs=2e-3)
    assert not model.cluster_centres[2:].any()


def test_sampled_styles() -> None:
    model, given = small(feature_channels=3, num_clusters=5), layout()
    model.cluster_counts[:3] = torch.tensor([1, 5, 3])
    model.cluster_centres[:3] = 1 + torch.rand(3, 5, 3)
    draws = [model.sample_style(given, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    first, again, other = (style.values for style in draws if style is not None)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert given.instance_map is not None
    for label, instance in torch.stack([given.label_map, given.instance_map]).flatten(1).unique(dim=1).T.tolist():
        drawn = first.movedim(1, -1)[(given.label_map == label) & (given.instance_map == instance)].unique(dim=0)
        assert len(drawn) == 1  # one for the object, in all layouts
        known = model.cluster_centres[label, : int(model.cluster_counts[label])]
        assert (drawn == known).all(1).any() if label < 3 else not drawn.any()
    assert small().sample_style(given) is None


def test_clusters_are_saved(tmp_path: Path) -> None:
    model = small(feature_channels=3)
    model.cluster_counts[1], model.cluster_centres[1, :2] = 2, torch.rand(2, 3)
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert isinstance(loaded, Pix2PixHDGenerator)
    assert torch.equal(loaded.cluster_centres, model.cluster_centres)
    assert torch.equal(loaded.cluster_counts, model.cluster_counts)


def test_what_the_generator_cannot_use() -> None:
    with pytest.raises(LayoutError, match=r"4x48 .* needs 8 at least"):
        small()(layout((4, 48)))
    with pytest.raises(LayoutError, match="multiples of 8"):
        small(enhancers=1)(layout((36, 48)))
    with pytest.raises(StyleError, match=r"is \[2, 3, 32, 48\], .* takes \[2, 2, any, any\] \(styles, channels"):
        small(feature_channels=2)(layout(), Style(torch.zeros(2, 3, 32, 48)))
    with pytest.raises(StyleError, match="takes no style"):
        small()(layout(), Style(torch.zeros(2, 3, 32, 48)))
    with pytest.raises(StyleError, match="takes no style"):
        small().encode(torch.zeros(2, 3, 32, 48), layout())
    with pytest.raises(StyleError, match="no photos"):
        small(feature_channels=2).fit_styles([])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": (30, 32)}, "not a multiple of 4"),
        ({"image_size": (4, 32)}, "8 at least"),
        ({"enhancers": 2, "base_channels": 6}, "base_channels 6 cannot be halved 2 times"),
        ({"feature_channels": 3, "encoder_downsamplings": 3}, "lower encoder_downsamplings"),
        ({"block_kernel_size": 4}, "must be odd"),
    ],
)
def test_impossible_configuration(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**options)
