from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from segscape.discriminators import FeaturePyramidDiscriminator
from segscape.discriminators.feature_pyramid import class_shares
from segscape.errors import LayoutError
from segscape.evaluation.cost.complexity import count_macs, parameters
from segscape.labels import LabelSet
from segscape.layout import Layout

LABELS = LabelSet.numbered(5)


def layout(size: tuple[int, int] = (64, 96), batch: int = 2, mirrored: bool = False) -> Layout:
    label_map = torch.randint(0, 5, (batch, *size), generator=torch.Generator().manual_seed(0))
    label_map = label_map.flip(-1) if mirrored else label_map
    return Layout(label_map, LABELS, label_map)


def small(instances: bool = True) -> FeaturePyramidDiscriminator:
    torch.manual_seed(0)
    discriminator = FeaturePyramidDiscriminator(5, instances=instances, base_channels=2).eval()
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return discriminator


def test_shapes() -> None:
    judged = small()(layout(), torch.rand(4, 3, 64, 96))
    assert [tuple(score.shape) for score in judged.scores] == [(4, 1, 16, 24), (4, 1, 8, 12), (4, 1, 4, 6)]
    assert [[f.shape[1] for f in group] for group in judged.features] == [[4], [8], [16], [16]]
    assert [group[0].shape[-2] for group in judged.features] == [16, 8, 4, 2]


@pytest.mark.parametrize("instances", [False, True])
def test_scores_are_realness_and_agreement_with_the_embedding_at_full_size(instances: bool) -> None:
    discriminator, given, image = small(instances), layout(), torch.rand(2, 3, 64, 96)
    scores = discriminator(given, image).scores
    embedded = discriminator.embedding(given.semantic_map(edges=instances))  # as in the paper, before averaging
    features = discriminator.features(image)
    merged = discriminator.laterals[3](features[3])
    for k in (2, 1, 0):
        up = F.interpolate(merged, scale_factor=2, mode="bilinear", align_corners=False)
        merged = up + discriminator.laterals[k](features[k])
        found = discriminator.finals[k](merged)
        agreement = (F.avg_pool2d(embedded, 2 ** (k + 2)) * discriminator.agreement(found)).sum(1, keepdim=True)
        torch.testing.assert_close(scores[k], discriminator.realness(found) + agreement, rtol=1e-4, atol=1e-5)


def test_blocks_of_images_share_the_layouts() -> None:
    discriminator, given = small(), layout()
    images = torch.rand(4, 3, 64, 96)
    together, second = discriminator(given, images), discriminator(given, images[2:])
    torch.testing.assert_close(together.part(2, 2).scores, second.scores)


def test_the_image_alone_decides_the_features_and_the_layout_the_scores() -> None:
    discriminator, image = small(), torch.rand(2, 3, 64, 96)
    one, other = discriminator(layout(), image), discriminator(layout(mirrored=True), image)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(one.features, other.features, strict=True))
    assert not torch.allclose(one.scores[0], other.scores[0])


def test_augmentation_changes_layout_and_image_together() -> None:
    discriminator, given, image = small(), layout(), torch.rand(2, 3, 64, 96)

    def mirrored(joined: Tensor) -> Tensor:
        return joined.flip(-1)

    expected = discriminator(layout(mirrored=True), image.flip(-1))
    torch.testing.assert_close(discriminator(given, image, mirrored).scores, expected.scores)


@pytest.mark.parametrize("side", [2, 4])
def test_class_shares_are_the_averaged_one_hot_map(side: int) -> None:
    given = layout()
    assert torch.equal(class_shares(given.label_map, 5, side), F.avg_pool2d(given.one_hot(), side))


@pytest.mark.parametrize("size", [(64, 80), (32, 32)])
def test_sizes_that_do_not_fit(size: tuple[int, int]) -> None:
    with pytest.raises(LayoutError, match=f"the images are {size[0]}x{size[1]}.* multiples of 32"):
        small()(layout(size), torch.rand(2, 3, *size))


@pytest.mark.parametrize(
    ("classes", "instances", "size", "count", "macs"),
    [
        (151, False, (256, 256), 5_190_593, 4.269),
        (183, True, (256, 256), 5_194_817, 4.546),
        (35, True, (256, 512), 5_175_873, 6.610),
    ],
)
def test_published_cost(classes: int, instances: bool, size: tuple[int, int], count: int, macs: float) -> None:
    """The official code embeds every pixel; here sixteen times fewer places are embedded."""
    with torch.device("meta"):
        discriminator = FeaturePyramidDiscriminator(classes, instances=instances).eval()
        label_map, image = torch.zeros(1, *size, dtype=torch.long), torch.zeros(1, 3, *size)
        given = Layout(label_map, LabelSet.numbered(classes), label_map, check=False)
    assert parameters(discriminator) == count
    counted = count_macs(discriminator, lambda: discriminator(given, image))
    saved = 15 * counted["embedding"].plain
    assert round((counted[""].plain + saved) / 1e9, 3) == macs
