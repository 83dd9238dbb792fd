"""Runs that were made elsewhere become a study."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from click.testing import Result

from bsopt.storage.databases import open_storage

Invoke = Callable[..., Result]

TABLE = """bs,eta,final_loss,optimizer,depth
32,0.01,0.5,sgd,3
64,0.02,0.4,adam,4
128,0.04,,sgd,3
128,0.05,nan,sgd,3
256,0.1,0.7,sgd,5
"""
MAPPED = ("--batch-size-column", "bs", "--lr-column", "eta", "--value-column", "final_loss")


def load(tmp_path: Path, name: str = "past") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=open_storage(f"sqlite:///{tmp_path}/bsopt.db"))


def test_rows_become_complete_trials(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(TABLE)
    params = ("--param", "optimizer", "--param", "depth=model.depth")
    result = invoke("study", "import", "runs.csv", "--study-name", "past", *MAPPED, *params)
    assert result.exit_code == 0, result.output
    assert re.findall(r"line (\d+)", result.output) == ["4", "5"]
    study = load(tmp_path)
    assert len(study.trials) == 3
    assert study.best_trial.params == {"batch_size": 64, "lr": 0.02, "optimizer": "adam", "model.depth": 4}
    assert study.best_value == 0.4
    assert json.loads(invoke("study", "show", "past", "--json").output)["best_trial"] == study.best_trial.number
    shown = invoke("study", "show", "past").output
    assert "model.depth 4" in shown
    assert "optimizer adam" in shown


def test_all_trials_share_their_ranges_so_that_samplers_see_one_space(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(TABLE)
    invoke("study", "import", "runs.csv", "--study-name", "past", *MAPPED)
    space = optuna.search_space.IntersectionSearchSpace().calculate(load(tmp_path))
    assert set(space) == {"batch_size", "lr"}


def test_export_imports_again(invoke: Invoke, finished: str, tmp_path: Path) -> None:
    invoke("study", "export", "done", "-o", "done.csv")
    assert invoke("study", "import", "done.csv", "--study-name", "again").exit_code == 0
    assert len(load(tmp_path, "again").trials) == 3  # the complete ones
    assert load(tmp_path, "again").best_params == load(tmp_path, "done").best_params


def test_existing_study_is_only_added_to_when_asked(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("batch_size;lr;value\n32;0.1;0.5\n64;0.2;0.4\n")
    assert invoke("study", "import", "runs.csv", "--study-name", "past").exit_code == 0
    again = invoke("study", "import", "runs.csv", "--study-name", "past")
    assert again.exit_code == 2
    assert "--append" in again.stderr
    (tmp_path / "more.csv").write_text("batch_size,lr,value\n32,0.15,0.3\n")
    assert invoke("study", "import", "more.csv", "--study-name", "past", "--append").exit_code == 0
    study = load(tmp_path)
    assert len(study.trials) == 3
    assert set(optuna.search_space.IntersectionSearchSpace().calculate(study)) == {"batch_size", "lr"}


def test_trials_that_optuna_pruned_or_failed_are_left_out(invoke: Invoke, tmp_path: Path) -> None:
    table = (
        "number,value,params_batch_size,params_lr,state\n"
        "0,0.5,32,0.1,COMPLETE\n1,0.1,64,0.2,PRUNED\n2,0.2,64,0.3,FAIL\n3,0.6,64,0.3,TrialState.PRUNED\n"
    )
    (tmp_path / "trials.csv").write_text(table)
    columns = ("--batch-size-column", "params_batch_size", "--lr-column", "params_lr")
    result = invoke("study", "import", "trials.csv", "--study-name", "past", *columns)
    assert result.exit_code == 0, result.output
    assert [trial.value for trial in load(tmp_path).trials] == [0.5]
    assert re.findall(r"left out: (.*)", result.output) == [
        "line 3: it is pruned",
        "line 4: it is fail",
        "line 5: it is pruned",
    ]


def test_state_of_a_finished_run_may_be_any_word(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("State,batch_size,lr,value\nfinished,32,0.1,0.5\ncrashed,64,0.2,0.4\n")
    invoke("study", "import", "runs.csv", "--study-name", "past")
    assert [trial.value for trial in load(tmp_path).trials] == [0.5]


def test_table_is_not_added_to_a_study_of_the_other_direction(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("batch_size,lr,value\n32,0.1,0.5\n")
    command = ("study", "import", "runs.csv", "--study-name", "past")
    invoke(*command, "--direction", "maximize")
    refused = invoke(*command, "--append", "--direction", "minimize")
    assert refused.exit_code == 2
    assert "--direction minimize, but the study 'past' has direction maximize" in refused.stderr
    assert len(load(tmp_path).trials) == 1
    assert invoke(*command, "--append").exit_code == 0
    assert len(load(tmp_path).trials) == 2


def test_table_is_not_added_to_a_study_of_several_objectives(invoke: Invoke, tmp_path: Path) -> None:
    optuna.create_study(study_name="two", storage=f"sqlite:///{tmp_path}/bsopt.db", directions=["minimize", "maximize"])
    (tmp_path / "runs.csv").write_text("batch_size,lr,value\n32,0.1,0.5\n")
    refused = invoke("study", "import", "runs.csv", "--study-name", "two", "--append")
    assert refused.exit_code == 2
    assert "2 objectives" in refused.stderr


def test_direction_is_kept(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("batch_size,lr,value\n32,0.1,0.5\n64,0.2,0.4\n")
    invoke("study", "import", "runs.csv", "--study-name", "past", "--direction", "maximize")
    assert load(tmp_path).best_value == 0.5


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "batchsize,lr,value\n1,1,1\n",
            "'batch_size'; it has batchsize, lr, value. Did you mean 'batchsize'?",
        ),
        ("batch_size,lr,value\n1.5,1,1\n", "line 2: batch_size"),
        ("batch_size,lr,value\n0,1,1\n", "line 2: batch_size"),
        ("batch_size,lr,value\n8,-1,1\n", "line 2: lr"),
        ("batch_size,lr,value\n8,fast,1\n", "'fast'"),
        ("batch_size,lr,value\n8,1,\n", "line 2: no finite value"),
        ("", "it has none"),
    ],
)
def test_table_that_can_not_be_read_is_refused(invoke: Invoke, tmp_path: Path, table: str, message: str) -> None:
    (tmp_path / "runs.csv").write_text(table)
    result = invoke("study", "import", "runs.csv", "--study-name", "past")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "bsopt.db").exists()


def test_missing_table_is_named(invoke: Invoke) -> None:
    result = invoke("study", "import", "nowhere.csv", "--study-name", "past")
    assert result.exit_code == 2
    assert "nowhere.csv" in result.stderr
