"""Signals that stop a run."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from segscape.training import signals
from segscape.training.loop import train
from segscape.training.recipe import Recipe
from segscape.training.signals import PREEMPTED, StopSignals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_noted_and_a_second_acts(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    caught: list[int] = []
    before = signal.signal(number, lambda sent, _: caught.append(sent))
    try:
        with StopSignals() as stop:
            assert not stop and stop.name == "another process"
            signal.raise_signal(number)
            signal.raise_signal(number)  # at once: the same one, passed on by a launcher
            assert stop and not caught
            assert stop.terminating == (number == signal.SIGTERM)
            monkeypatch.setattr(signals, "ONE_STOP", -1.0)
            signal.raise_signal(number)
            assert caught == [number]
        signal.raise_signal(number)
        assert caught == [number] * 2  # the former handler is back
    finally:
        signal.signal(number, before)


def test_sigterm_saves_and_exits_with_its_code(
    make_recipe: Callable[..., Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from segscape.training import loop

    real = loop.linear_decay

    def stop_at_six(images: int, *rest: int) -> float:
        if images == 6:
            signal.raise_signal(signal.SIGTERM)
        return real(images, *rest)

    monkeypatch.setattr(loop, "linear_decay", stop_at_six)
    with pytest.raises(SystemExit) as leaving:
        train(make_recipe(snapshot_images=1000), tmp_path / "run")
    assert leaving.value.code == PREEMPTED == 75
    assert "stopped by SIGTERM after 8 images" in capsys.readouterr().out
    assert [path.stem for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["0000000008"]
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
