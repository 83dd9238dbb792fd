"""`bsopt study show`: at any width, why trials failed, and one trial in full."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import Result
from rich.console import Console

from bsopt.cli.terminal import tables

Invoke = Callable[..., Result]

pytestmark = pytest.mark.usefixtures("finished")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_outcome_is_cut_in_a_narrow_terminal(invoke: Invoke, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def narrow(**options: object) -> Console:
        return Console(force_terminal=True, color_system=None, width=width, highlight=False)

    monkeypatch.setattr(tables, "Console", narrow)
    lines = invoke("study", "show", "done").output.split("\n\n")[1].splitlines()
    table = " ".join(" ".join(lines).split())
    for ending in ("completed", "converged", "pruned hopeless", "failed", "interrupted"):
        assert ending in table
    assert "…" not in table
    assert max(map(len, lines)) <= width
    assert ("curve" in table) == (width > 80)


def test_why_trials_failed_is_listed(invoke: Invoke) -> None:
    output = invoke("study", "show", "done").output
    assert "Why trials failed:\n  trial 3: failed: the loss exploded\n  trial 4: interrupted\n" in output


def test_what_to_do_next_is_told_with_names_quoted_for_the_shell(invoke: Invoke, finished: str) -> None:
    import optuna

    from bsopt.storage.databases import open_storage

    output = invoke("study", "show", "done").output  # an interrupted trial is to be run again
    assert "Next: bsopt study run study.yaml   (goes on: 1 of its 6 trials are left)\n" in output
    assert "\n      bsopt study recommend done\n" in output
    study = optuna.create_study(study_name="my study; rm x", storage=open_storage(finished))
    study.optimize(lambda trial: trial.suggest_int("batch_size", 8, 16) * trial.suggest_float("lr", 0.1, 1), n_trials=1)
    assert "Next: bsopt study recommend 'my study; rm x'\n" in invoke("study", "show", "my study; rm x").output


def test_one_trial_is_shown_in_full(invoke: Invoke) -> None:
    output = invoke("study", "show", "done", "--trial", "5").output
    facts = dict(line.split("  ", 1) for line in output.splitlines() if "  " in line and not line.startswith("Next"))
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    assert facts["ended"] == "completed"
    assert facts["batch size"] == "256"
    assert facts["realised as"].endswith("memory allows 64")
    assert facts["val_loss"] == "0.25"
    assert facts["best val_loss"] == "0.25 at epoch 3, update 12"
    assert facts["throughput"] == "2,000 samples/s"
    assert "bsopt study train done --trial 5" in output
    assert "the loss exploded" in invoke("study", "show", "done", "--trial", "3").output


def test_one_trial_as_json_is_its_record(invoke: Invoke) -> None:
    record = json.loads(invoke("study", "show", "done", "--trial", "3", "--json").output)
    assert (record["number"], record["message"]) == (3, "the loss exploded")


def test_a_trial_that_is_not_there_is_told(invoke: Invoke) -> None:
    result = invoke("study", "show", "done", "--trial", "99")
    assert result.exit_code == 2
    assert "there is no trial 99 in this study: its trials are 0 to 5." in result.stderr
