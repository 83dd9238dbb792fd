"""What is told while a study runs: in a terminal, in a log, to a program."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from rich.console import Console

from bsopt.cli.terminal.progress_json import JsonLines
from bsopt.cli.terminal.progress_lines import PlainLines
from bsopt.cli.terminal.progress_live import LiveProgress
from bsopt.cli.terminal.run_progress import RunProgress
from bsopt.trial.events import Listener, RunSummary, TrialStart
from bsopt.trial.objective import Objective
from bsopt.trial.plan import Plan
from bsopt.trial.record import StopReason, StudyInfo, Tick, TrialRecord

INFO = StudyInfo(name="digits", objective=Objective("val_loss"), num_trials=10)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def start(number: int, size: int = 64) -> TrialStart:
    plan = Plan(size // 2, 2, reason="memory")
    return TrialStart(number=number, batch_size=size, lr=0.02, params={}, plan=plan, num_ticks=4, log="log.txt")


def tick(index: int, value: float) -> Tick:
    return Tick(index=index, samples=100.0 * index, step=index, epoch=float(index), seconds=1.0 * index, value=value)


def ended(number: int, value: float | None, reason: StopReason = StopReason.COMPLETED) -> TrialRecord:
    return TrialRecord(
        number=number,
        outcome=reason.outcome,
        batch_size=64,
        lr=0.02,
        stop_reason=reason,
        value=value,
        seconds=3.0,
        ticks=(tick(1, 1.0), tick(2, 0.5)),
        message="out of luck" if value is None else "",
    )


def play(listener: Listener, clock: Clock) -> None:
    """A run of four trials, one of them left under way."""
    listener.study_started(INFO, done=0, total=10)
    endings = [
        (0.5, StopReason.COMPLETED),
        (0.3, StopReason.CONVERGED),
        (0.9, StopReason.PRUNED_HOPELESS),
        (None, StopReason.FAILED),
    ]
    for number, (value, reason) in enumerate(endings):
        listener.trial_started(start(number))
        listener.ticked(number, tick(1, math.nan))
        listener.ticked(number, tick(2, 0.5))
        clock.now += 10
        listener.trial_ended(ended(number, value, reason))
    listener.note("something to know")
    listener.trial_started(start(4, size=128))
    listener.ticked(4, tick(1, 2.0))
    listener.ticked(4, tick(2, 1.0))


def test_tally_counts_and_knows_the_best() -> None:
    clock = Clock()
    progress = RunProgress(clock=clock)
    progress.begin(INFO, total=10)
    assert progress.seconds_left() is None
    clock.now += 10
    assert progress.end(ended(0, 0.5))
    assert not progress.end(ended(1, 0.7))
    assert not progress.end(ended(2, 0.1, StopReason.PRUNED_HOPELESS)), "a pruned trial is never the best"
    assert not progress.end(ended(3, None, StopReason.INTERRUPTED))
    assert progress.counts == {"complete": 2, "pruned": 1, "fail": 0}
    assert progress.best is not None
    assert progress.best.number == 0
    assert progress.seconds_left() == pytest.approx(10 / 3 * 7)


def test_tally_continues_earlier_runs_without_counting_their_time() -> None:
    clock = Clock()
    progress = RunProgress([ended(0, 0.5), ended(1, 0.4)], clock=clock)
    progress.begin(INFO, total=4)
    clock.now += 6
    assert not progress.end(ended(2, 0.45))
    assert progress.num_done == 3
    assert progress.seconds_left() == pytest.approx(6.0)


def test_tally_of_a_maximized_metric() -> None:
    progress = RunProgress()
    progress.begin(replace(INFO, objective=Objective("val_acc", "maximize")), total=4)
    assert progress.end(ended(0, 0.5))
    assert not progress.end(ended(1, 0.4))


def test_tally_of_a_time_to_target_study_minimizes_whatever_the_metric_does() -> None:
    progress = RunProgress()
    progress.begin(replace(INFO, objective=Objective("val_acc", "maximize", 0.9, "seconds")), total=4)
    assert progress.info.objective.value_name == "seconds to val_acc 0.9"
    assert progress.end(ended(0, 50.0))
    assert progress.end(ended(1, 40.0))


def test_trials_under_way_shorten_the_time_left() -> None:
    clock = Clock()
    progress = RunProgress(clock=clock)
    lines = PlainLines(lambda line: None, progress)
    lines.study_started(INFO, done=0, total=2)
    lines.trial_started(start(0))
    clock.now += 10
    lines.ticked(0, tick(2, 1.0))
    assert progress.seconds_left() == pytest.approx(30.0)


def test_plain_lines_tell_starts_ends_and_failures() -> None:
    clock, lines = Clock(), list[str]()
    play(PlainLines(lines.append, RunProgress(clock=clock)), clock)
    assert lines[0] == "study digits: minimize val_loss, 0 of 10 trials done"
    assert "trial 0: batch size 64 (32 × 2 accumulated = 64), lr 0.02" in lines
    assert "trial 1: converged after 3.0 s, val_loss 0.3 (the best) [2/10, about 1 min 20 s left]" in lines
    assert any(line.startswith("trial 3: failed after 3.0 s: out of luck [4/10") for line in lines)
    assert "note: something to know" in lines


def test_plain_lines_mention_a_long_trial_now_and_then() -> None:
    clock, lines = Clock(), list[str]()
    listener = PlainLines(lines.append, RunProgress(clock=clock))
    listener.study_started(INFO, done=0, total=1)
    listener.trial_started(start(0))
    for index in range(1, 121):
        clock.now += 1
        listener.ticked(0, tick(index, 1 / index))
    assert sum("at epoch" in line for line in lines) == 4


def test_json_lines_are_one_valid_object_each() -> None:
    clock, lines = Clock(), list[str]()
    listener = JsonLines(lines.append)
    play(listener, clock)
    listener.study_ended(RunSummary(2, 1, 1, 4, 10, "interrupted", "stopped", best=ended(1, 0.3)))
    events = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert events[0]["study"]["name"] == "digits"
    kinds = [event["event"] for event in events]
    assert kinds.count("tick") == 10
    assert kinds.count("trial_ended") == 4
    assert kinds[-1] == "study_ended"
    assert events[-1]["best"]["value"] == 0.3
    assert next(event for event in events if event["event"] == "tick")["value"] is None
    assert next(event for event in events if event["event"] == "trial_ended")["stop_reason"] == "completed"


@pytest.fixture
def terminal() -> Iterator[tuple[Console, LiveProgress, Clock]]:
    clock = Clock()
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None, legacy_windows=False)
    live = LiveProgress(console, RunProgress(clock=clock))
    yield console, live, clock
    live.close()


def screen(console: Console, live: LiveProgress) -> str:
    """The picture as it is now."""
    with console.capture() as capture:
        console.print(live._picture())
    return capture.get()


def test_live_picture_shows_the_trial_under_way_the_counts_and_the_best(
    terminal: tuple[Console, LiveProgress, Clock],
) -> None:
    console, live, clock = terminal
    play(live, clock)
    picture = screen(console, live)
    assert "batch 128" in picture
    assert "as 64 × 2 accumulated = 128: memory" in picture
    assert "lr 0.02" in picture
    assert "█▁" in picture
    assert "epoch 2, 2/4" in picture
    assert "4 of 10 trials · 2 complete · 1 pruned · 1 failed · about 49 s left" in picture
    assert "batch size 64, lr 0.02  val_loss 0.3 (trial 1)" in picture


def test_live_picture_keeps_a_line_for_each_ended_trial(terminal: tuple[Console, LiveProgress, Clock]) -> None:
    console, live, clock = terminal
    play(live, clock)
    live.close()
    assert isinstance(console.file, io.StringIO)
    output = console.file.getvalue()
    assert "pruned hopeless, 3.0 s" in output
    assert "out of luck" in output
    assert "converged, 3.0 s, best so far" in output
    assert "something to know" in output


def test_live_picture_fits_a_narrow_terminal(terminal: tuple[Console, LiveProgress, Clock]) -> None:
    console, live, clock = terminal
    console.width = 60
    play(live, clock)
    assert all(len(line) <= 60 for line in screen(console, live).splitlines())


def test_live_picture_before_the_first_trial(terminal: tuple[Console, LiveProgress, Clock]) -> None:
    console, live, _ = terminal
    live.study_started(INFO, done=0, total=10)
    picture = screen(console, live)
    assert "choosing the next trial" in picture
    assert "estimating the time left" in picture
    assert "no trial is complete yet" in picture
