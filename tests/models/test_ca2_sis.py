from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.discriminators import MultiScaleDiscriminator
from segscape.errors import ConfigError, LayoutError, StyleError
from segscape.evaluation.cost.complexity import count, count_macs, parameters
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.models import create_model
from segscape.models.ca2_sis import CA2SISGenerator, GroupedStyleEncoder, MappingNetwork
from segscape.style import Style

SMALL = {
    "base_channels": 4,
    "norm_groups": 2,
    "heads": 2,
    "head_channels": 4,
    "last_heads": 3,
    "last_head_channels": 2,
    "mask_size": 16,
    "style_features": 1,
    "style_channels": 6,
    "mapping_dim": 5,
    "mapping_channels": 12,
}
CLASSES = 5


def small(**options: Any) -> CA2SISGenerator:
    """A tiny generator in which nothing is zero."""
    torch.manual_seed(0)
    model = create_model("ca2-sis", **{"labels": CLASSES, "image_size": (64, 64), **SMALL, **options})
    assert isinstance(model, CA2SISGenerator)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def layout_of(size: tuple[int, int] = (64, 64), *, count: int = 2, classes: int = CLASSES, seed: int = 0) -> Layout:
    """Blocks of 8 pixels in classes 0 to `classes` - 2; the last class is absent."""
    drawn = torch.randint(
        0, classes - 1, (count, size[0] // 8, size[1] // 8), generator=torch.Generator().manual_seed(seed)
    )
    return Layout(drawn.repeat_interleave(8, 1).repeat_interleave(8, 2), LabelSet.numbered(classes))


def photo(size: tuple[int, int] = (64, 64), count: int = 2) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


PUBLISHED = {
    # classes, without background, size: parameters, of the style encoder, of the mapping network, multiply-accumulates
    (19, True, (256, 256)): (77_229_243, 18_069_304, 28_244_224, 128_380_659_712),
    (151, False, (256, 256)): (393_519_707, 143_603_416, 218_932_480, 161_949_632_512),
    (35, False, (256, 512)): (119_762_491, 33_285_560, 51_357_952, 301_351_102_464),
}


@pytest.mark.parametrize("classes, without_background, size", PUBLISHED)
def test_published_counts(classes: int, without_background: bool, size: tuple[int, int]) -> None:
    with torch.device("meta"):
        model = create_model("ca2-sis", labels=classes, image_size=size, exclude_background=without_background)
    assert isinstance(model, CA2SISGenerator) and model.mapping is not None
    found = count(model)
    parts = tuple(parameters(part) for part in (model, model.style_encoder, model.mapping))
    assert (*parts, found.total.macs) == PUBLISHED[classes, without_background, size]
    assert found.total.parameters == parts[0]


@pytest.mark.parametrize(
    ("classes", "size", "learned", "macs"),
    [(19, (256, 256), 1_364_098, 1.895), (151, (256, 256), 1_634_434, 4.716), (35, (256, 512), 1_396_866, 4.427)],
)
def test_discriminator_counts(classes: int, size: tuple[int, int], learned: int, macs: float) -> None:
    with torch.device("meta"):
        judge = MultiScaleDiscriminator(classes, num_layers=3, last_stride=2).eval()
        x = torch.zeros(1, classes + 3, *size)
    assert parameters(judge) == learned
    assert round(count_macs(judge, lambda: judge.judge(x))[""].plain / 1e9, 3) == macs
    shapes = [score.shape for score in judge.judge(x).scores]
    assert [tuple(shape[2:]) for shape in shapes] == [
        (size[0] // 8 + 2, size[1] // 8 + 2),
        (size[0] // 16 + 2, size[1] // 16 + 2),
    ]


def test_the_code_of_an_absent_class_does_not_depend_on_the_photo() -> None:
    model, layout = small(), layout_of()
    encoded = model.encode(photo(), layout).mean
    assert encoded.present is not None and encoded.present[:, -1].logical_not().all() and encoded.present[0, :4].all()
    biases = [head.bias.view(CLASSES, -1)[-1] for head in model.style_encoder.heads]
    torch.testing.assert_close(encoded.values[:, -1], torch.tanh(torch.cat(biases)).expand(2, -1))
    torch.testing.assert_close(model.neutral_style(2).values[:, -1], encoded.values[:, -1])
    assert (encoded.values[:, 0] - model.neutral_style(2).values[:, 0]).abs().amin(1).max() > 0


def test_a_code_is_a_mean_over_the_pixels_of_its_class() -> None:
    encoder = GroupedStyleEncoder(3, features=2, style_channels=4, levels=2)
    layout, image = layout_of((16, 32), classes=3), photo((16, 32))
    (feature_map,) = _outputs(encoder.up[0], lambda: encoder(image, layout))
    mask = F.one_hot(layout.label_map[:, ::2, ::2], 3).permute(0, 3, 1, 2).bool()
    head = encoder.heads[0]
    for place, index in ((0, 0), (1, 1), (0, 2)):
        features = feature_map[place].chunk(3)[index]  # [channels of the class, h, w]
        own = features[:, mask[place, index]]
        mean = own.mean(1) if own.numel() else torch.zeros(len(features))
        expected = torch.tanh(head.weight.chunk(3)[index].squeeze(2) @ mean + head.bias.chunk(3)[index])
        torch.testing.assert_close(encoder(image, layout)[place, index], expected, rtol=1e-4, atol=1e-5)


def _outputs(module: nn.Module, run: Any) -> list[Any]:
    """What a module returns while `run` runs."""
    found: list[Any] = []
    handle = module.register_forward_hook(lambda _, __, output: found.append(output))
    run()
    handle.remove()
    return found


def test_photos_of_other_sizes_are_enlarged() -> None:
    model, layout, image = small(), layout_of((56, 80)), photo((56, 80))
    enlarged = F.interpolate(image, size=(64, 128), mode="bilinear")
    assert torch.equal(model.encode(image, layout).mean.values, model.encode(enlarged, layout).mean.values)


def test_the_layout_of_a_photo_has_the_classes_of_the_model() -> None:
    with pytest.raises(LayoutError, match=r"7 classes .*built for 5"):
        small().encode(photo(), layout_of(classes=7))


def test_mapping_network_has_a_branch_for_each_class() -> None:
    torch.manual_seed(0)
    network, noise = MappingNetwork(3, 5, 8, 4), torch.randn(2, 5)
    shared = network.shared(noise)
    for index in range(3):
        x = shared
        for i in (0, 2, 4, 6):
            layer = network.per_class[i]
            x = F.linear(x, layer.weight.chunk(3)[index].squeeze(2), layer.bias.chunk(3)[index])
            x = F.relu(x) if i < 6 else x
        torch.testing.assert_close(network(noise)[:, index], x)


def test_random_styles_repeat_and_leave_absent_classes_zero() -> None:
    model, layout = small(random_styles=True), layout_of()
    first, again = (model.sample_style(layout, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first is not None and again is not None and torch.equal(first.values, again.values)
    assert first.values[:, -1].count_nonzero() == 0 and first.values[:, 0].count_nonzero() > 0
    assert first.present is not None and torch.equal(first.present, layout.present_classes())
    assert small().sample_style(layout) is None  # its mapping network is as it was made
    other = model.sample_style(layout, torch.Generator().manual_seed(4))
    assert other is not None and not torch.equal(model(layout, first), model(layout, other))


def test_a_model_without_mapping_network_has_no_random_styles() -> None:
    model, layout = small(mapping_dim=None), layout_of()
    assert model.sample_style(layout) is None
    with pytest.raises(ConfigError, match="makes no styles from noise"):
        model.codes_from_noise(layout, torch.zeros(2, 5))


def test_the_background_has_no_shape_but_a_style() -> None:
    with_background, without = small(), small(exclude_background=True)
    without.mask_embedder.load_state_dict(with_background.mask_embedder.state_dict())
    layout = layout_of()
    torch.testing.assert_close(without.mask_embedding(layout), with_background.mask_embedding(layout)[:, 1:])
    assert without.neutral_style(1).values.shape == (1, CLASSES, 30)


def test_a_shape_embedding_reads_masks_by_the_nearest_rule() -> None:
    model, layout = small(mask_size=12), layout_of((64, 80))
    masks = F.interpolate(F.one_hot(layout.label_map, CLASSES).permute(0, 3, 1, 2).float(), size=(12, 12))
    torch.testing.assert_close(model.mask_embedding(layout), model.mask_embedder(masks.flatten(2)))


@pytest.mark.parametrize("exclude_background", [False, True])
def test_shapes_are_exchanged_class_by_class(exclude_background: bool) -> None:
    model = small(exclude_background=exclude_background)
    shapes, others = (model.mask_embedding(layout_of(seed=seed)) for seed in (0, 1))
    found = model.with_shapes(shapes, others, [0, 2])
    for index in range(int(exclude_background), CLASSES):
        row = index - int(exclude_background)
        assert torch.equal(found[:, row], (others if index in (0, 2) else shapes)[:, row])
    assert torch.equal(model.with_shapes(shapes, others), others)
    between = model.with_shapes(shapes, others, amount=0.25)
    torch.testing.assert_close(between, 0.75 * shapes + 0.25 * others)
    where = torch.zeros(2, CLASSES, dtype=torch.bool)
    where[1, 2] = True
    found = model.with_shapes(shapes, others, [2, 3], where=where)
    assert torch.equal(found[0], shapes[0]) and torch.equal(found != shapes, (shapes != others) & _row(model, 1, 2))
    with pytest.raises(StyleError, match="there is no class 5"):
        model.with_shapes(shapes, others, [5])


def _row(model: CA2SISGenerator, image: int, index: int) -> Tensor:
    chosen = torch.zeros(2, CLASSES, 1, dtype=torch.bool)
    chosen[image, index] = True
    return chosen[:, int(model.config.exclude_background) :]


def test_attention_loss_is_the_mean_over_blocks_against_the_one_hot_map() -> None:
    model, layout = small(image_size=(64, 128)), layout_of((64, 128))
    style = model.encode(photo((64, 128)), layout).draw(None)
    blocks: list[Tensor] = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, __, output: blocks.append(output[1]))
    image, losses = model.forward_with_losses(layout, style)
    one_hot = F.one_hot(layout.label_map, CLASSES).permute(0, 3, 1, 2).float()
    expected = [
        F.binary_cross_entropy_with_logits(found, F.interpolate(one_hot, size=found.shape[2:])) for found in blocks
    ]
    assert [tuple(found.shape[2:]) for found in blocks] == [(4 * 2**i, 8 * 2**i) for i in range(5)]
    torch.testing.assert_close(losses["attention"], torch.stack(expected).mean())
    assert losses.keys() == {"attention"} and torch.equal(model(layout, style), image)
    assert image.shape == (2, 3, 64, 128) and image.abs().max() <= 1


def test_attention_is_shared_out_among_the_classes() -> None:
    model, layout = small(), layout_of()
    style = model.encode(photo(), layout).draw(None)
    blocks = model.attention(layout, style)
    assert [tuple(found.shape) for found in blocks] == [(2, CLASSES, 4 * 2**i, 4 * 2**i) for i in range(5)]
    for found in blocks:
        torch.testing.assert_close(found.sum(1), torch.ones_like(found[:, 0]))
    assert not torch.equal(blocks[0], model.attention(layout)[0])


def test_no_tensor_has_an_entry_for_every_pair_of_pixels() -> None:
    model, layout = small(), layout_of()
    kept: list[torch.Size] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.forward_with_losses(layout)
    pixels = 16 * 16  # of the largest features with self-attention
    assert any(pixels in shape for shape in kept) and not any(shape[-2:] == (pixels, pixels) for shape in kept)


def test_recomputing_blocks_changes_no_gradient() -> None:
    model, layout = small(), layout_of()
    gradients = []
    for recomputed in (False, True):
        for block in model.blocks:
            block.recomputed = recomputed
        image, losses = model.forward_with_losses(layout, model.encode(photo(), layout).draw(None))
        total = image.square().mean() + losses["attention"]
        learned = [parameter for name, parameter in model.named_parameters() if not name.startswith("mapping.")]
        gradients.append(torch.autograd.grad(total, learned))
    for plain, again in zip(*gradients, strict=True):
        assert plain.count_nonzero() and torch.equal(plain, again)


def test_training_and_evaluation_compute_the_same() -> None:
    model, layout = small(), layout_of()
    assert torch.equal(model(layout), model.train()(layout))


def test_the_final_tanh_is_an_option() -> None:
    with_tanh, without, layout = small(), small(final_tanh=False), layout_of()
    assert torch.equal(with_tanh(layout), torch.tanh(without(layout)))


def test_a_new_model_starts_as_published() -> None:
    model = create_model("ca2-sis", labels=3, image_size=(64, 64), **SMALL)
    assert isinstance(model, CA2SISGenerator)
    for block in model.blocks:
        assert not block.residual.conv_1.weight.any() and not block.transformer.proj_out.weight.any()
        assert block.residual.norm_0.eps == 1e-5 and block.transformer.norm.eps == 1e-6
    bound = 1 / 12**0.5  # PyTorch's default for 12 inputs
    assert 0.9 * bound < model.mapping.per_class[0].weight.abs().max() < bound  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": (60, 64)}, "not a multiple of 16"),
        ({"base_channels": 3}, "cannot be parted into 2 norm_groups"),
        ({"use_instances": True}, "no place for instance edges"),
        ({"labels": 1, "exclude_background": True}, "leaves nothing"),
    ],
)
def test_impossible_configurations(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**options)


def test_what_does_not_fit_is_refused() -> None:
    model, layout = small(), layout_of()
    with pytest.raises(LayoutError, match="128x64"):
        model(layout_of((128, 64)))
    with pytest.raises(StyleError, match="'latent'"):
        model(layout, Style(torch.zeros(2, 30)))
    with pytest.raises(StyleError, match=r"takes \[2, 5, 30\]"):
        model(layout, Style(torch.zeros(2, CLASSES, 29)))


def test_it_is_saved_and_loaded(tmp_path: Any) -> None:
    model, layout = small(exclude_background=True), layout_of()
    model.save_pretrained(tmp_path)
    assert torch.equal(CA2SISGenerator.from_pretrained(tmp_path)(layout), model(layout))
