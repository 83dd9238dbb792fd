"""Whether a stored study is the one that a study file describes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from bsopt.config import StudyConfig
from bsopt.errors import ConfigError, StudyError
from bsopt.storage.attributes import write_info
from bsopt.storage.databases import open_storage
from bsopt.study.compatibility import check_unchanged, find, find_or_make, info_of, is_same, stored_limit
from bsopt.trial.plan import Limits
from bsopt.trial.spec import TaskDescription

Configure = Callable[..., StudyConfig]
BUDGET = {"trials": 4, "epochs": 3}
EXPERIMENT = {"batch_sizes": [4, 8], "reference_lr": 0.01, "arms": ["fixed_lr"]}


@pytest.fixture
def stored(configure: Configure, description: TaskDescription) -> Callable[..., optuna.Study]:
    """Return a function that stores a study of a configuration."""

    def store(**blocks: Any) -> optuna.Study:
        study = optuna.create_study()
        write_info(study, info_of(configure(**blocks), description, Limits(), file=Path("study.yaml")))
        return study

    return store


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"budget": {"trials": 4, "epochs": 5}}, r"budget\.epochs: it was 3\.0, now 5\.0"),
        ({"budget": {**BUDGET, "validate_every": "48 samples"}}, r"budget\.validate_every: it was '1 epoch'"),
        ({"search": {"batch_size": {"low": 4, "high": 64}, "lr": {"low": 0.001, "high": 0.3}}}, r"batch_size\.high"),
        ({"task": {"model": "nowhere.Other", "data": "nowhere.Data"}}, r"task\.model\.class_path"),
        ({"objective": {"monitor": "val_acc", "direction": "maximize"}}, r"objective\.direction"),
        ({"seed": 1}, "seed: it was 0, now 1"),
        ({"trainer": {"gradient_clip_val": 1.0}}, r"trainer\.gradient_clip_val: it was None, now 1\.0"),
    ],
)
def test_what_would_make_trials_incomparable_is_refused_by_name(
    stored: Callable[..., optuna.Study], configure: Configure, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(StudyError, match=words):
        check_unchanged(stored(), configure(**change))


@pytest.mark.parametrize(
    "change",
    [
        {"budget": {"trials": 9, "epochs": 3, "time": "1 h"}},
        {"workers": 2},
        {"pruning": "plateau"},
        {"confirm_seeds": 3},
        {"trainer": {"devices": 2, "accelerator": "cpu", "logger": True}},
        {"experiment": EXPERIMENT},
    ],
)
def test_what_leaves_trials_comparable_may_change(
    stored: Callable[..., optuna.Study], configure: Configure, change: dict[str, Any]
) -> None:
    check_unchanged(stored(), configure(**change))


def test_a_designs_patience_may_not_change_but_its_seeds_may(
    stored: Callable[..., optuna.Study], configure: Configure
) -> None:
    study = stored(experiment=EXPERIMENT)
    check_unchanged(study, configure(experiment={**EXPERIMENT, "seeds": 9}))
    with pytest.raises(StudyError, match=r"experiment\.patience: it was '100 epochs', now '7 epochs'"):
        check_unchanged(study, configure(experiment={**EXPERIMENT, "patience": "7 epochs"}))


def test_a_foreign_study_with_trials_is_refused(configure: Configure) -> None:
    foreign = optuna.create_study()
    check_unchanged(foreign, configure())
    foreign.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(StudyError, match="bsopt didn't make"):
        check_unchanged(foreign, configure())


@pytest.mark.parametrize(
    ("objective", "direction"),
    [
        ({}, "MINIMIZE"),
        ({"monitor": "val_acc", "direction": "maximize"}, "MAXIMIZE"),
        ({"monitor": "val_acc", "direction": "maximize", "target": 0.9, "cost": "seconds"}, "MINIMIZE"),
    ],
)
def test_a_study_is_made_once_with_the_direction_of_its_values(
    configure: Configure, tmp_path: Path, objective: dict[str, Any], direction: str
) -> None:
    config = configure(storage=f"journal://{tmp_path}/journal.log", objective=objective)
    assert find(config, open_storage(config.storage)) is None
    assert find_or_make(config).direction.name == direction
    found = find(config, open_storage(config.storage))
    assert found is not None
    assert found.study_name == find_or_make(config).study_name == config.name


def test_a_study_that_a_refused_run_left_empty_takes_the_corrected_direction(
    configure: Configure, tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path / 'bsopt.db'}"
    assert find_or_make(configure(storage=storage)).direction.name == "MINIMIZE"
    corrected = configure(storage=storage, objective={"monitor": "val_acc", "direction": "maximize"})
    assert find_or_make(corrected).direction.name == "MAXIMIZE"


def test_an_empty_study_of_somebody_else_with_another_direction_is_left_alone(
    configure: Configure, tmp_path: Path
) -> None:
    config = configure(storage=f"sqlite:///{tmp_path / 'bsopt.db'}")
    theirs = optuna.create_study(study_name=config.name, storage=config.storage, direction="maximize")
    theirs.set_user_attr("owner", "someone")
    with pytest.raises(StudyError, match="another direction than minimize: choose another name"):
        find_or_make(config)
    assert theirs.user_attrs == {"owner": "someone"}


def test_a_probed_limit_is_known_again_on_the_same_devices_under_the_same_limits(
    configure: Configure, description: TaskDescription
) -> None:
    config = configure(limits={"memory": "1 GiB"})
    info = info_of(config, description, Limits(max_micro_batch_size=16), file=Path("study.yaml"))
    assert stored_limit(info, config, description) == 16
    assert stored_limit(info, configure(limits={"memory": "2 GiB"}), description) is None
    assert stored_limit(info, config, replace(description, device="NVIDIA H200")) is None
    assert stored_limit(info, config, replace(description, num_devices=2)) is None


def test_versions_and_hardware_alone_make_no_other_study(configure: Configure, description: TaskDescription) -> None:
    info = info_of(configure(), description, Limits(), file=Path("study.yaml"))
    elsewhere = info_of(configure(), replace(description, versions={"torch": "9.9"}), Limits(), file=Path("study.yaml"))
    assert info != elsewhere
    assert is_same(info, elsewhere)
    assert not is_same(info, replace(info, num_trials=9))


def test_what_batches_are_counted_in_is_known_by_how_many_an_epoch_has(
    configure: Configure, description: TaskDescription
) -> None:
    in_tokens = replace(description, num_train_batches=240)  # 96 sequences of 10 tokens, in batches of 4 tokens
    units = [
        info_of(configure(), told, Limits(), file=Path("s.yaml")).units_per_sample for told in (description, in_tokens)
    ]
    assert units == [1.0, 10.0]


def test_a_study_is_described_in_nominal_samples(configure: Configure, description: TaskDescription) -> None:
    config = configure(budget={"trials": 4, "epochs": 3, "validate_every": "0.5 epochs"})
    info = info_of(config, description, Limits(), file=Path("here/study.yaml"))
    assert (info.budget_samples, info.tick_samples, info.num_train_samples) == (288.0, 48.0, 96)
    assert (info.batch_sizes, info.batch_size_range, info.lr_range) == ((4, 8, 16, 32), (4, 32), (0.001, 0.3))
    assert (info.file, info.environment["device"]) == ("here/study.yaml", "cpu")
    steps = configure(budget={"trials": 4, "steps": 10})
    assert info_of(steps, description, Limits(), file=Path("study.yaml")).budget_samples is None
    with pytest.raises(ConfigError, match="no known length"):
        info_of(config, replace(description, num_train_samples=None), Limits(), file=Path("study.yaml"))
