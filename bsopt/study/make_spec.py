"""From a study file and a trial's parameters to everything that the trial's processes need."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bsopt.config import StudyConfig, VariantConfig
from bsopt.errors import ConfigError
from bsopt.experiment.design import MEASURES
from bsopt.storage.attributes import LR
from bsopt.trial.plan import Plan
from bsopt.trial.spec import Budget, Seeds, TaskDescription, TaskSpec, TrialSpec, trial_folder
from bsopt.units import Amount, in_samples

__all__ = [
    "budget_samples_of",
    "folder_of",
    "keeps_state",
    "largest_batch_of",
    "length_of",
    "resume_file_of",
    "some_params",
    "trial_spec",
]

CHEAP_STATE_BYTES = 2**28
"""A larger checkpoint is only kept where the study file says so: every paused trial has one on the disk."""
CHEAP_OVERHEAD = 0.01
"""Share of the training time that keeping the state may take, unless the study file says that it is kept."""


def trial_spec(
    config: StudyConfig,
    number: int,
    params: Mapping[str, Any],
    plan: Plan,
    *,
    study_folder: Path,
    description: TaskDescription | None = None,
    root: int | None = None,
    replicate: int | None = None,
    is_designed: bool = False,
    variant: str | None = None,
) -> TrialSpec:
    """Return everything that a trial's processes need.

    All trials of a search start from the same weights, the study's seed; data order and dropout are the trial's.

    Args:
        config: The study file.
        number: Optuna's trial number.
        params: Its parameters.
        plan: How its batch size is realised.
        study_folder: Where the study file is and imports are looked up first.
        description: What building the task told; with it schedulers know the number of updates.
        root: The trial that it is a retry of, whose seeds it takes, and whose state where such are kept.
        replicate: Which repeat of a finalist, or which seed of the designed experiment, it is, with initial
            weights of its own; None for the search.
        is_designed: Whether it belongs to the designed experiment, which measures more.
        variant: Name of the experiment's variant whose settings it has in place of the study's.

    Raises:
        ConfigError: The study file doesn't name the variant.
    """
    changed = _variant(config, variant)
    budget, length = config.budget, length_of(config)
    num_steps = _num_steps(config, length, plan, description)
    # Where whole epochs are asked for, max_epochs says it exactly.
    is_whole = length is not None and length.unit == "epochs" and abs(length.value - round(length.value)) < 1e-9
    first = number if root is None else root
    data_seed = np.random.SeedSequence([config.seed, first]).generate_state(1)[0]
    weights_seed = config.seed
    if replicate is not None:
        weights_seed = int(np.random.SeedSequence([config.seed, replicate, 1]).generate_state(1)[0])
    matched_loss = config.experiment.matched_loss if is_designed and config.experiment is not None else None
    return TrialSpec(
        number=number,
        params=dict(params),
        batch_size=plan.global_batch_size,
        lr=float(params[LR]),
        plan=plan,
        task=_task_spec(config, study_folder),
        init_args={
            **{name: value for name, value in params.items() if name in config.search.params},
            **(changed.params if changed is not None else {}),
        },
        objective=config.objective.value,
        budget=Budget(
            length=length,
            tick_every=budget.tick_every,
            seconds=budget.time_per_trial.value if budget.time_per_trial else None,
            is_geometric=budget.is_geometric,
        ),
        max_steps=None if is_whole else num_steps,
        trainer={**config.trainer, **(changed.trainer if changed is not None else {})},
        ghost_batch_norm=changed.ghost_batch_norm if changed is not None else None,
        seeds=Seeds(weights=weights_seed, data=int(data_seed >> 1)),
        folder=str(folder_of(config, number)),
        checkpoints=_checkpoints(config, has_matched=matched_loss is not None),
        matched_loss=matched_loss,
        resume_file=str(resume_file_of(config, first)) if keeps_state(config, description) else None,
        resume_overhead=CHEAP_OVERHEAD if config.resume == "auto" else None,
        measure=tuple(dict.fromkeys([*config.measure, *(MEASURES if is_designed else ())])),
        num_threads=_threads(config.workers * plan.num_devices),
        study=config.name,
        num_steps=num_steps,
        num_epochs=_num_epochs(config, length, plan, description),
    )


def _variant(config: StudyConfig, name: str | None) -> VariantConfig | None:
    """Return the settings of a variant of the experiment; None without one."""
    if name is None:
        return None
    found = config.experiment.variants.get(name) if config.experiment is not None else None
    if found is None:
        raise ConfigError(
            f"queued runs train the variant {name!r}, which experiment.variants doesn't name any more: put it back, or "
            "give the study another name."
        )
    return found


def _checkpoints(config: StudyConfig, *, has_matched: bool) -> tuple[str, ...]:
    """Return which weights a trial keeps."""
    if config.checkpoints.trials == "none":
        return ()
    return (*config.checkpoints.keep, "matched") if has_matched else config.checkpoints.keep


def folder_of(config: StudyConfig, number: int) -> Path:
    """Return where a trial's log and weights are, as an absolute path."""
    return trial_folder(config.folder, number).absolute()


def resume_file_of(config: StudyConfig, number: int) -> Path:
    """Return where the state of a trial (for a retry, of the first try) is kept while it runs."""
    return folder_of(config, number) / "resume.ckpt"


