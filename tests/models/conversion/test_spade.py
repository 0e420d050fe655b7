"""Conversion of official checkpoints, on files made from stored official weights and from our own networks."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from segscape.discriminators import MultiScaleDiscriminator
from segscape.errors import CheckpointError, ConfigError
from segscape.labels import LABEL_SETS, LabelSet
from segscape.layout import Layout
from segscape.models import create_model, load_model
from segscape.models.clade import mixed_norms
from segscape.models.conversion import convert_checkpoint, convert_discriminator
from segscape.models.conversion.official import rename
from segscape.models.conversion.spade import (
    BLOCK_KEYS,
    ENCODER_KEYS,
    GENERATOR_KEYS,
    discriminator_from_state,
    discriminator_keys,
    generator_state,
    infer_config,
)
from segscape.models.spade import SPADEGenerator
from segscape.style import Style

VECTORS = Path(__file__).parents[2] / "conformance" / "vectors"
State = dict[str, Tensor]


def official(module: nn.Module, keys: dict[str, str]) -> State:
    """The weights of one of our networks as the official code would save them."""
    state = module.state_dict()
    spectral = {name for name in state if f"{name}_u" in state}
    names = {name: key for key, name in keys.items() if not key.endswith(".weight_orig") and ".0.0." not in key}
    names |= {name: key for key, name in keys.items() if name in spectral and key.endswith(".weight_orig")}
    return {names[name]: value for name, value in state.items() if name in names}


def small(name: str = "clade", **options: object) -> SPADEGenerator:
    torch.manual_seed(0)
    defaults = {"labels": 5, "image_size": (64, 64), "base_channels": 2, "hidden_channels": 4}
    return create_model(name, **{**defaults, **options}).eval()  # type: ignore[arg-type]


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def write(content: object, name: str = "latest_net_G.pth") -> Path:
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return write


def stored(name: str) -> tuple[State, State]:
    """Official weights of a conformance vector, and its other tensors."""
    tensors = load_file(VECTORS / f"{name}.safetensors")
    weights = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
    return weights, {key: value for key, value in tensors.items() if not key.startswith("state.")}


def test_official_weights_make_the_official_image(save: Callable[..., Path], tmp_path: Path) -> None:
    weights, tensors = stored("clade-generator-normal")
    model = convert_checkpoint(save(weights), labels=10, image_size=(64, 64))
    layout = Layout(tensors["input.label"].squeeze(1).long(), LabelSet.numbered(10))
    torch.testing.assert_close(model(layout), tensors["output.image"], rtol=0, atol=1e-4)
    assert not model.training
    model.save_pretrained(tmp_path / "converted")
    assert torch.equal(load_model(tmp_path / "converted")(layout), model(layout))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("spade", {}),
        ("spade", {"kernel_size": 5, "use_instances": True, "statistics": "instance"}),
        ("clade", {"spectral_norm": False}),
        ("clade", {"upsampling": "most", "image_size": (128, 128), "use_instances": True}),
        ("clade", {"upsampling": "more"}),
        ("clade", {"norm": mixed_norms(3), "use_instances": True}),
        ("clade-icpe", {"use_instances": True, "position_rule": "official-all"}),
    ],
)
def test_inferred_configuration_and_weights(name: str, options: dict[str, object]) -> None:
    model = small(name, **options)
    config = model.config
    state = official(model, GENERATOR_KEYS)
    inferred = infer_config(
        state,
        labels=5,
        image_size=config.image_size,
        upsampling=config.upsampling,
        position_rule=config.position_rule,
    )
    ignored = set() if "spade" in config.block_norms else {"hidden_channels"}
    assert inferred.model_dump(exclude=ignored) == config.model_dump(exclude=ignored)
    copied = SPADEGenerator(inferred)
    copied.load_weights(generator_state(state), "the state dict")
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in copied.state_dict().items())


def test_variational_pair(save: Callable[..., Path]) -> None:
    model = small(latent_dim=16)
    assert model.encoder is not None
    generator = save(official(model, GENERATOR_KEYS))
    encoder = save(official(model.encoder, ENCODER_KEYS), "latest_net_E.pth")
    converted = convert_checkpoint(generator, labels=5, image_size=(64, 64), encoder_path=encoder)
    assert converted.config.latent_dim == 16
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in converted.state_dict().items())
    with pytest.raises(CheckpointError, match=r"takes a style: give its encoder too, .* _net_E\.pth"):
        convert_checkpoint(generator, labels=5, image_size=(64, 64))
    with pytest.raises(CheckpointError, match=r"starts from 4 positions, but images of 64x128 .* start from 2x4"):
        convert_checkpoint(generator, labels=5, image_size=(64, 128), encoder_path=encoder)
    plain = save(official(small(), GENERATOR_KEYS), "plain_net_G.pth")
    with pytest.raises(CheckpointError, match="takes no style, so the encoder"):
        convert_checkpoint(plain, labels=5, image_size=(64, 64), encoder_path=encoder)


@pytest.mark.parametrize("norm", ["instance", "sync-batch", "none"])
@pytest.mark.parametrize("instances", [False, True])
def test_discriminator(norm: str, instances: bool, save: Callable[..., Path]) -> None:
    model = MultiScaleDiscriminator(
        5, instances=instances, base_channels=3, num_scales=3, num_layers=3, norm=norm  # type: ignore[arg-type]
    )  # fmt: skip
    path = save(official(model, discriminator_keys(3, 3)), "latest_net_D.pth")
    converted = convert_discriminator(path, labels=5)
    assert converted.instances is instances and converted.training
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in converted.state_dict().items())


def test_official_discriminator_weights(save: Callable[..., Path]) -> None:
    weights, tensors = stored("family-discriminator-nonsquare")
    model = convert_discriminator(save(weights), labels=4).eval()
    torch.testing.assert_close(model.judge(tensors["input.x"]).scores[2], tensors["output.d2.f4"], rtol=0, atol=1e-4)


def test_prefix_of_parallel_training_and_missing_counters_are_tolerated() -> None:
    state = official(small(), GENERATOR_KEYS)
    changed = {f"module.{key}": value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    found, expected = generator_state(changed), generator_state(state)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_half_precision_is_widened() -> None:
    state = {key: value.half() for key, value in official(small(), GENERATOR_KEYS).items()}
    assert all(value.dtype != torch.float16 for value in generator_state(state).values())


@pytest.mark.parametrize("shape", [(4, 7), (12, 1)])
def test_old_spectral_norm_gets_its_vector_back(shape: tuple[int, int]) -> None:
    """Files from before PyTorch 1.0 hold the normalised weight in place of v; sigma must come out the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        conv = nn.utils.spectral_norm(nn.Conv2d(shape[1], shape[0], 3))
    conv(torch.randn(1, shape[1], 5, 5))
    old = {key: value.clone() for key, value in conv.state_dict().items() if not key.endswith("_v")}
    old["weight"] = conv.weight.detach().clone()
    found = rename({f"conv_0.{key}": value for key, value in old.items()}, BLOCK_KEYS)
    assert set(found) == {"conv_0.weight", "conv_0.bias", "conv_0.weight_u", "conv_0.weight_v"}
    sigma = found["conv_0.weight_u"] @ found["conv_0.weight"].flatten(1) @ found["conv_0.weight_v"]
    torch.testing.assert_close(found["conv_0.weight"] / sigma, old["weight"], rtol=1e-4, atol=1e-5)
    v = torch.linalg.pinv(found["conv_0.weight"].flatten(1)) @ found["conv_0.weight_u"]
    torch.testing.assert_close(torch.cosine_similarity(v, found["conv_0.weight_v"], dim=0), torch.tensor(1.0))


