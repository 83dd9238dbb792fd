"""A study of values far from zero: every number of its report tells what it is there to tell."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import pytest

from bsopt.laws.step_time import fit_memory
from bsopt.report.answer import comparison_table
from bsopt.report.sections import questions
from bsopt.report.trials_table import trials_table
from bsopt.testing.study import example_data
from bsopt.trial.objective import Objective
from bsopt.visualization.study_data import StudyData


@pytest.fixture(scope="module")
def data() -> StudyData:
    made = example_data(40)
    records = [replace(r, value=None if r.value is None else 1e6 + r.value, ticks=()) for r in made.records]
    return replace(made, records=tuple(records))


def _text(page: object) -> str:
    return re.sub(r"<[^>]*>", " ", html.unescape(str(page)))


def test_the_answers_to_questions_tell_batch_sizes_apart(data: StudyData) -> None:
    said = _text(questions(data))
    values = re.search(r"val_loss is (\S+).* at batch size \d+ and (\S+).* at \d+\.", said)
    assert values is not None
    assert values[1] != values[2]
    assert "e+06" not in said


def test_the_table_of_trials_tells_them_apart(data: StudyData) -> None:
    cells = re.findall(r'data-label="val_loss">([^<]+)<', str(trials_table(data, table_id="t")))
    best = cells[:10]
    assert len(set(best)) > 5
    assert all(cell.startswith("1000000.") for cell in best)


def test_the_comparison_of_studies_has_the_digits_of_the_answer(data: StudyData) -> None:
    assert "1000000." in _text(comparison_table([data]))


def test_a_count_of_one_has_a_singular() -> None:
    assert "at 0 micro-batch sizes;" in fit_memory([]).message
    assert "at 1 micro-batch size;" in fit_memory([(8.0, 1e6)]).message


def test_an_interval_that_ends_at_zero_ends_at_no_minus_zero() -> None:
    made = example_data(40)
    records = [replace(r, value=None if r.value is None else -r.value, ticks=()) for r in made.records]
    info = replace(made.info, objective=Objective("neg_loss", "maximize"))
    evidence = replace(made, info=info, records=tuple(records)).evidence
    assert f"{evidence.perfect_value:g}" == "0"
