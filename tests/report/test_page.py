"""The report as a file: what it says, that it is safe, small and quick."""

from __future__ import annotations

import html
import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import optuna
import pytest

from bsopt.errors import ConfigError
from bsopt.recommendation import recommend
from bsopt.report import write_report
from bsopt.report.figures import COMPARED
from bsopt.testing.study import example_data, example_study
from bsopt.trial.objective import Objective
from bsopt.visualization import FIGURES
from bsopt.visualization._traces import SENTENCE
from bsopt.visualization.study_data import StudyData, load

NASTY = "<script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&"


class _Reader(HTMLParser):
    """Elements, their attributes and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._inside: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.text.append(data)


def test_the_answer_stands_before_every_figure_and_table(page: str, study: optuna.Study) -> None:
    answer = page.index(html.escape(recommend(study).sentence, quote=False))
    assert answer < page.index("<figure") < page.index("<table id=")


def test_every_trial_is_in_the_table_without_javascript(page: str, study: optuna.Study) -> None:
    body = page.split('id="s0-trials"')[1].split("</table>")[0]
    numbers = re.findall(r'<tr class="[^"]*"[^>]*><td class="number" data-v="(\d+)"', body)
    assert sorted(map(int, numbers)) == list(range(40))


def test_every_figure_is_there_with_how_to_read_it(page: str) -> None:
    num_shown = len(FIGURES) - 1  # the study ran on one device
    assert page.count("<figcaption id=") == num_shown
    specs = re.findall(r'<script type="application/json" data-plot="([^"]+)">(.*?)</script>', page, flags=re.S)
    assert len(specs) == num_shown
    assert all(json.loads(spec)["data"] for _, spec in specs)


def test_figures_with_nothing_to_show_are_listed_with_the_reason(tmp_path: Path) -> None:
    page = write_report([example_data(0)], tmp_path / "report.html").path.read_text()
    assert page.count("<figcaption") == 0
    assert page.count("<li><b>") == len(FIGURES) - 1  # the answer's sentence stands in its place
    assert "<b>Learning curves</b>: No trial has been validated yet" in page


def test_what_is_compared_is_a_figure() -> None:
    assert set(COMPARED) <= set(FIGURES)


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    for tag, attributes in _Reader(page).tags:
        assert tag not in ("img", "iframe", "object", "embed", "link"), tag
        assert not attributes.get("src")
        assert (attributes.get("href") or "#").startswith("#")


@pytest.mark.slow
def test_foreign_text_stays_text_everywhere(tmp_path: Path) -> None:
    data = example_data(12)
    records = tuple(
        replace(record, message=NASTY, warnings=(NASTY,), device=NASTY, params={NASTY: NASTY, "batch_size": 8})
        for record in data.records
    )
    info = replace(
        data.info, name=NASTY, objective=Objective(NASTY), config={NASTY: [NASTY]}, environment={NASTY: NASTY}
    )
    found = StudyData(info, records)
    for studies in ([found], [found, found]):
        page = write_report(studies, tmp_path / "report.html").path.read_text()
        reader = _Reader(page)
        assert not [tag for tag, _ in reader.tags if tag == "img"]
        scripts = [attributes for tag, attributes in reader.tags if tag == "script"]
        assert sum(attributes.get("type") != "application/json" for attributes in scripts) == 2  # plotly's and ours
        assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
        assert any(NASTY in text for text in reader.text)


@pytest.mark.slow
def test_several_studies_stand_side_by_side_with_links_to_each(tmp_path: Path) -> None:
    studies = [example_study(10, name=f"study {i}", seed=i) for i in range(3)]
    reader = _Reader(write_report(studies, tmp_path / "report.html").path.read_text())
    links = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert links == ["#s0", "#s1", "#s2"]
    assert {link[1:] for link in links if link} <= set(ids)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("num_trials", [0, 1, 3])
def test_a_study_with_hardly_a_trial_has_a_report(num_trials: int, tmp_path: Path) -> None:
    page = write_report([example_data(num_trials)], tmp_path / "report.html").path.read_text()
    assert "Every trial" in page


def test_a_foreign_study_has_a_report(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    page = write_report([study], tmp_path / "report.html").path.read_text()
    assert "the study has x" in page
    assert re.search(r'<th scope="col" class="wide number" data-name="params.x"><button type="button">x</button>', page)


@pytest.mark.slow
def test_a_thousand_trials_take_under_ten_seconds_and_eight_megabytes(tmp_path: Path) -> None:
    study = example_study(1000)
    start = time.process_time()
    path = write_report([study], tmp_path / "report.html").path
    assert time.process_time() - start < 10
    assert path.stat().st_size < 8e6


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one study"):
        write_report([], tmp_path / "report.html")


def test_what_times_and_updates_are_to_is_named(page: str, study: optuna.Study) -> None:
    target = load(study).fits.steps.target
    assert target is not None
    assert "time over the budget [s]</th>" in page  # the study names no target
    assert f">Updates and samples to val_loss = {target:.4g}</h3>" in page


def test_settings_in_a_reason_stand_as_code(tmp_path: Path) -> None:
    page = write_report([example_data(0)], tmp_path / "report.html").path.read_text()
    assert "<code>measure: [update_norms]</code>" in page


@pytest.mark.slow
def test_what_a_figure_says_in_its_corner_stands_below_it(tmp_path: Path) -> None:
    data = example_data(60, devices=(1, 2, 4))
    said = [note for note in FIGURES["steps_to_target"](data).layout.annotations if note.name == SENTENCE]
    assert said
    page = write_report([data], tmp_path / "report.html").path.read_text()
    assert page.count(f"<p>{said[0].text.replace('<br>', ' ')}</p>") == 1
    specs = re.findall(r'<script type="application/json" data-plot="[^"]+">(.*?)</script>', page, flags=re.S)
    notes = [note for spec in specs for note in json.loads(spec)["layout"].get("annotations", [])]
    assert not [note for note in notes if note.get("name") == SENTENCE]
