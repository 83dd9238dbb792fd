"""What is told while a study runs: in a terminal, in a log, to a program."""

from __future__ import annotations

import io
import json
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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


def end(progress: RunProgress, record: TrialRecord) -> bool:
    """End a trial and tell whether it is the best so far."""
    progress.trial_ended(record)
    return progress.best is record


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


def test_progress_counts_and_knows_the_best() -> None:
    clock = Clock()
    progress = RunProgress(clock=clock)
    progress.study_started(INFO, done=0, total=10)
    assert progress.seconds_left is None
    clock.now += 10
    assert end(progress, ended(0, 0.5))
    assert not end(progress, ended(1, 0.7))
    assert not end(progress, ended(2, 0.1, StopReason.PRUNED_HOPELESS)), "a pruned trial is never the best"
    assert not end(progress, ended(3, None, StopReason.INTERRUPTED))
    assert progress.counts == {"complete": 2, "pruned": 1, "fail": 0}
    assert progress.best is not None
    assert progress.best.number == 0
    assert progress.seconds_left == pytest.approx(10 / 3 * 7)


def test_a_paused_trial_that_is_gone_on_with_counts_once() -> None:
    progress = RunProgress([ended(0, 0.5), ended(1, 0.9, StopReason.PAUSED)])
    progress.study_started(INFO, done=2, total=3)
    end(progress, ended(2, 0.8, StopReason.PAUSED))
    progress.trial_started(replace(start(3), continues=1))
    assert (progress.num_done, progress.num_new, progress.total) == (2, 1, 3)
    end(progress, ended(3, None, StopReason.INTERRUPTED))
    progress.trial_started(replace(start(4), continues=1))
    assert end(progress, ended(4, 0.4))
    progress.trial_started(replace(start(5), continues=2))
    end(progress, ended(5, 0.6))
    assert (progress.num_done, progress.num_new, progress.total) == (3, 2, 3)
    assert progress.counts == {"complete": 3, "pruned": 0, "fail": 0}


def test_lines_name_the_trial_that_is_gone_on_with() -> None:
    lines: list[str] = []
    progress = RunProgress()
    progress.shown_by(PlainLines(lines.append, progress))
    progress.trial_started(replace(start(3), continues=1))
    assert lines == ["trial 3: batch size 64 (32 × 2 accumulated = 64), lr 0.02, going on from trial 1"]


def test_the_live_picture_names_the_trial_that_is_gone_on_with() -> None:
    console = Console(width=120, file=io.StringIO(), force_terminal=False)
    progress = RunProgress()
    progress.trial_started(replace(start(3), continues=1))
    console.print(LiveProgress(console, progress).picture())
    assert "starting, going on from trial 1" in console.file.getvalue()


def test_progress_continues_earlier_runs_without_counting_their_time() -> None:
    clock = Clock()
    progress = RunProgress([ended(0, 0.5), ended(1, 0.4)], clock=clock)
    progress.study_started(INFO, done=0, total=4)
    clock.now += 6
    assert not end(progress, ended(2, 0.45))
    assert progress.num_done == 3
    assert progress.seconds_left == pytest.approx(6.0)


def test_progress_of_a_maximized_metric() -> None:
    progress = RunProgress()
    progress.study_started(replace(INFO, objective=Objective("val_acc", "maximize")), done=0, total=4)
    assert end(progress, ended(0, 0.5))
    assert not end(progress, ended(1, 0.4))


def test_progress_of_a_time_to_target_study_minimizes_whatever_the_metric_does() -> None:
    progress = RunProgress()
    progress.study_started(replace(INFO, objective=Objective("val_acc", "maximize", 0.9, "seconds")), done=0, total=4)
    assert progress.info.objective.value_name == "seconds to val_acc 0.9"
    assert end(progress, ended(0, 50.0))
    assert end(progress, ended(1, 40.0))


def test_trials_under_way_shorten_the_time_left() -> None:
    clock = Clock()
    progress = RunProgress(clock=clock)
    progress.study_started(INFO, done=0, total=2)
    progress.trial_started(start(0))
    clock.now += 10
    progress.ticked(0, tick(2, 1.0))
    assert progress.seconds_left == pytest.approx(30.0)


def test_repeats_come_on_top_of_the_total() -> None:
    progress = RunProgress([ended(0, 0.5), ended(1, 0.4)])
    progress.study_started(INFO, done=2, total=2)
    progress.trial_started(start(2))
    end(progress, ended(2, 0.45))
    assert (progress.num_done, progress.total) == (3, 3)


