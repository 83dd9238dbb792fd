"""Records keep everything on their way through plain data."""

from __future__ import annotations

import inspect
import json
import math
from dataclasses import fields
from typing import Any

import pytest

from bsopt.laws.scaling import Reference
from bsopt.serialization import from_plain, to_plain
from bsopt.trial.objective import Objective
from bsopt.trial.plan import Plan
from bsopt.trial.record import StopReason, StudyInfo, Tick, TrialRecord


def record(**changes: Any) -> TrialRecord:
    values: dict[str, Any] = {
        "number": 3,
        "outcome": "complete",
        "batch_size": 64,
        "lr": 0.02,
        "params": {"batch_size": 64, "lr": 0.02, "model.dropout": 0.1},
        "stop_reason": StopReason.CONVERGED,
        "message": "it stopped improving",
        "value": 0.25,
        "best_tick": 2,
        "ticks": (
            Tick(index=1, samples=100.0, step=2, epoch=0.5, seconds=0.1, value=0.5, lr=0.02, metrics={"val_acc": 0.7}),
            Tick(index=2, samples=200.0, step=4, epoch=1.0, seconds=0.2, value=0.25),
        ),
        "plan": Plan(32, 2, reason="memory"),
        "warnings": ("a warning",),
        "measurements": {"noise_scale": {"simple": 120.0}},
    }
    return TrialRecord(**{**values, **changes})


def test_record_reads_back_the_same_from_json() -> None:
    assert from_plain(TrialRecord, json.loads(json.dumps(to_plain(record())))) == record()


def test_smallest_record_reads_back_the_same() -> None:
    smallest = TrialRecord(number=0, outcome="running")
    assert from_plain(TrialRecord, to_plain(smallest)) == smallest
    assert smallest.best is None


def test_diverged_values_read_back() -> None:
    tick = Tick(index=1, samples=1.0, step=1, epoch=1.0, seconds=1.0, value=math.nan)
    read = from_plain(TrialRecord, json.loads(json.dumps(to_plain(record(ticks=(tick,), value=math.inf)))))
    assert math.isnan(read.ticks[0].value)
    assert read.value == math.inf


def test_how_far_is_told_in_samples_where_no_epoch_is_over_and_none_has_a_length() -> None:
    ticks = [Tick(index=1, samples=4096.0, step=64, epoch=epoch, seconds=1.0, value=0.5) for epoch in (0.0, 0.5, 3.0)]
    assert [tick.where for tick in ticks] == ["4,096 samples", "epoch 0.5", "epoch 3"]


def test_keys_of_a_newer_format_are_ignored() -> None:
    data = to_plain(record())
    data["colour"] = "green"
    data["ticks"][0]["mood"] = 1
    data["plan"]["shards"] = 2
    assert from_plain(TrialRecord, data) == record()


def test_best_is_the_tick_that_best_tick_names() -> None:
    best = record().best
    assert best is not None
    assert best.value == 0.25


def test_every_stop_reason_maps_to_one_outcome() -> None:
    assert {reason.outcome for reason in StopReason} == {"complete", "pruned", "fail"}
    assert {reason for reason in StopReason if reason.is_retried} == {StopReason.INTERRUPTED, StopReason.LOST}
    assert all(reason.outcome == "fail" for reason in StopReason if reason.is_retried)


def test_stop_reasons_that_keep_the_best_value_are_complete() -> None:
    complete = {reason.value for reason in StopReason if reason.outcome == "complete"}
    assert complete == {"completed", "converged", "target_reached", "timeout"}


def test_study_info_reads_back_the_same_from_json() -> None:
    info = StudyInfo(
        name="digits",
        objective=Objective("val_loss"),
        batch_size_range=(8, 1024),
        lr_range=(1e-4, 1.0),
        batch_sizes=(8, 16, 32),
        rule="linear",
        reference=Reference(32, 0.01),
        num_train_samples=1437,
        config={"name": "digits"},
    )
    assert from_plain(StudyInfo, json.loads(json.dumps(to_plain(info)))) == info


def test_study_info_of_a_newer_format_is_read() -> None:
    data = to_plain(StudyInfo(name="digits")) | {"colour": "green"}
    assert from_plain(StudyInfo, data) == StudyInfo(name="digits")


@pytest.mark.parametrize("kind", [TrialRecord, StudyInfo, Tick])
def test_values_are_documented_field_by_field(kind: type) -> None:
    undocumented = [f.name for f in fields(kind) if f"\n    {f.name}: " not in (inspect.getdoc(kind) or "")]
    assert not undocumented
