"""The report's answer is the recommendation, as it is shown."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import optuna
import pytest

from bsopt.recommendation import recommend
from bsopt.report.answer import answer_section, as_good, comparison_table
from bsopt.testing.study import example_data
from bsopt.visualization.study_data import StudyData, load


@pytest.fixture(scope="module")
def data(study: optuna.Study) -> StudyData:
    return load(study)


@pytest.fixture(scope="module")
def section(data: StudyData) -> str:
    return html.unescape(str(answer_section(data, prefix="s0")))


def test_the_answer_is_the_recommendation(data: StudyData, study: optuna.Study, section: str) -> None:
    found = recommend(study)
    assert data.recommendation.ties == found.ties
    assert found.sentence in section
    assert all(caveat in section for caveat in found.caveats)
    assert found.to_yaml().strip() in section
    assert found.to_lightning().strip() in section


def test_every_goal_has_its_row_the_answers_first(data: StudyData, section: str) -> None:
    found = data.recommendation
    assert found.choice is not None
    sizes = re.findall(r'data-label="batch size">(\d+)<', section)
    assert list(map(int, sizes)) == [choice.batch_size for choice in (found.choice, *found.alternatives)]


def test_what_is_as_good_is_the_best_trial_of_each_size_that_ties(data: StudyData, study: optuna.Study) -> None:
    trials = as_good(data)
    assert {record.batch_size for record in trials} <= set(data.recommendation.ties)
    assert len({record.batch_size for record in trials}) == len(trials) >= 1
    assert trials[0].number == study.best_trial.number


def test_settings_say_how_the_batch_size_is_realised() -> None:
    made = example_data(40)
    data = replace(made, info=replace(made.info, num_devices=2))
    choice = data.recommendation.choice
    assert choice is not None
    section = str(answer_section(data, prefix="s0"))
    assert f"batch_size: {choice.plan.micro_batch_size}\n" in section
    assert "devices: 2\n" in section


@pytest.mark.parametrize("num_trials", [0, 1])
def test_without_an_alternative_there_is_no_table(num_trials: int) -> None:
    assert "<table" not in answer_section(example_data(num_trials), prefix="s0")


def test_studies_are_compared_by_their_choices(data: StudyData) -> None:
    choice = data.recommendation.choice
    assert choice is not None
    table = str(comparison_table([data, example_data(0)]))
    assert f"<td>{choice.batch_size}</td><td>{choice.lr.value:.3g}</td>" in table
    assert table.endswith("<td>0</td><td>0</td><td>–</td><td>–</td><td>–</td><td>–</td></tr></tbody></table></div>")
