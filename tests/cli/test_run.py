"""Studies run, continue and end from the command line, on a real training of the diabetes study."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bsopt.cli.commands.probe import _line
from bsopt.cli.main import main
from bsopt.training.probe.probe import ProbeRow

QUICK = ("--set", "budget.epochs=2", "--set", "search.batch_size.low=32", "--set", "pruning=none")
Bsopt = Callable[..., Result]


def events(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the diabetes study, which the tests of this file share."""
    path = tmp_path_factory.mktemp("run")
    subprocess.run([sys.executable, "-m", "bsopt", "init", str(path / "d"), "--study", "diabetes"], check=True)
    return path


@pytest.fixture(scope="module")
def bsopt(folder: Path) -> Iterator[Bsopt]:
    """Run a command there, with trials in this process where it runs any: PyTorch is imported once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))

        def run(*arguments: str) -> Result:
            has_trials = arguments[1] in ("run", "check")
            return CliRunner().invoke(main, [*arguments, *(("--set", "isolation=none") if has_trials else ())])

        yield run


@pytest.fixture(scope="module")
def first_run(bsopt: Bsopt) -> Result:
    """A study of two trials, told as JSON."""
    return bsopt("study", "run", "d/study.yaml", *QUICK, "--set", "budget.trials=2", "--json")


def test_run_ends_with_0_and_tells_every_event_as_json(first_run: Result) -> None:
    assert first_run.exit_code == 0, first_run.stderr
    told = events(first_run.stdout)
    kinds = [event["event"] for event in told]
    assert kinds[0] == "study_started"
    assert kinds.count("trial_ended") == 2
    assert kinds.count("tick") == 4
    assert told[-1]["ended"] == "finished"
    assert told[-1]["num_complete"] == 2


def test_finished_study_says_so_and_changes_nothing(bsopt: Bsopt, first_run: Result, folder: Path) -> None:
    before = bsopt("study", "export", "diabetes").stdout
    again = bsopt("study", "run", "d/study.yaml", *QUICK, "--set", "budget.trials=2", "--json")
    assert again.exit_code == 0, again.stderr
    (*_, last) = events(again.stdout)
    assert (last["ended"], last["num_new"], last["num_complete"]) == ("nothing_to_do", 0, 2)
    assert bsopt("study", "export", "diabetes").stdout == before


def test_larger_total_continues_in_plain_lines(bsopt: Bsopt, first_run: Result) -> None:
    result = bsopt("study", "run", "d/study.yaml", *QUICK, "--set", "budget.trials=3")
    assert result.exit_code == 0, result.stderr
    assert "2 of 3 trials done" in result.stdout
    assert "trial 2: completed" in result.stdout
    assert "trial 0:" not in result.stdout
    assert "Best: batch size" in result.stdout
    assert "\x1b" not in result.stdout


def test_changed_search_space_is_refused_with_what_changed(bsopt: Bsopt, first_run: Result) -> None:
    result = bsopt("study", "run", "d/study.yaml", *QUICK, "--set", "search.lr.high=0.5")
    assert result.exit_code == 2
    assert "search.lr.high: it was 0.1, now 0.5" in result.stderr


def test_train_keeps_a_checkpoint_of_the_best(bsopt: Bsopt, first_run: Result, folder: Path) -> None:
    result = bsopt("study", "train", "diabetes")
    assert result.exit_code == 0, result.stderr
    path = result.stdout.split("checkpoint: ")[1].strip()
    assert (folder / path).is_file()


def test_study_without_a_successful_trial_ends_with_1(bsopt: Bsopt) -> None:
    absurd = ("--set", "search.lr={low: 1e+30, high: 1e+35}", "--set", "budget.trials=1")
    result = bsopt("study", "run", "d/study.yaml", "--study-name", "diverging", *QUICK, *absurd)
    assert result.exit_code == 1, result.stderr
    assert "trial 0: diverged" in result.stdout


def test_check_prints_everything_and_leaves_no_study(bsopt: Bsopt) -> None:
    result = bsopt("study", "check", "d/study.yaml", "--study-name", "checked")
    assert result.exit_code == 0, result.stderr
    for part in ("353", "DiabetesMLP", "pruning.patience", "5 epochs", "bsopt study run d/study.yaml"):
        assert part in result.stdout
    assert "64  in one pass" in result.stdout
    assert "checked" not in bsopt("study", "list").stdout


def test_check_as_json(bsopt: Bsopt) -> None:
    result = bsopt(
        "study", "check", "d/study.yaml", "--study-name", "x", "--json", "--set", "search.batch_size.high=512"
    )
    assert result.exit_code == 2
    report = json.loads(result.stdout)
    assert any("the training set has 353 samples: set it to 256" in problem for problem in report["problems"])
    assert [4, "4"] in report["plans"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task.model.class_path=nowhere.Net"], "nowhere"),
        (["task.model.class_path=model.Nett"], "has no 'Nett'"),
        (["task.model.init_args.widht=3"], "Did you mean 'width'?"),
        (["task.data.class_path=model.DiabetesMLP"], "no argument 'batch_size'"),
        (["search.lr.low=1.0"], "search.lr"),
        (["trainer.acelerator=cpu"], "acelerator"),
        (["storage=sqlite:////dev/null/x.db"], "storage"),
    ],
)
def test_mistakes_are_found_before_training(bsopt: Bsopt, overrides: list[str], message: str) -> None:
    sets = [part for override in overrides for part in ("--set", override)]
    result = bsopt("study", "check", "d/study.yaml", "--study-name", "wrong", *sets)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_metric_that_is_never_logged_ends_with_2_and_lists_those_that_are(bsopt: Bsopt) -> None:
    result = bsopt(
        "study", "run", "d/study.yaml", "--study-name", "metric", *QUICK, "--set", "objective.monitor=val_los"
    )
    assert result.exit_code == 2
    assert "val_los" in result.stderr
    assert "val_mae" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_ctrl_c_keeps_what_there_is_and_the_same_command_continues(bsopt: Bsopt, folder: Path) -> None:
    study = ("study", "run", "d/study.yaml", "--study-name", "stopped", "--json", "--set", "pruning=none")
    command = [sys.executable, "-m", "bsopt", *study, "--set", "budget.trials=1", "--set", "budget.epochs=100"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "tick":
            break
    process.send_signal(signal.SIGINT)
    rest = events(process.communicate(timeout=60)[0])
    assert process.returncode == 130
    assert rest[-1]["ended"] == "interrupted"
    (trial,) = json.loads(bsopt("study", "show", "stopped", "--json").stdout)["trials"]
    assert trial["stop_reason"] == "interrupted"
    assert trial["ticks"], "the curve so far was lost"
    again = bsopt(*study, "--set", "budget.trials=1", "--set", "budget.epochs=100")
    assert again.exit_code == 0, again.stderr
    (ended,) = (event for event in events(again.stdout) if event["event"] == "trial_ended")
    assert ended["params"] == trial["params"]


@pytest.mark.slow
def test_probe_measures_and_leaves_no_study(bsopt: Bsopt) -> None:
    result = bsopt("probe", "d/study.yaml", "--json", "--set", "search.batch_size={low: 16, high: 64}")
    assert result.exit_code == 0, result.stderr
    *measured, final = events(result.stdout)
    assert [row["micro_batch_size"] for row in measured] == [16, 64]
    assert all(row["seconds_per_step"] > 0 for row in measured)
    assert final["max_micro_batch_size"] == 64


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        (ProbeRow(64, "ok", 9, 0.004, 2**27, None), ["64", "4 ms", "16,000", "128 MiB"]),
        (
            ProbeRow(256, "over", 9, 0.01, 2**31, 2**30),
            ["256", "10 ms", "25,600", "2.00 GiB", "above what it may use"],
        ),
        (ProbeRow(1024, "out_of_memory"), ["1024", "–", "–", "–", "out of memory"]),
    ],
)
def test_probe_shows_a_line_for_each_measurement(row: ProbeRow, shown: list[str]) -> None:
    assert re.split(r"  +", _line(row).strip()) == shown