def keeps_state(config: StudyConfig, description: TaskDescription | None) -> bool:
    """Return whether trials keep their state, so that they can be gone on with: where asked, or where it is cheap.

    Args:
        config: The study file.
        description: What building the task told; None where that isn't known.
    """
    if config.resume == "auto":
        is_here = config.trainer.get("num_nodes", 1) == 1  # other nodes may not see the file
        return is_here and description is not None and description.state_bytes <= CHEAP_STATE_BYTES
    return config.resume


def length_of(config: StudyConfig) -> Amount | None:
    """Return the length of a full trial; None when only time limits it."""
    budget = config.budget
    if budget.epochs is not None:
        return Amount(budget.epochs, "epochs")
    if budget.samples is not None:
        return Amount(budget.samples, "samples")
    return Amount(float(budget.steps), "steps") if budget.steps is not None else None


def budget_samples_of(config: StudyConfig, num_train_samples: int | None) -> float | None:
    """Return the nominal samples of a full trial; None where only steps or time limit it, or epochs of unknown length.

    Args:
        config: The study file.
        num_train_samples: Of an epoch; None where that isn't known.
    """
    length = length_of(config)
    if length is None or length.unit == "steps" or (length.unit == "epochs" and num_train_samples is None):
        return None
    return in_samples(length, num_train_samples, "budget")


def largest_batch_of(config: StudyConfig, description: TaskDescription) -> int | None:
    """Return how much an epoch has of what the data count their batch size in; None where that isn't known.

    That is samples, unless the loader's batches are fewer than half or more than twice as many as its samples make:
    then it is something else, tokens for example.

    Args:
        config: The study file.
        description: What building its task told, at the smallest batch size.
    """
    n, seen, smallest = (
        description.num_train_samples,
        description.num_train_batches,
        config.search.batch_size.sizes()[0],
    )
    if not n or not seen or 0.5 <= seen / -(-n // smallest) <= 2:
        return n
    return seen * smallest


def some_params(config: StudyConfig) -> dict[str, Any]:
    """Return one value of each further parameter, to build the task with."""
    values: dict[str, Any] = {}
    for name, space in config.search.params.items():
        value = space.choices[0] if space.choices is not None else space.low
        values[name] = int(value) if space.integer and isinstance(value, float) else value
    return values


def _task_spec(config: StudyConfig, study_folder: Path) -> TaskSpec:
    return TaskSpec(
        source=config.task.model_dump(mode="json", exclude_none=True),
        folders=(str(study_folder), os.getcwd()),
        lr_path=config.inject.lr,
        batch_size_path=config.inject.batch_size,
        verify=config.inject.verify,
        batch_size_is=config.inject.batch_size_is,
    )


def _threads(ranks: int) -> int:
    """Numerical threads of a rank: what OMP_NUM_THREADS says, else its share of the cores that are this process's."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdecimal() and int(said) > 0:
        return int(said)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # One core is left to the parent: on a full machine numerical threads wait for each other.
    return max(1, (cores - 1) // ranks)


def _num_steps(
    config: StudyConfig, length: Amount | None, plan: Plan, description: TaskDescription | None
) -> int | None:
    """Optimizer updates of a full trial, as far as they can be told: what schedulers plan with."""
    if length is None:
        return None
    if length.unit == "steps":
        return int(length.value)
    if description is None:
        return None
    n = description.num_train_samples
    if n is None:
        return math.ceil(length.value / plan.global_batch_size - 1e-9) if length.unit == "samples" else None
    batches, window = _batches_per_epoch(config, plan, n, description), plan.accumulate_grad_batches
    whole, part = divmod(length.value if length.unit == "epochs" else length.value / n, 1.0)
    if part < 1e-9 or part > 1 - 1e-9:
        return round(whole + part) * -(-batches // window)
    return int(whole) * -(-batches // window) + int(-(-part * batches // window))


def _num_epochs(
    config: StudyConfig, length: Amount | None, plan: Plan, description: TaskDescription | None
) -> int | None:
    """Epochs of a full trial, a fraction rounded up, as far as they can be told."""
    if length is None:
        return None
    if length.unit == "epochs":
        return math.ceil(length.value - 1e-9)
    n = description.num_train_samples if description is not None else None
    if n is None or description is None:
        return None
    if length.unit == "samples":
        return math.ceil(length.value / n - 1e-9)
    updates = -(-_batches_per_epoch(config, plan, n, description) // plan.accumulate_grad_batches)
    return math.ceil(length.value / max(1, updates) - 1e-9)


def _batches_per_epoch(config: StudyConfig, plan: Plan, num_samples: int, description: TaskDescription) -> int:
    """Micro-batches of a rank in an epoch.

    A loader may count its batch size in something else than samples, in tokens for example: then its batches are as
    many as it gave when the task was built, at the smallest batch size, in inverse proportion to the batch size.
    """

    def of(size: int, ranks: int) -> int:
        per_rank = -(-num_samples // ranks)
        return per_rank // size if description.drop_last else -(-per_rank // size)

    smallest, seen = config.search.batch_size.sizes()[0], description.num_train_batches
    batches = of(plan.micro_batch_size, plan.world_size)
    if seen is not None and seen != of(smallest, 1):
        batches = max(1, -(-seen * smallest // (plan.micro_batch_size * plan.world_size)))
    limit = config.trainer.get("limit_train_batches")
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)
