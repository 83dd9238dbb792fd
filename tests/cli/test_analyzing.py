"""`bsopt study analyze`, from a run to its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bsopt.cli.main import main

DESIGN = (
    "search={batch_size: {low: 8, high: 16}, lr: {low: 0.001, high: 1.0}}",
    "budget={trials: 0, epochs: 2}",
    "experiment={batch_sizes: [8, 16], reference_lr: 0.01, seeds: 2}",
    "checkpoints=all",
    "isolation=none",
)


def _bsopt(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def experiment(project: Path) -> Path:
    """Run a small experiment `toy` and return its folder."""
    sets = [part for override in DESIGN for part in ("--set", override)]
    result = _bsopt("study", "run", "study.yaml", *sets)
    assert result.exit_code == 0, result.output
    return project


@pytest.mark.slow
def test_verdicts_are_printed_and_figures_written(experiment: Path) -> None:
    arguments = ("study", "analyze", "toy", "--samples", "32", "--starts", "1", "--points", "3")
    first = _bsopt(*arguments)
    assert first.exit_code == 0, first.output
    assert "[16/16]" in first.output  # the last examination
    assert len(list((experiment / "runs" / "toy" / "figures").glob("*.html"))) >= 17
    again = _bsopt(*arguments, "--json")
    assert again.exit_code == 0, again.output
    found = json.loads(again.stdout)
    assert len(found["runs"]) == 10
    assert {verdict["outcome"] for verdict in found["verdicts"]} == {"can't tell"}  # two seeds
    assert len(found["analyses"]) == 16


@pytest.mark.slow
def test_weights_that_cannot_be_examined_cost_only_what_needs_them(project: Path) -> None:
    code = (
        (project / "toy.py")
        .read_text(encoding="utf-8")
        .replace(
            'self.log("train_loss"',
            'self.lr_schedulers().get_last_lr() if self.hparams.schedule else None\n        self.log("train_loss"',
        )
    )
    (project / "toy.py").write_text(code, encoding="utf-8")
    sets = [part for override in (*DESIGN, "task.model.init_args.schedule=multistep") for part in ("--set", override)]
    assert _bsopt("study", "run", "study.yaml", *sets).exit_code == 0
    result = _bsopt("study", "analyze", "toy", "--samples", "32", "--starts", "1", "--points", "3")
    assert result.exit_code == 2
    assert "24 can't tell" in result.stdout
    assert (project / "runs" / "toy" / "figures" / "experiment_loss.html").exists()
    assert "not all weights could be examined" in result.stderr
    assert "move what needs one into a hook" in result.stderr


@pytest.mark.slow
def test_an_interrupted_examination_says_that_it_goes_on(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    sets = [part for override in DESIGN for part in ("--set", override)]
    assert _bsopt("study", "run", "study.yaml", *sets, "--set", "experiment.seeds=1").exit_code == 0
    monkeypatch.setattr("bsopt.experiment.analyzing._work", interrupted)
    result = _bsopt("study", "analyze", "toy")
    assert result.exit_code == 130
    assert "the same command goes on" in result.stderr


@pytest.mark.slow
def test_a_study_without_an_experiment_is_told(project: Path) -> None:
    sets = ("--set", "budget.trials=1", "--set", "isolation=none")
    assert _bsopt("study", "run", "study.yaml", *sets).exit_code == 0
    result = _bsopt("study", "analyze", "toy")
    assert result.exit_code == 2
    assert "'toy'" in result.stderr
