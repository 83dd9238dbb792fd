"""The experiment's section of the report."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from bsopt.experiment.findings.verdicts import FINDINGS
from bsopt.report import write_report
from bsopt.report.experiment import experiment_section
from bsopt.testing.experiment import example_experiment
from bsopt.trial.record import StopReason
from bsopt.visualization import EXPERIMENT_FIGURES
from bsopt.visualization.study_data import StudyData, load


@pytest.fixture(scope="module")
def data() -> StudyData:
    return load(example_experiment(variants={"bf16": 1.0}))


@pytest.fixture(scope="module")
def section(data: StudyData) -> str:
    found = experiment_section(data, prefix="s0")
    assert found is not None
    return str(found)


def test_a_study_without_an_experiment_has_no_such_section(study: optuna.Study, page: str) -> None:
    assert experiment_section(load(study), prefix="s0") is None
    assert "The batch-size experiment" not in page


def test_every_finding_has_its_verdict_and_its_numbers(data: StudyData, section: str) -> None:
    assert data.experiment is not None
    text = html.unescape(section)
    of_variant = data.experiment.variant_verdicts["bf16"]
    assert text.count('class="verdict ') == len(FINDINGS) + len(of_variant)
    assert "With bf16" in text
    for verdict in (*data.experiment.verdicts, *of_variant):
        assert verdict.claim in text
        assert verdict.sentence.partition(": ")[2][1:] in text
    assert "paired t-test over 5 seeds" in text
    assert "after Holm's correction" in text


def test_the_verdicts_are_counted(data: StudyData, section: str) -> None:
    articles = section.partition("<h3>With bf16")[0]
    counts = [articles.count(f'class="verdict {name}"') for name in ("supported", "contradicted", "cant-tell")]
    assert sum(counts) == len(FINDINGS)
    expected = f"support {counts[0]}, contradict {counts[1]}, can't tell about {counts[2]}."
    assert expected in html.unescape(section)


def test_the_design_is_told(section: str) -> None:
    assert "Batch sizes 32, 64, 128, 256, at learning rate 0.01" in section
    assert "0.01 × B/32" in section
    assert "had not improved for 10 epochs" in section
    assert "All 135 runs have ended." in section


@pytest.mark.slow
def test_runs_that_the_budget_cut_short_are_told(data: StudyData, section: str) -> None:
    assert "ended with their budget" not in section
    records = tuple(replace(r, stop_reason=StopReason.COMPLETED) if r.number < 7 else r for r in data.records)
    cut = str(experiment_section(StudyData(data.info, records, data.study), prefix="s0"))
    assert "7 of them ended with their budget" in cut


def test_every_figure_stands_there_with_how_to_read_it(section: str) -> None:
    text = html.unescape(section)
    for name, figure in EXPERIMENT_FIGURES.items():
        assert f'data-plot="s0-{name.replace("_", "-")}"' in section
        assert figure.how_to_read in text
        assert figure.article is None or f"As figure {figure.article} of the article." in text
    ids = re.findall(r'id="([^"]+)"', section)
    assert len(ids) == len(set(ids))


def test_what_is_missing_is_listed_with_its_reason() -> None:
    small = load(example_experiment(seeds=2, arms=("fixed_lr",), has_analyses=False))
    section = html.unescape(str(experiment_section(small, prefix="s0")))
    assert "Not drawn" in section
    assert "<code>bsopt study analyze</code>" in section
    assert "can't tell about 24" in section
    assert "at least 5 are needed" in section


@pytest.mark.slow
def test_a_report_of_a_long_experiment_stays_under_eight_megabytes(tmp_path: Path) -> None:
    long = load(example_experiment(epochs=1000, arms=("fixed_lr", "scaled_lr", "higher_lr")))
    path = write_report([long], tmp_path / "report.html").path
    page = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 8e6
    folded = page.index("<details><summary>Show the figures over all runs")
    assert page.index("The batch-size experiment") < folded < page.index('id="s0-interaction"')
    assert "<h2>Figures</h2>" not in page
    assert max(len(spec) for spec in re.findall(r"<script[^>]*data-plot[^>]*>(.*?)</script>", page, re.DOTALL)) < 2e6
