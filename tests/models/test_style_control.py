"""What styles are for, learnt in a minute: pictures follow a reference's colours, and one class changes alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks.style import MODELS, measure
from segscape.data.procedural import ProceduralScenes
from segscape.data.sample import collate
from segscape.inference import Pipeline
from segscape.layout import Layout
from segscape.models import create_model
from segscape.models.generator import Generator

LENGTHS = {"sean": (32, 150, 3.0)}
"""Side of the pictures, steps of training, and how much more the class whose style is changed changes than the rest.

GroupDNet, whose later layers mix classes, needs a longer training than a test has time for: `benchmarks/style.py`."""
BATCH, TRAIN, HELD_OUT = 8, 96, 30


def learnt(name: str, side: int, steps: int) -> Generator:
    """Trained to draw photos of scenes again from their styles, with nothing but the absolute difference."""
    torch.manual_seed(0)
    options = MODELS[name] | {"image_size": (side, side), "upsampling": "normal", "name": name}
    model = create_model(labels="scenes", **options).train()
    scenes = ProceduralScenes(TRAIN, size=(side, side))
    batch = collate([scenes.sample(index) for index in range(TRAIN)], scenes.labels)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.5, 0.99))
    rng = np.random.default_rng(0)
    for _ in range(steps):
        chosen = torch.from_numpy(rng.choice(TRAIN, BATCH, replace=False))
        layout = Layout(batch.layout.label_map[chosen], scenes.labels)
        encoded = model.encode(batch.images[chosen], layout)
        noise = torch.randn(encoded.mean.values.shape) if model.config.variational else None
        loss = F.l1_loss(model(layout, encoded.draw(noise)), batch.images[chosen])
        if encoded.log_variance is not None:
            mean, log_variance = encoded.mean.values, encoded.log_variance
            loss = loss + 1e-4 * (mean.square() + log_variance.exp() - log_variance - 1).flatten(1).sum(1).mean() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", LENGTHS)
def test_pictures_follow_the_style(name: str) -> None:
    """Measured on scenes that were not learnt, in the styles of other scenes; see `benchmarks/style.py`."""
    side, steps, contrast = LENGTHS[name]
    scenes = ProceduralScenes(HELD_OUT, size=(side, side), seed=7)
    pipeline = Pipeline(learnt(name, side, steps), "cpu")
    found = measure(pipeline, [scenes.sample(index) for index in range(HELD_OUT)])
    assert found["samples"] > 2, found  # grey levels
    assert found["colours"] > 0.15 and found["colours"] - found["exchanged"] > 0.2, found
    assert found["inside"] > contrast * found["outside"] and found["inside"] > 3, found
