"""What `bsopt study show --trial` tells of a trial."""

from __future__ import annotations

from bsopt.cli.terminal.one_trial import facts_of
from bsopt.trial.objective import Objective
from bsopt.trial.record import StudyInfo, Tick, TrialRecord


def test_a_trial_on_data_without_a_length_is_told_in_samples() -> None:
    tick = Tick(index=4, samples=4096.0, step=512, epoch=0.0, seconds=1.0, value=0.25)
    record = TrialRecord(number=2, outcome="complete", ticks=(tick,), best_tick=4, value=0.25)
    facts = dict(facts_of(record, StudyInfo("stream", Objective("val_loss"))))
    assert facts["trained"] == "4,096 samples, 512 updates"
    assert facts["best val_loss"] == "0.25 at 4,096 samples, update 512"