def test_unknown_keys(save: Callable[..., Path]) -> None:
    state = official(small(), GENERATOR_KEYS) | {"up_0.attention.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"latest_net_G\.pth holds 1 keys .* \(first: up_0\.attention\.weight\)"):
        convert_checkpoint(save(state), labels=5, image_size=(64, 64))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("clade", {}, "trained with 5 classes, but the label set 'numbered-7' has 7"),
        ("clade", {"use_instances": True}, "trained with 5 classes"),
        ("spade", {}, r"trained with 5 \(or 4 and instance edges\) classes"),
    ],
)
def test_other_labels(name: str, options: dict[str, object], message: str) -> None:
    state = official(small(name, **options), GENERATOR_KEYS)
    with pytest.raises(CheckpointError, match=message):
        infer_config(state, labels=7, image_size=(64, 64))


def test_instances_of_a_spade_generator_can_be_denied() -> None:
    state = official(small("spade"), GENERATOR_KEYS)
    assert infer_config(state, labels=4, image_size=(64, 64)).use_instances
    with pytest.raises(CheckpointError, match="trained with 5 classes, but the label set 'numbered-4' has 4"):
        infer_config(state, labels=4, image_size=(64, 64), use_instances=False)


def test_other_labels_of_a_discriminator(save: Callable[..., Path]) -> None:
    path = save(official(MultiScaleDiscriminator(5, base_channels=2), discriminator_keys(2, 4)))
    with pytest.raises(CheckpointError, match=r"trained with 5 \(or 4 and instance edges\) classes"):
        convert_discriminator(path, labels=9)


