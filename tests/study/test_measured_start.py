"""A study that measures where its learning rate lives before the first trial."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bsopt.config import LoadedConfig, StudyConfig
from bsopt.laws.lr_ladder import MeasuredLr, MeasuredStart
from bsopt.study.measured_start import beyond_range, is_open, outlook, with_start
from bsopt.study.samplers import sampler_of
from bsopt.study.study import Study
from bsopt.trial.record import StudyInfo

Load = Callable[..., LoadedConfig]
Configure = Callable[..., StudyConfig]
MEASURED = MeasuredLr(32, 1e-5, 1.25, (1e-5,), (0.5,), 60, 900, 4.0)
ALWAYS = ("search.lr={low: 0.001, high: 0.9, measure: always}", "budget.trials=1", "isolation=none")


def lr(**changes: Any) -> dict[str, Any]:
    return {"batch_size": {"low": 4, "high": 64}, "lr": {"low": 1e-4, "high": 1.0, **changes}}


def test_the_first_trial_starts_where_it_was_measured(load: Load, log: Any) -> None:
    study = Study.create(load(*ALWAYS))
    study.run(log)
    start, info = study.info.measured_start, study.info
    assert start is not None
    assert start.lr is not None
    assert info.reference == start.lr.reference
    assert log.notes[0] == f"the learning rate was {start}"
    first = study.records[0]
    assert first.batch_size == start.lr.batch_size
    assert abs(np.log2(first.lr / start.lr.lr)) < 0.5  # the middle of the range counts, too


@pytest.mark.slow
def test_it_is_measured_once_and_known_ever_after(load: Load, log: Any) -> None:
    Study.create(load(*ALWAYS)).run()
    again = Study.create(load(*ALWAYS, "budget.trials=2"))
    again.run(log)
    assert not log.notes
    assert again.info.measured_start is not None
    assert again.info.reference == again.info.measured_start.lr.reference
    assert repr(again.optuna.sampler).count("sd=1.5") == 1
    assert sampler_of(again.info)._settings.ridge.centre_sd == 1.5


@pytest.mark.slow
def test_how_to_start_may_be_changed_later(load: Load) -> None:
    never = [key.replace("always", "never") for key in ALWAYS]
    Study.create(load(*never)).run()
    study = Study.create(load(*ALWAYS, "budget.trials=2"))
    study.run()
    assert study.info.measured_start is None  # its trials know more by now
    assert len(study.records) == 2


def test_what_fails_while_measuring_is_left_to_the_trials(load: Load, log: Any) -> None:
    study = Study.create(load(*ALWAYS, "task.model.init_args={trouble: raise}"))
    study.run(log)
    assert "not measured: that failed" in log.notes[0]
    assert study.records[0].message.count("the user's code is broken") == 1


def test_a_reference_an_earlier_study_or_never_leave_nothing_open(configure: Configure) -> None:
    assert is_open(configure(search=lr()))
    assert not is_open(configure(search=lr(reference={"batch_size": 32, "lr": 0.1})))
    assert not is_open(configure(search=lr(measure="never")))
    assert not is_open(configure(search={**lr(), "prior_from": "earlier"}))
    assert not is_open(configure(search={**lr(), "sampler": "tpe"}))


def test_check_says_what_will_be_measured(configure: Configure, load: Load) -> None:
    def said(samples: float, **changes: Any) -> str:
        return outlook(configure(search=lr(**changes)), budget_samples=samples)

    assert said(32 * 10_000) == (
        "measured before the first trial (6 rates, 60 steps each, at batch size 32, about 4% of one training)"
    )
    assert "if its first steps say" in said(32 * 900)
    assert said(32 * 100) == "not measured: a training has only 100 steps"
    assert said(32 * 900, reference={"batch_size": 32, "lr": 0.1}) == "not measured: search.lr.reference says it"
    report = Study.check(load("budget.trials=1"), step=False)
    assert dict(report.rows)["start"] == "not measured: search.lr.reference says it"


def test_a_rate_outside_the_range_is_told_with_the_range_to_search(configure: Configure) -> None:
    start = MeasuredStart(MEASURED, "asked for")
    message = beyond_range(configure(search=lr()), start)
    assert message == (
        "the measured learning rate 1e-05 is outside the searched ones (0.0001 to 1): "
        "search.lr.low: 1e-06 would take it in"
    )
    assert not beyond_range(configure(search=lr(low=1e-6)), start)


def test_without_a_measurement_the_reference_stays() -> None:
    info = StudyInfo("s")
    assert with_start(info, None) is info
    assert with_start(info, MeasuredStart(None, "no")).reference is None
    assert np.isclose(with_start(info, MeasuredStart(MEASURED, "yes")).reference.sd, 1.25)
    assert replace(info, measured_start=None) == info
