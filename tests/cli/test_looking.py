"""What people and programs see of a study."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from click.testing import Result

from bsopt.storage.databases import open_storage

Invoke = Callable[..., Result]

pytestmark = pytest.mark.usefixtures("finished")


def test_show_tells_the_best_and_every_trial(invoke: Invoke) -> None:
    output = invoke("study", "show", "done").output
    first, _, _, _, best, plan, *_ = output.splitlines()
    assert re.findall(r"[\d.]+", first) == ["6", "6", "3", "1", "2"]  # of 6, complete, pruned, failed
    assert re.findall(r"[\d.]+", best) == ["256", "0.32", "0.25", "5"]
    assert re.findall(r"[\d.]+", plan) == ["64", "4", "256", "64"]
    for ending in ("completed", "converged", "pruned hopeless", "failed", "interrupted"):
        assert ending in output


def test_the_only_study_needs_no_name(invoke: Invoke) -> None:
    assert invoke("study", "show").output == invoke("study", "show", "done").output
    assert invoke("study", "show", "--study-name", "done").exit_code == 0


def test_several_studies_need_a_name(invoke: Invoke, finished: str) -> None:
    optuna.create_study(study_name="other", storage=open_storage(finished))
    result = invoke("study", "show")
    assert result.exit_code == 2
    assert "done, other" in result.stderr


def test_unknown_study_suggests_the_nearest(invoke: Invoke) -> None:
    result = invoke("study", "show", "dome")
    assert result.exit_code == 2
    assert "'dome'" in result.stderr
    assert "Did you mean 'done'?" in result.stderr


def test_show_as_json_is_valid_and_complete(invoke: Invoke) -> None:
    document = json.loads(invoke("study", "show", "--json").output, parse_constant=pytest.fail)
    assert document["best_trial"] == 5
    assert document["study"]["name"] == "done"
    assert [trial["number"] for trial in document["trials"]] == list(range(6))
    assert document["trials"][3]["ticks"][0]["value"] is None


def test_top_shows_the_best_complete_trials_first(invoke: Invoke) -> None:
    document = json.loads(invoke("study", "show", "--json", "--top", "2").output)
    assert [trial["number"] for trial in document["trials"]] == [5, 1]


def test_study_without_trials_is_shown(invoke: Invoke, finished: str) -> None:
    optuna.create_study(study_name="empty", storage=open_storage(finished))
    assert invoke("study", "show", "empty").exit_code == 0
    assert json.loads(invoke("study", "show", "empty", "--json").output)["best_trial"] is None


def test_foreign_study_is_shown(invoke: Invoke, finished: str) -> None:
    study = optuna.create_study(study_name="foreign", storage=open_storage(finished), direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("lr", 0.1, 1) * trial.suggest_int("batch_size", 8, 16), n_trials=3)
    result = invoke("study", "show", "foreign")
    assert result.exit_code == 0
    assert f"(trial {study.best_trial.number})" in result.output


def test_list_shows_each_study_in_a_line(invoke: Invoke, finished: str) -> None:
    optuna.create_study(study_name="other", storage=open_storage(finished))
    lines = invoke("study", "list").output.splitlines()
    assert lines[1].split() == ["done", "6", "3", "1", "2", "val_loss", "0.25", "256", "0.32"]
    assert lines[2].split()[0] == "other"
    studies = json.loads(invoke("study", "list", "--json").output)
    assert [study["name"] for study in studies] == ["done", "other"]
    assert studies[0]["best_lr"] == 0.32


def test_table_lines_in_a_pipe_are_never_cut(invoke: Invoke, finished: str) -> None:
    name = "a-study-with-a-name-that-is-longer-than-any-terminal-is-wide-" * 3
    optuna.create_study(study_name=name, storage=open_storage(finished))
    assert name in invoke("study", "list").output


def test_export_writes_a_flat_row_for_each_trial(invoke: Invoke) -> None:
    rows = list(csv.DictReader(io.StringIO(invoke("study", "export").output)))
    assert len(rows) == 6
    assert rows[5]["batch_size"] == "256"
    assert rows[5]["plan.accumulate_grad_batches"] == "4"
    assert rows[5]["best.epoch"] == "3.0"
    assert rows[2]["stop_reason"] == "pruned_hopeless"
    assert rows[3]["value"] == ""
    assert rows[3]["message"] == "the loss exploded"


def test_export_of_curves_has_a_row_for_each_validation(invoke: Invoke) -> None:
    rows = json.loads(invoke("study", "export", "--curves", "--format", "json").output)
    assert len(rows) == 4 * 3 + 2
    assert rows[0]["metrics.val_acc"] == 0.1
    assert rows[-1]["batch_size"] == 256


def test_export_chooses_the_format_by_the_file(invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("study", "export", "-o", "t.json").exit_code == 0
    assert len(json.loads((tmp_path / "t.json").read_text())) == 6
    result = invoke("study", "export", "-o", "no/such/folder/t.csv")
    assert result.exit_code == 2
    assert "no/such/folder/t.csv" in result.stderr


def test_delete_asks_and_obeys(invoke: Invoke, finished: str) -> None:
    def names() -> list[str]:
        return optuna.get_all_study_names(open_storage(finished))

    assert invoke("study", "delete", "done", stdin="n\n").exit_code == 0
    assert invoke("study", "delete", "done", stdin="").exit_code == 130
    assert names() == ["done"]
    assert invoke("study", "delete", "done", stdin="y\n").exit_code == 0
    assert names() == []


def test_delete_with_yes_does_not_ask(invoke: Invoke, finished: str) -> None:
    assert invoke("study", "delete", "done", "--yes", stdin="").exit_code == 0
    assert optuna.get_all_study_names(open_storage(finished)) == []


def test_storage_may_come_from_the_environment(
    invoke: Invoke, finished: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert invoke("study", "show").exit_code == 2
    monkeypatch.setenv("BSOPT_STORAGE", finished)
    assert invoke("study", "show").exit_code == 0


def test_report_is_written_into_the_studys_folder(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("study", "report", "done")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "done" in page
    assert invoke("study", "report", "-o", "bsopt.db/r.html").exit_code == 2


def test_plot_writes_the_named_figure(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("study", "plot", "done", "-f", "learning_curves", "-o", "curves.html")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "curves.html").stat().st_size > 10_000
    assert "learning_curves" in invoke("study", "plot", "--list").output


@pytest.mark.browser
@pytest.mark.slow
def test_plot_writes_all_figures_as_pictures(invoke: Invoke, tmp_path: Path) -> None:
    pytest.importorskip("kaleido", reason="kaleido isn't installed")
    result = invoke("study", "plot", "done", "--format", "svg", "--dark", "-o", "pictures")
    assert result.exit_code == 0, result.output
    pictures = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "pictures").iterdir()}
    assert {"answer.svg", "interaction.svg", "learning_curves.svg"} <= pictures.keys()
    assert all("updatemenu-button" not in picture for picture in pictures.values())
    assert "rgb(21, 23, 27)" in pictures["interaction.svg"]
    assert "Nothing was measured yet for: " in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-f", "learning_curve"], "Did you mean 'learning_curves'?"),
        (["-o", "all.html"], "all.html"),
        (["-f", "learning_curves", "-o", "x.gif"], ".html, .png, .svg, .pdf"),
        (["-f", "learning_curves", "-o", "x.svg", "--format", "png"], "leave one of the two out"),
    ],
)
def test_wrong_plot_is_refused(invoke: Invoke, arguments: list[str], message: str) -> None:
    result = invoke("study", "plot", "done", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.slow
def test_dashboard_publishes_without_serving(invoke: Invoke, finished: str) -> None:
    dashboard = pytest.importorskip("optuna_dashboard")
    result = invoke("dashboard", "done", "--publish-only")
    assert result.exit_code == 0, result.output
    study = optuna.load_study(study_name="done", storage=open_storage(finished))
    assert "batch size" in dashboard.get_note(study)


def test_dashboard_needs_a_storage(invoke: Invoke) -> None:
    assert invoke("dashboard", "--storage", "sqlite:///nowhere.db").exit_code == 2
    assert invoke("dashboard", "x").exit_code == 2


@pytest.mark.slow
def test_output_that_knows_no_unicode_is_no_error(finished: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "bsopt", "study", "show", "done"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert result.returncode == 0, result.stderr
    assert "val_loss" in result.stdout


@pytest.mark.slow
def test_a_name_is_neither_a_path_nor_an_order_to_the_terminal(finished: str, invoke: Invoke, tmp_path: Path) -> None:
    name = "../[red]x\x1b]0;title\x07"
    optuna.create_study(study_name=name, storage=open_storage(finished))
    listed = invoke("study", "list")
    assert "../[red]x" in listed.output
    for command in (["list"], ["show", name], ["show", "nowhere\x1b[31m"], ["report", name]):
        shown = invoke("study", *command)
        assert "\x1b" not in shown.output + shown.stderr, command
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["__red_x__0_title_"]