def test_other_upsampling_or_size() -> None:
    state = official(small(), GENERATOR_KEYS)
    with pytest.raises(CheckpointError, match=r"7 residual blocks, .* 'most': give 'normal' or 'more'"):
        infer_config(state, labels=5, image_size=(128, 128), upsampling="most")
    eight = official(small(upsampling="most", image_size=(128, 128)), GENERATOR_KEYS)
    with pytest.raises(CheckpointError, match=r"8 residual blocks, .* 'normal': give 'most'"):
        infer_config(eight, labels=5, image_size=(64, 64))
    with pytest.raises(ConfigError, match="image_size"):
        infer_config(state, labels=5, image_size=(65, 64))


def test_the_wrong_network_of_the_three(save: Callable[..., Path]) -> None:
    model = small(latent_dim=16)
    assert model.encoder is not None
    generator = save(official(model, GENERATOR_KEYS))
    encoder = save(official(model.encoder, ENCODER_KEYS), "latest_net_E.pth")
    judge = save(official(MultiScaleDiscriminator(5, base_channels=2), discriminator_keys(2, 4)), "latest_net_D.pth")
    with pytest.raises(CheckpointError, match=r"net_D\.pth holds a discriminator where the generator is needed"):
        convert_checkpoint(judge, labels=5, image_size=(64, 64))
    with pytest.raises(CheckpointError, match=r"net_E\.pth holds an encoder where the generator .* _net_G\.pth"):
        convert_checkpoint(encoder, labels=5, image_size=(64, 64))
    with pytest.raises(CheckpointError, match="holds a generator where the encoder is needed"):
        convert_checkpoint(generator, labels=5, image_size=(64, 64), encoder_path=generator)
    with pytest.raises(CheckpointError, match=r"holds a generator where the discriminator .* _net_D\.pth"):
        convert_discriminator(generator, labels=5)


def test_incomplete_weights(save: Callable[..., Path]) -> None:
    state = official(small(), GENERATOR_KEYS)
    without_block = {key: value for key, value in state.items() if not key.startswith("up_1.")}
    with pytest.raises(CheckpointError, match="is incomplete"):
        convert_checkpoint(save(without_block), labels=5, image_size=(64, 64))
    del state["up_1.conv_1.bias"]
    with pytest.raises(CheckpointError, match=r"1 weights are missing \(first: blocks\.4\.conv_1\.bias\)"):
        convert_checkpoint(save(state), labels=5, image_size=(64, 64))
    judge = official(MultiScaleDiscriminator(5, base_channels=2), discriminator_keys(2, 4))
    del judge["discriminator_1.model4.0.bias"]
    with pytest.raises(CheckpointError, match="does not hold a complete discriminator"):
        convert_discriminator(save(judge), labels=5)


