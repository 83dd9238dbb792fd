"""Which files of a study are kept where."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.artifacts import get_all_artifact_meta

from bsopt.config import LoadedConfig, StudyConfig
from bsopt.errors import ConfigError
from bsopt.storage.databases import open_storage
from bsopt.study.files import StudyFiles, check_writable
from bsopt.study.study import Study
from bsopt.trial.record import StopReason, TrialRecord

Load = Callable[..., LoadedConfig]


@pytest.fixture
def files_of(configure: Callable[..., StudyConfig]) -> Callable[..., StudyFiles]:
    """Return a function that makes the files of a study with five trials, each with a log and weights."""

    def make(checkpoints: Any, **blocks: Any) -> StudyFiles:
        study = optuna.create_study()
        for value in range(5):
            study.add_trial(optuna.trial.create_trial(value=float(value)))
        files = StudyFiles(study, configure(checkpoints=checkpoints, **blocks))
        for number in range(5):
            files.folder_of(number).mkdir(parents=True)
            (files.folder_of(number) / "log.txt").write_text("said")
            for kind in ("initial", "best"):
                (files.folder_of(number) / f"{kind}.ckpt").write_text(f"{kind} of {number}")
        return files

    return make


def records(*values: tuple[int, float | None]) -> list[TrialRecord]:
    """Return a record for each batch size and value."""
    return [
        TrialRecord(number, "complete", batch_size=size, stop_reason=StopReason.COMPLETED, value=value)
        for number, (size, value) in enumerate(values)
    ]


RECORDS = records((8, 3.0), (8, 1.0), (16, 5.0), (16, 2.0), (32, 4.0))
LARGER_IS_BETTER = {"monitor": "val_acc", "direction": "maximize"}


@pytest.mark.parametrize(
    ("policy", "objective", "kept"),
    [
        ("finalists", {}, {0, 1, 3}),
        ("finalists", LARGER_IS_BETTER, {0, 2, 4}),
        ("best_per_batch_size", {}, {1, 3, 4}),
        ("best_per_batch_size", LARGER_IS_BETTER, {0, 2, 4}),
        ("all", {}, {0, 1, 2, 3, 4}),
    ],
)
def test_weights_of_trials_that_the_policy_leaves_out_are_dropped(
    files_of: Callable[..., StudyFiles], policy: str, objective: dict[str, Any], kept: set[int]
) -> None:
    files = files_of(policy, objective=objective)
    files.drop(RECORDS)
    assert {number for number in range(5) if (files.folder_of(number) / "best.ckpt").exists()} == kept
    assert all((files.folder_of(number) / "log.txt").exists() for number in range(5))


def test_a_trial_without_a_value_keeps_what_it_has(files_of: Callable[..., StudyFiles]) -> None:
    files = files_of("finalists")
    files.drop(records((8, None), (8, 4.0), (8, 3.0), (8, 2.0), (8, 1.0)))
    assert [n for n in range(5) if (files.folder_of(n) / "best.ckpt").exists()] == [0, 2, 3, 4]


def test_only_the_kinds_that_are_kept_are_dropped_and_uploaded(files_of: Callable[..., StudyFiles]) -> None:
    files = files_of({"trials": "finalists", "keep": ["best"]})
    files.drop(RECORDS)
    files.upload_kept(RECORDS)
    assert (files.folder_of(2) / "initial.ckpt").exists()  # not ours
    assert files.artifacts.find("trial-0001-best.ckpt") is not None
    assert files.artifacts.find("trial-0002-best.ckpt") is None


def test_weights_are_found_in_the_folder_and_then_in_the_store(files_of: Callable[..., StudyFiles]) -> None:
    files = files_of("finalists")
    files.drop(RECORDS)
    files.upload_kept(RECORDS)
    assert files.weights_of(1) == files.folder_of(1) / "best.ckpt"
    (files.folder_of(1) / "best.ckpt").unlink()
    stored = files.weights_of(1)
    assert stored is not None
    assert stored.read_text() == "best of 1"
    assert files.weights_of(2) is None
    assert files.weights_of(1, "last") is None


def test_logs_and_every_trials_weights_go_to_the_store_before_it_is_told(
    configure: Callable[..., StudyConfig],
) -> None:
    study = optuna.create_study()
    files = StudyFiles(study, configure(checkpoints="all"))
    trial = study.ask()
    files.keep(trial)  # there is nothing yet
    folder = files.folder_of(0)
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("said")
    (folder / "best.ckpt").write_text("weights")
    files.keep(trial)
    study.tell(trial, 1.0)
    frozen = study.trials[0]
    found = files.artifacts.find("log.txt", frozen)
    assert found is not None
    assert found.read_text() == "said"
    weights = files.weights_of(0)
    assert weights is not None
    assert weights.read_text() == "weights"
    assert not (folder / "best.ckpt").exists()


def test_a_retry_goes_on_from_its_first_trys_file(configure: Callable[..., StudyConfig], tmp_path: Path) -> None:
    files = StudyFiles(optuna.create_study(), configure())
    assert files.resume_file(7) == tmp_path / "out" / "trials" / "0007" / "resume.ckpt"


def test_a_retry_that_goes_on_from_a_state_keeps_the_weights_of_the_tries_before(
    configure: Callable[..., StudyConfig],
) -> None:
    study = optuna.create_study()
    files = StudyFiles(study, configure(checkpoints={"trials": "all", "keep": ["initial", "best"]}, resume=True))
    first = study.ask()
    for kind in ("initial", "best", "matched"):
        files.folder_of(0).mkdir(parents=True, exist_ok=True)
        (files.folder_of(0) / f"{kind}.ckpt").write_text(f"{kind} of 0")
    files.take_over(first)
    files.keep(first)
    study.tell(first, state=optuna.trial.TrialState.FAIL)
    for number in (1, 2):
        study.enqueue_trial({}, user_attrs={"bsopt:retry_of": 0})
        retry = study.ask()
        files.take_over(retry)
        assert files.weights_of(number, "initial") is None  # it begins anew
    files.resume_file(0).write_text("state")
    files.folder_of(1).mkdir(parents=True)
    (files.folder_of(1) / "best.ckpt").write_text("best of 1")  # the host was killed: nothing was uploaded
    files.take_over(retry)
    files.keep(retry)
    kept = {kind: files.weights_of(2, kind) for kind in ("initial", "best", "matched")}
    assert {kind: path.read_text() for kind, path in kept.items() if path} == {
        "initial": "initial of 0",
        "best": "best of 1",
        "matched": "matched of 0",
    }


def test_an_output_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder").is_dir()
    if os.geteuid() == 0:
        place = Path("/proc/nowhere")
    else:
        place = tmp_path / "locked"
        place.mkdir(mode=0o500)
    with pytest.raises(ConfigError, match="can't write to the output folder"):
        check_writable(place / "out")


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "kept"), [("none", 0), ("finalists", 3), ("all", 4)])
def test_checkpoints_are_kept_by_policy(load: Load, policy: str, kept: int) -> None:
    study = Study.create(load(f"checkpoints={policy}"))
    study.run()
    assert sum(study.files.weights_of(r.number) is not None for r in study.records) == kept
    listed = get_all_artifact_meta(study.optuna) if policy != "all" else []
    for trial in study.optuna.trials:
        listed += get_all_artifact_meta(trial, storage=open_storage(study.config.storage))
    assert sum(meta.filename.endswith("best.ckpt") for meta in listed) == kept


def test_initial_best_and_last_weights_are_kept(load: Load) -> None:
    study = Study.create(load("checkpoints={trials: all, keep: [initial, best, last]}", "budget.trials=1"))
    study.run()
    weights = {}
    for kind in ("initial", "best", "last"):
        path = study.files.weights_of(0, kind)
        assert path is not None
        weights[kind] = torch.load(path, weights_only=True)["state_dict"]["net.weight"]
    assert not torch.equal(weights["initial"], weights["last"])
    assert torch.equal(weights["best"], weights["last"])  # the toy's loss falls to the end


@pytest.mark.slow
def test_the_best_checkpoint_of_each_batch_size_is_kept(load: Load) -> None:
    study = Study.create(load("checkpoints=best_per_batch_size", "budget.trials=6", "search.batch_size.high=8"))
    study.run()
    sizes = {r.batch_size for r in study.records}
    assert len(list(Path("runs/toy/trials").glob("*/best.ckpt"))) == len(sizes)
