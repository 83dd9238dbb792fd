"""What to run next: the runs, their time and the command."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import optuna
import pytest

from bsopt.laws.estimate import Estimate, FitStatus
from bsopt.recommendation.result import Choice, NextRun, Recommendation
from bsopt.report.next_steps import next_steps
from bsopt.storage.parameter_names import ParameterNames
from bsopt.trial.plan import Plan
from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.visualization.study_data import StudyData, load

RUNS = (
    NextRun(8, 0.0185, "how much a seed matters", {}, 3, 57.0, 57.0 / 3600),
    NextRun(16, 0.03, "whether 16 is as good as 8", {"momentum": 0.9}, None, 35.0, 35.0 / 3600),
)


def _card(data: StudyData, *, runs: tuple[NextRun, ...] = (), status: FitStatus = FitStatus.OK) -> str:
    choice = Choice("quality", 8, Estimate(0.02, 0.01, 0.03), Plan(8))
    found = Recommendation(status, "Batch size 8.", "digits", "val_loss", choice=choice, next_runs=runs)
    vars(data)["recommendation"] = found
    return html.unescape(re.sub(r"<[^>]+>", " ", str(next_steps(data, prefix="s0"))))


@pytest.fixture
def data() -> StudyData:
    return StudyData(StudyInfo("digits", config={"name": "digits"}, num_trials=30), ())


def test_the_runs_stand_with_what_they_tell_and_how_long_they_take(data: StudyData) -> None:
    card = " ".join(_card(data, runs=RUNS).split())
    assert "2 runs, about 1 min 32 s" in card
    assert "Trial 3 again over a fresh seed: batch size 8, lr 0.0185 about 57 s Tells how much a seed matters." in card
    assert "Batch size 16, lr 0.03, momentum 0.9 about 35 s Tells whether 16 is as good as 8." in card
    assert "bsopt study run study.yaml --settle" in card


def test_a_run_of_unknown_length_has_no_time(data: StudyData) -> None:
    assert "about" not in _card(data, runs=(replace(RUNS[0], seconds=None, device_hours=None),))


def test_without_a_study_file_the_command_is_python_in_the_studys_own_names(data: StudyData) -> None:
    foreign = replace(data, info=replace(data.info, config={}), names=ParameterNames("log2_batch_size", "eta"))
    card = _card(foreign, runs=RUNS)
    assert "In Python" in card
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    code = re.search(r"study\.enqueue.*\)", card, re.DOTALL)
    assert code is not None
    scope = {
        "study": study,
        "objective": lambda t: t.suggest_int("log2_batch_size", 3, 8) + t.suggest_float("eta", 0, 1),
    }
    exec(code.group(), scope)
    assert [trial.params for trial in study.trials] == [
        {"log2_batch_size": 3, "eta": 0.0185},
        {"log2_batch_size": 4, "eta": 0.03},
    ]


def test_nothing_open_leads_to_training(data: StudyData) -> None:
    assert "bsopt study train study.yaml" in _card(data, runs=())


@pytest.mark.parametrize(("num_trials", "command"), [(30, "study.yaml"), (2, "study.yaml --set budget.trials=22")])
def test_too_few_trials_lead_to_more(data: StudyData, num_trials: int, command: str) -> None:
    records = tuple(TrialRecord(number, "complete") for number in range(2))
    few = replace(data, info=replace(data.info, num_trials=num_trials), records=records)
    card = _card(few, status=FitStatus.TOO_FEW)
    assert "More trials: these don't say how sure the answer is." in html.unescape(card)
    assert f"bsopt study run {command} " in card


def test_without_an_answer_there_is_no_card() -> None:
    assert next_steps(load(optuna.create_study()), prefix="s0") is None