def test_files_that_are_no_checkpoint(save: Callable[..., Path], tmp_path: Path) -> None:
    def message(path: Path) -> str:
        with pytest.raises(CheckpointError) as caught:
            convert_checkpoint(path, labels=5, image_size=(64, 64))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "does not exist" in message(tmp_path / "nowhere.pth")
    assert "is a folder" in message(tmp_path)
    for content in (b"", b"hello", b"PK\x03\x04 cut"):
        (tmp_path / "damaged.pth").write_bytes(content)
        assert "cannot be read as a PyTorch state dict" in message(tmp_path / "damaged.pth")
    assert "not hold a state dict (names with tensors) but something else (Tensor)" in message(save(torch.zeros(3)))
    assert "something else (dict)" in message(save({"epoch": 3, "model": {"a": torch.zeros(1)}}))
    assert "holds no generator of" in message(save({}))
    assert "(first key: layer.weight)" in message(save({"layer.weight": torch.zeros(1)}))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "sprung",)

    for write in (torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))):
        write({"head_0.conv_0.bias": Trap()}, tmp_path / "trap.pth")
        with pytest.raises(CheckpointError, match="holds more than tensors"):
            convert_checkpoint(tmp_path / "trap.pth", labels=5, image_size=(64, 64))
    assert not (tmp_path / "sprung").exists()


SHIFT = torch.tensor([150, *range(150)])
"""The index in `ade20k` of each value of ADE20K's files: 0 is unknown."""


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("spade", {}),
        ("clade", {}),
        ("clade", {"latent_dim": 4}),
        ("clade", {"norm": mixed_norms(2), "use_instances": True}),
        ("clade-icpe", {"position_rule": "official-all"}),
    ],
)
def test_ade20k_classes_are_put_in_order(name: str, options: dict[str, object], save: Callable[..., Path]) -> None:
    model = small(name, labels="ade20k-official", **options)
    values = torch.randint(0, 151, (1, 8, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    values[:, :8, :8] = 0
    instances = values if model.config.use_instances else None
    style = Style.sample(1, 4) if model.encoder else None
    stored = Layout(values, LABEL_SETS["ade20k-official"], instances)
    shifted = Layout(SHIFT[values], LABEL_SETS["ade20k"], instances)
    with torch.no_grad():
        for _ in range(10):
            model.train()(stored, style)  # statistics that keep the activations small
    expected = model.eval()(stored, style)
    path = save(official(model, GENERATOR_KEYS))
    encoder = save(official(model.encoder, ENCODER_KEYS), "latest_net_E.pth") if model.encoder else None
    rule = model.config.position_rule

    def converted(labels: str) -> SPADEGenerator:
        return convert_checkpoint(path, labels=labels, image_size=(64, 64), encoder_path=encoder, position_rule=rule)

    assert torch.equal(converted("ade20k-official")(stored, style), expected)
    scale = expected.abs().max().item()
    torch.testing.assert_close(converted("ade20k")(shifted, style), expected, rtol=0, atol=1e-4 * scale)
    wrong = converted("ade20k-official")(Layout(SHIFT[values], stored.labels, instances), style)
    assert (wrong - expected).abs().max() > 1e-3 * scale


def test_the_discriminator_of_ade20k_is_put_in_order() -> None:
    state = official(MultiScaleDiscriminator(151, base_channels=2, instances=True), discriminator_keys(2, 4))
    kept, ordered = (discriminator_from_state(state, labels=name).eval() for name in ("ade20k-official", "ade20k"))
    values = torch.randint(0, 151, (1, 32, 32))
    rest = torch.rand(1, 4, 32, 32)  # edges and picture

    def judged(discriminator: MultiScaleDiscriminator, labels: Tensor) -> Tensor:
        one_hot = nn.functional.one_hot(labels, 151).permute(0, 3, 1, 2).float()
        return discriminator.judge(torch.cat([one_hot, rest], 1)).scores[0]

    torch.testing.assert_close(judged(ordered, SHIFT[values]), judged(kept, values), rtol=0, atol=1e-5)


def test_positions_that_leave_out_the_unknown_class_keep_their_order(save: Callable[..., Path]) -> None:
    path = save(official(small("clade-icpe", labels="ade20k-official"), GENERATOR_KEYS))
    with pytest.raises(CheckpointError, match=r"index 0 no position.* give the label set ade20k-official"):
        convert_checkpoint(path, labels="ade20k", image_size=(64, 64))
    assert convert_checkpoint(path, labels="ade20k-official", image_size=(64, 64)).config.position_rule == "official"
