"""The moving average and its batch-norm statistics."""

from __future__ import annotations

import copy

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.models.registry import create_model
from segscape.training.ema import averaged_generator, estimate_statistics, make_average

LABELS = LabelSet.numbered(3)


def layouts(count: int) -> list[tuple[Layout, None]]:
    source = torch.Generator().manual_seed(0)
    return [(Layout(torch.randint(0, 3, (2, 32, 32), generator=source), LABELS), None) for _ in range(count)]


def test_the_average_forgets_by_halves() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    average = make_average(network, half_life_images=40, batch_size=4)
    average.n_averaged.fill_(10_000)  # past the warm-up
    torch.nn.init.zeros_(average.module.weight)
    torch.nn.init.ones_(network.weight)
    for _ in range(10):
        average.update_parameters(network)
    assert torch.allclose(average.module.weight, torch.tensor(0.5), atol=1e-4)


def test_the_average_starts_at_the_first_weights() -> None:
    network = torch.nn.Linear(1, 1)
    average = make_average(network, half_life_images=1000, batch_size=1)
    torch.nn.init.ones_(network.weight)
    average.update_parameters(network)
    assert torch.equal(average.module.weight, network.weight)


def test_statistics_are_the_mean_over_the_batches() -> None:
    torch.manual_seed(0)
    generator = create_model("clade", labels=LABELS, image_size=(32, 32), base_channels=1)
    norm = generator.blocks[0].norm_0.statistics
    seen = []
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    estimate_statistics(generator, layouts(3))
    means = torch.stack([x.mean((0, 2, 3)) for x in seen])
    variances = torch.stack([x.var((0, 2, 3)) for x in seen])
    assert torch.allclose(norm.running_mean, means.mean(0), atol=1e-6)
    assert torch.allclose(norm.running_var, variances.mean(0), rtol=1e-4)
    assert not generator.training and norm.momentum == 0.1


def test_only_the_statistics_change() -> None:
    generator = create_model("clade", labels=LABELS, image_size=(32, 32), base_channels=1)
    before = copy.deepcopy(generator.state_dict())
    estimate_statistics(generator, layouts(2))
    after = generator.state_dict()
    changed = {key.split(".")[-1] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"running_mean", "running_var", "num_batches_tracked"}


def test_averaged_generator_leaves_the_average_alone() -> None:
    generator = create_model("clade", labels=LABELS, image_size=(32, 32), base_channels=1).train()
    average = make_average(generator, 100, 1)
    before = copy.deepcopy(average.state_dict())
    finished = averaged_generator(average, layouts(2))
    assert all(torch.equal(before[key], value) for key, value in average.state_dict().items())
    assert not any(layer.training for layer in finished.modules() if isinstance(layer, _BatchNorm))