def test_plain_lines_tell_starts_ends_and_failures() -> None:
    clock, lines = Clock(), list[str]()
    progress = RunProgress(clock=clock)
    play(progress.shown_by(PlainLines(lines.append, progress)), clock)
    assert lines[0] == "study digits: minimize val_loss, 0 of 10 trials done"
    assert "trial 0: batch size 64 (32 × 2 accumulated = 64), lr 0.02" in lines
    assert "trial 1: converged after 3.0 s, val_loss 0.3 (the best) [2/10, about 1 min 20 s left]" in lines
    assert any(line.startswith("trial 3: failed after 3.0 s: out of luck [4/10") for line in lines)
    assert "note: something to know" in lines


def test_plain_lines_mention_a_long_trial_now_and_then() -> None:
    clock, lines = Clock(), list[str]()
    progress = RunProgress(clock=clock)
    listener = progress.shown_by(PlainLines(lines.append, progress))
    listener.study_started(INFO, done=0, total=1)
    listener.trial_started(start(0))
    for index in range(1, 121):
        clock.now += 1
        listener.ticked(0, tick(index, 1 / index))
    assert sum("at epoch" in line for line in lines) == 4


def test_a_long_trial_on_data_without_a_length_is_told_in_samples() -> None:
    clock, lines = Clock(), list[str]()
    progress = RunProgress(clock=clock)
    listener = progress.shown_by(PlainLines(lines.append, progress))
    listener.study_started(INFO, done=0, total=1)
    listener.trial_started(start(0))
    clock.now += 60
    listener.ticked(0, replace(tick(20, 0.5), epoch=0.0))
    assert lines[-1] == "trial 0: val_loss 0.5 at 2,000 samples"


def test_json_lines_are_one_valid_object_each() -> None:
    clock, lines = Clock(), list[str]()
    listener = RunProgress(clock=clock).shown_by(JsonLines(lines.append))
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


class Terminal:
    """A terminal of 120 columns with a run's live picture in it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.output = io.StringIO()
        self.console = Console(
            file=self.output, force_terminal=True, width=120, color_system=None, legacy_windows=False
        )
        self.progress = RunProgress(clock=self.clock)
        self.live = LiveProgress(self.console, self.progress)
        self.progress.shown_by(self.live)

    def picture(self) -> str:
        """The picture as it is now."""
        with self.console.capture() as capture:
            self.console.print(self.live.picture())
        return capture.get()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.live.close()


def test_live_picture_shows_the_trial_under_way_the_counts_and_the_best(terminal: Terminal) -> None:
    play(terminal.progress, terminal.clock)
    picture = terminal.picture()
    assert "batch 128" in picture
    assert "as 64 × 2 accumulated = 128: memory" in picture
    assert "lr 0.02" in picture
    assert "█▁" in picture
    assert "epoch 2, 2/4" in picture
    assert "4 of 10 trials · 2 complete · 1 pruned · 1 failed · about 49 s left" in picture
    assert "batch size 64, lr 0.02  val_loss 0.3 (trial 1)" in picture


def test_live_picture_keeps_a_line_for_each_ended_trial(terminal: Terminal) -> None:
    play(terminal.progress, terminal.clock)
    terminal.live.close()
    output = terminal.output.getvalue()
    assert "pruned hopeless, 3.0 s" in output
    assert "out of luck" in output
    assert "converged, 3.0 s, best so far" in output
    assert "something to know" in output


def test_live_picture_fits_a_narrow_terminal(terminal: Terminal) -> None:
    terminal.console.width = 60
    play(terminal.progress, terminal.clock)
    assert all(len(line) <= 60 for line in terminal.picture().splitlines())


def test_live_picture_before_the_first_trial(terminal: Terminal) -> None:
    terminal.progress.study_started(INFO, done=0, total=10)
    picture = terminal.picture()
    assert "choosing the next trial" in picture
    assert "estimating the time left" in picture
    assert "no trial is complete yet" in picture


def test_events_from_two_threads_are_shown_one_at_a_time_but_read_at_once() -> None:
    lines, threads, has_entered = list[str](), list[threading.Thread](), threading.Event()
    progress = RunProgress()

    def write(line: str) -> None:
        lines.append(line)
        if "first" in line:
            other = threading.Thread(target=progress.note, args=("second",))
            other.start()
            assert not has_entered.wait(0.05), "two events were shown at once"
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(lambda: progress.num_done).result(timeout=10) == 0
            threads.append(other)
        else:
            has_entered.set()

    progress.shown_by(JsonLines(write)).note("first")
    threads[0].join()
    assert [json.loads(line)["message"] for line in lines] == ["first", "second"]
