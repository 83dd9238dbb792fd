"""Whether a stored study is the one that a study file describes, and on what it runs."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage

from bsopt.config import StudyConfig
from bsopt.errors import StudyError
from bsopt.storage.attributes import is_ours, read_info
from bsopt.storage.databases import open_storage, redacted
from bsopt.study.make_spec import budget_samples_of, largest_batch_of
from bsopt.study.samplers import reference_of, rule_of
from bsopt.trial.asked import AskedLimits
from bsopt.trial.plan import Limits
from bsopt.trial.record import StudyInfo
from bsopt.trial.spec import TaskDescription
from bsopt.units import in_samples

__all__ = ["check_unchanged", "find", "find_or_make", "info_of", "is_same", "stored_limit"]

_FIXED = ("task", "search", "objective", "inject", "seed")
_FIXED_BUDGET = ("epochs", "samples", "steps", "time_per_trial", "validate_every")
_FREE_TRAINER = (  # where a trial runs, and what is watched of it
    "accelerator",
    "devices",
    "num_nodes",
    "strategy",
    "plugins",
    "logger",
    "log_every_n_steps",
    "profiler",
    "detect_anomaly",
    "num_sanity_val_steps",
    "enable_model_summary",
    "enable_progress_bar",
    "barebones",
)
_FIXED_EXPERIMENT = ("patience", "matched_loss", "params")


def find(config: StudyConfig, storage: BaseStorage) -> optuna.Study | None:
    """Return the Optuna study that a study file means; None where the storage doesn't hold it yet.

    Raises:
        StudyError: It exists with another task, space, objective or trial length; the message says what changed.
    """
    if config.name not in optuna.get_all_study_names(storage):
        return None
    study = optuna.load_study(study_name=config.name, storage=storage)
    check_unchanged(study, config)
    return study


def find_or_make(config: StudyConfig) -> optuna.Study:
    """Return the Optuna study that a study file means, making it where it isn't there yet.

    Raises:
        StudyError: It exists with another task, space, objective or trial length; the message says what changed.
        StorageError: The storage can't be opened.
    """
    storage, direction = open_storage(config.storage), config.objective.value.value_direction
    found = find(config, storage)
    if found is not None and (is_ours(found) or [one.name.lower() for one in found.directions] == [direction]):
        return found
    if found is not None and found.user_attrs:
        raise StudyError(
            f"an empty study {config.name!r} that bsopt didn't make is in this storage, with another direction than "
            f"{direction}: choose another name."
        )
    if found is not None:  # left by a run that was refused before the direction was corrected
        optuna.delete_study(study_name=config.name, storage=storage)
    # Another host may make it at the same moment.
    return optuna.create_study(study_name=config.name, storage=storage, direction=direction, load_if_exists=True)


def check_unchanged(study: optuna.Study, config: StudyConfig) -> None:
    """Check that a stored study has the task, space, objective, trial length and Trainer of a study file.

    Raises:
        StudyError: It hasn't, or bsopt didn't make it; the message says what changed.
    """
    if not is_ours(study):
        if study.get_trials(deepcopy=False):
            raise StudyError(f"a study {config.name!r} that bsopt didn't make is in this storage: choose another name.")
        return
    before, now = read_info(study).config, config.as_dict()
    if now["search"]["optimizer"] is None:  # then it is the task's
        before = {**before, "search": {**before.get("search", {}), "optimizer": None}}
    before, now = _without_measure(before), _without_measure(now)
    changed = _differences({key: before.get(key) for key in _FIXED}, {key: now[key] for key in _FIXED})
    old, new = ({key: side["budget"].get(key) for key in _FIXED_BUDGET} for side in (before, now))
    changed += [f"budget.{line}" for line in _differences(old, new)]
    old, new = (_trained_with(side) for side in (before, now))
    changed += [f"trainer.{line}" for line in _differences(old, new)]
    designs = before.get("experiment") or {}, now["experiment"] or {}
    if all(designs):
        old, new = ({key: design.get(key) for key in _FIXED_EXPERIMENT} for design in designs)
        changed += [f"experiment.{line}" for line in _differences(old, new)]
        old, new = (_settings_of_variants(design) for design in designs)
        old, new = ({name: side[name] for name in old.keys() & new.keys()} for side in (old, new))  # others come and go
        changed += [f"experiment.variants.{line}" for line in _differences(old, new)]
    if changed:
        raise StudyError(
            f"the study {config.name!r} exists with other settings, and its trials couldn't be compared:\n  "
            + "\n  ".join(changed)
            + "\nUndo the change, or give the study another name (--study-name), or delete it "
            f"(bsopt study delete --study-name {shlex.quote(config.name)})."
        )


def stored_limit(info: StudyInfo, config: StudyConfig, description: TaskDescription) -> int | None:
    """Return the micro-batch that an earlier run probed under the same limits on the same devices."""
    same = info.limits == AskedLimits(config.limits.max_micro_batch_size, config.limits.memory)
    same_device = info.environment.get("device") == description.device and info.num_devices == description.num_devices
    return info.max_micro_batch_size if same and same_device else None


def info_of(config: StudyConfig, description: TaskDescription, limits: Limits, *, file: Path) -> StudyInfo:
    """Return what is stored of a study: what it searches, how its trials train, and on what they run.

    Args:
        config: The study file.
        description: What building its task told.
        limits: What the devices and the user allow.
        file: The study file.

    Raises:
        ConfigError: The time between validations is in epochs and the training set's length isn't known.
    """
    n, budget = description.num_train_samples, config.budget
    budget_samples = budget_samples_of(config, n)
    lattice = config.search.batch_size
    return StudyInfo(
        name=config.name,
        objective=config.objective.value,
        batch_size_range=(lattice.low, lattice.high),
        lr_range=(config.search.lr.low, config.search.lr.high),
        batch_sizes=() if lattice.lattice == "any" else lattice.sizes(),
        rule=rule_of(config.search),
        reference=reference_of(config, budget_samples=budget_samples),
        optimizer=description.optimizer or config.search.optimizer,
        num_train_samples=n,
        units_per_sample=(largest_batch_of(config, description) or n) / n if n else 1.0,
        budget_samples=budget_samples,
        tick_samples=in_samples(budget.tick_every, n, "budget.validate_every"),
        has_early_ticks=budget.is_geometric,
        num_devices=limits.num_devices,
        num_nodes=limits.num_nodes,
        seed=config.seed,
        num_trials=budget.trials,
        has_batch_norm=description.has_batch_norm,
        max_micro_batch_size=limits.max_micro_batch_size,
        config={**config.as_dict(), "storage": redacted(config.storage)},
        places=dict(description.places),
        file=str(file),
        environment=_environment_of(description),
    )


def is_same(before: StudyInfo, now: StudyInfo) -> bool:
    """Whether two descriptions differ in nothing but versions and hardware."""
    return replace(before, environment={}) == replace(now, environment={})


def _trained_with(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Trainer's settings that change what is trained: precision, clipping, callbacks."""
    return {key: value for key, value in (config.get("trainer") or {}).items() if key not in _FREE_TRAINER}


def _settings_of_variants(design: Mapping[str, Any]) -> dict[str, Any]:
    """Return what each variant of a design changes; which arms are trained with it may change."""
    variants = design.get("variants") or {}
    return {name: {key: v for key, v in variant.items() if key != "arms"} for name, variant in variants.items()}


def _environment_of(description: TaskDescription) -> dict[str, Any]:
    """Return versions and hardware as plain data."""
    from bsopt import __version__

    return {
        "bsopt": __version__,
        "optuna": optuna.__version__,
        **description.versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "device": description.device,
        "num_devices": description.num_devices,
        "module": description.module,
        "data": description.data,
        "num_parameters": description.num_parameters,
    }


def _without_measure(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study file without how its start is found, which makes no trials that can't be compared."""
    search = dict(config.get("search") or {})
    lr = {key: value for key, value in (search.get("lr") or {}).items() if key != "measure"}
    return {**config, "search": {**search, "lr": lr}}


def _differences(before: Any, now: Any, path: str = "") -> list[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        lines = []
        for key in {**before, **now}:
            lines += _differences(before.get(key), now.get(key), f"{path}.{key}" if path else str(key))
        return lines
    return [] if before == now else [f"{path}: it was {before!r}, now {now!r}"]
