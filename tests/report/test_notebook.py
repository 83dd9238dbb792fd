"""What a notebook shows of an answer and of a report."""

from __future__ import annotations

import os
from pathlib import Path

import optuna
import pytest

import bsopt
from bsopt.testing.study import example_data


def test_answer_shows_itself_in_a_notebook(study: optuna.Study) -> None:
    found = bsopt.recommend(study)
    shown = found._repr_html_()
    assert found.sentence.split(":")[0] in shown
    assert "<li>" in shown
    assert "batch_size:" in shown


def test_text_of_others_is_escaped_there(study: optuna.Study) -> None:
    evil = example_data(0, name="<script>alert(1)</script>")
    assert "<script>" not in evil.recommendation._repr_html_()


@pytest.mark.slow
def test_report_is_a_path_and_a_page_in_a_frame(
    study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = bsopt.write_report(study)
    assert report.path == Path("runs/digits/report.html")  # in the study's own folder
    assert os.fspath(report) == str(report) == str(report.path)
    shown = report._repr_html_()
    assert '<iframe src="runs/digits/report.html"' in shown
    assert report.answers[0].sentence.split(":")[0] in shown
    elsewhere = bsopt.write_report(study, tmp_path.parent / "a b.html")
    assert 'src="file:///' in elsewhere._repr_html_()
    assert "a%20b.html" in elsewhere._repr_html_()
