"""What the tracker makes of trouble: counts in the metrics, and a run that goes on."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from segscape.training.loop import train
from segscape.training.recipe import Recipe
from segscape.training.tracking import Tracker


def lines(folder: Path) -> list[dict[str, float]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in found]


def test_incidents_are_counted_over_the_whole_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = Tracker(tmp_path, 2, True)
    first.start(0, 8)
    first.update(2, 2, {"loss": 1.0})
    first.incident("skipped_steps", "a step is left out")
    again = Tracker(tmp_path, 2, True)
    again.load_state_dict(first.state_dict())
    again.start(2, 8)
    again.update(4, 2, {})  # the step that was left out
    again.incident("skipped_steps", "a step is left out")
    again.update(6, 2, {"loss": 3.0})
    assert lines(tmp_path) == [
        {"images": 2, "loss": 1.0},
        {"images": 4, "skipped_steps": 1},
        {"images": 6, "loss": 3.0, "skipped_steps": 2},
    ]
    assert capsys.readouterr().out.count("warning: a step is left out") == 2


def test_steps_left_out_do_not_change_the_means(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, 6, True)
    tracker.start(0, 6)
    for images, values in ((2, {"loss": 1.0}), (4, {}), (6, {"loss": 2.0})):
        tracker.update(images, 2, values)
    assert lines(tmp_path) == [{"images": 6, "loss": 1.5}]


def test_other_processes_warn_but_do_not_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = Tracker(tmp_path, 2, False)
    tracker.incident("skipped_steps", "known to all")
    tracker.own_incident("replaced_samples", "known here")
    assert capsys.readouterr().out == "warning: known here\n"


def test_scores_take_the_place_of_their_own(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, 2, True)
    tracker.start(0, 8)
    tracker.update(2, 2, {"loss": 1.0})
    tracker.record(2, {"validation/mIoU": 1.0})
    tracker.record(2, {"validation/mIoU": 2.0})
    assert lines(tmp_path) == [{"images": 2, "loss": 1.0}, {"images": 2, "validation/mIoU": 2.0}]


@pytest.mark.parametrize("tail", [b'{"images": 12, "generator/g', b"\0" * 40, b'\xff\xfe\n"images"\n12\n{"loss": 2}\n'])
def test_half_a_line_does_not_break_a_resumed_run(
    make_recipe: Callable[..., Recipe], tmp_path: Path, tail: bytes
) -> None:
    run = tmp_path / "run"
    train(make_recipe(images=6), run)
    before = lines(run)
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(tail)
    (run / "checkpoints" / ".0000000008.pt.k3j2.part").write_bytes(b"half")  # of a process that was killed, too
    train(make_recipe(images=8), run, resume=True)
    assert lines(run)[:3] == before and [line["images"] for line in lines(run)] == [2, 4, 6, 8]
    assert not list(run.rglob(".*.part"))


def test_a_full_disk_costs_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = Tracker(tmp_path, 1, True)
    tracker.start(0, 8)
    tracker.update(1, 1, {"loss": 1.0})
    size = (tmp_path / "metrics.jsonl").stat().st_size
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
    try:
        tracker.update(2, 1, {"loss": 2.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    tracker.update(3, 1, {"loss": 3.0})
    assert [line["images"] for line in lines(tmp_path)] == [1, 3]
    assert "warning: a line of" in capsys.readouterr().out


def test_a_board_that_fails_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken:
        calls = 0

        def scalars(self, values: dict[str, float], images: int) -> None:
            self.calls += 1
            raise ConnectionError("no server")

        picture = close = scalars

    board, tracker = Broken(), Tracker(tmp_path, 1, True)
    tracker.start(0, 8, [board])
    tracker.update(1, 1, {"loss": 1.0})
    tracker.update(2, 1, {"loss": 1.0})
    assert board.calls == 1 and [line["images"] for line in lines(tmp_path)] == [1, 2]
    assert "warning: Broken fails and is shown nothing more: no server" in capsys.readouterr().out
