"""The state that a trial keeps to be gone on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bsopt.training.checkpoints import KeptState
from bsopt.training.processes.crash import Crash
from bsopt.training.processes.launcher import Launcher, run_here
from bsopt.training.processes.supervision import Supervision
from bsopt.trial.record import StopReason, Tick
from bsopt.trial.spec import Budget, StopDecision, TrialSpec
from bsopt.units import Amount


class Clock:
    """Seconds that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Saving:
    """A trainer that takes two seconds for a checkpoint."""

    is_global_zero = True

    def __init__(self, clock: Clock, *, error: Exception | None = None) -> None:
        self.clock, self.error, self.barriers = clock, error, 0
        self.strategy = SimpleNamespace(barrier=self._barrier)

    def _barrier(self, name: str) -> None:
        self.barriers += 1

    def save_checkpoint(self, path: str) -> None:
        self.clock.now += 2.0
        if self.error is not None:
            raise self.error
        Path(path).write_text(f"at {self.clock.now:g}")


def test_keeping_takes_no_more_than_its_share(tmp_path: Path) -> None:
    clock = Clock()
    state = KeptState(str(tmp_path / "resume.ckpt"), 0.01, clock)
    assert state.is_due
    state.keep(Saving(clock))
    assert (tmp_path / "resume.ckpt").read_text() == "at 2"
    assert not state.is_due
    clock.now += 199.0
    assert not state.is_due
    clock.now += 1.0
    assert state.is_due


def test_without_a_limit_it_is_kept_every_time(tmp_path: Path) -> None:
    clock = Clock()
    state = KeptState(str(tmp_path / "resume.ckpt"), None, clock)
    for _ in range(3):
        assert state.is_due
        state.keep(Saving(clock))
    assert (tmp_path / "resume.ckpt").read_text() == "at 6"


def test_a_state_that_can_not_be_saved_costs_no_trial_unless_it_was_asked_for(tmp_path: Path) -> None:
    clock, path = Clock(), str(tmp_path / "resume.ckpt")
    trainer = Saving(clock, error=AttributeError("can't pickle a lambda"))
    state = KeptState(path, 0.01, clock)
    state.keep(trainer)
    assert state.error == "AttributeError: can't pickle a lambda"
    assert trainer.barriers == 1  # the other ranks wait there
    clock.now += 1e6
    assert not state.is_due
    with pytest.raises(AttributeError):
        KeptState(path, None, clock).keep(trainer)


def test_no_rank_waits_for_others_that_have_gone_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    clock = Clock()
    trainer = Saving(clock)
    monkeypatch.setattr("bsopt.training.checkpoints.os.replace", full)
    state = KeptState(str(tmp_path / "resume.ckpt"), 0.01, clock)
    state.keep(trainer)
    assert (trainer.barriers, "No space left" in state.error) == (0, True)


def test_a_folder_of_shards_is_replaced_as_a_whole(tmp_path: Path) -> None:
    class Sharded(Saving):
        def save_checkpoint(self, path: str) -> None:
            Path(path).mkdir()
            (Path(path) / f"shard at {self.clock.now:g}").touch()
            self.clock.now += 1.0

    clock = Clock()
    state = KeptState(str(tmp_path / "resume.ckpt"), None, clock)
    for _ in range(2):
        state.keep(Sharded(clock))
    assert [path.name for path in (tmp_path / "resume.ckpt").iterdir()] == ["shard at 1"]


def test_a_state_with_hyperparameters_of_any_kind_is_gone_on_from(train: Any, tmp_path: Path) -> None:
    state = tmp_path / "resume.ckpt"
    pause = StopDecision(StopReason.PAUSED, message="paused")
    train(resume_file=str(state), on_tick=lambda tick: pause if tick.index == 2 else StopDecision())
    kept = torch.load(state, weights_only=False)
    kept["hyper_parameters"] = {"loss": torch.nn.HuberLoss()}  # what `save_hyperparameters` keeps of such an argument
    torch.save(kept, state)
    told: list[Tick] = []
    train(resume_file=str(state), on_tick=lambda tick: told.append(tick) or StopDecision())
    assert [tick.index for tick in told] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("change", ["another model", "a broken file"])
def test_a_state_that_does_not_fit_any_more_is_left_and_the_trial_begins_anew(
    train: Any, tmp_path: Path, change: str
) -> None:
    state = tmp_path / "resume.ckpt"
    pause = StopDecision(StopReason.PAUSED, message="paused")
    train(resume_file=str(state), on_tick=lambda tick: pause if tick.index == 1 else StopDecision())
    if change == "another model":
        kept = torch.load(state, weights_only=False)
        kept["state_dict"] = {f"old.{name}": value for name, value in kept["state_dict"].items()}
        torch.save(kept, state)
    else:
        state.write_bytes(state.read_bytes()[:100])
    told: list[Tick] = []
    with pytest.raises(Crash, match="doesn't fit any more") as lost:
        train(resume_file=str(state), on_tick=lambda tick: told.append(tick) or StopDecision())
    assert lost.value.reason is StopReason.LOST  # which is run again
    assert (told, state.exists()) == ([], False)
    assert train(resume_file=str(state)).stop_reason is StopReason.COMPLETED


@pytest.mark.parametrize("is_own_process", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_interrupted_trial_keeps_its_state_once_more_before_its_share_of_time_allows_it(
    spec: TrialSpec, tmp_path: Path, is_own_process: bool
) -> None:
    told: list[Tick] = []
    supervision = Supervision(
        lambda tick: told.append(tick) or StopDecision(), lambda: len(told) >= 3, grace_seconds=60.0
    )
    state = tmp_path / "resume.ckpt"
    long = replace(spec, budget=Budget(Amount(1000, "epochs"), Amount(1, "epochs")))
    kept = replace(long, resume_file=str(state), resume_overhead=1e-9)
    record = (Launcher().run if is_own_process else run_here)(kept, supervision)
    assert (record.stop_reason, len(record.ticks)) == (StopReason.INTERRUPTED, 3)
    callbacks = torch.load(state, weights_only=False)["callbacks"].values()
    assert [len(kept["ticks"]) for kept in callbacks if "ticks" in kept] == [3]
