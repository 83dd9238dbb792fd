"""What can be told of a study without training: whether its parts fit together, and what will be run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bsopt.config import StudyConfig
from bsopt.errors import ConfigError, PlanError
from bsopt.experiment.design import design_of
from bsopt.trial.plan import Limits, realise
from bsopt.trial.spec import TaskDescription
from bsopt.units import in_samples

__all__ = ["CheckReport", "misfits", "plans", "report"]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a study will run, and what is wrong with it.

    Attributes:
        rows: Label and text of everything that will be run, every default among it.
        plans: Each batch size of the lattice, and how it is realised or why not.
        problems: What must be put right first.
        warnings: What should be known.
    """

    rows: tuple[tuple[str, str], ...]
    plans: tuple[tuple[int, str], ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def misfits(config: StudyConfig, description: TaskDescription, limits: Limits) -> list[str]:
    """Return what doesn't fit between a study file, the user's task and the devices; empty when all does."""
    found = []
    n, sizes = description.num_train_samples, config.search.batch_size.sizes()
    if n is not None and sizes[-1] > n:
        below = max((size for size in sizes if size <= n), default=n)
        found.append(
            f"search.batch_size.high is {config.search.batch_size.high}, but the training set has {n} samples: "
            f"set it to {below}."
        )
    try:
        every = in_samples(config.budget.validate_every, n, "budget.validate_every")
        if every < sizes[-1]:
            found.append(
                f"budget.validate_every is {every:g} samples, less than the largest batch ({sizes[-1]}): "
                "every batch size must be able to make a step between validations."
            )
        if description.has_epoch_plateau_scheduler and n is not None and every > n:
            found.append(
                "the module has an epoch-interval ReduceLROnPlateau: budget.validate_every must be at most 1 epoch."
            )
    except ConfigError as error:
        found.append(str(error))
    if not description.is_automatic and any(" accumulated" in plan for _, plan in plans(config, limits)):
        found.append(
            "the module optimizes by hand, where gradients can't be accumulated: lower search.batch_size.high."
        )
    refused = [size for size in sizes if _refusal(size, limits)]
    if len(refused) == len(sizes):
        found.append(_refusal(sizes[0], limits))
    if config.resume and config.task.entry is not None:
        found.append("resume: true needs task.model or task.factory; an entry's own script begins anew.")
    reference = config.search.lr.reference
    if config.objective.cost and config.pruning.pruner not in ("plateau", "none"):
        found.append("with objective.target only pruning.pruner plateau or none make sense.")
    if reference is not None and n is not None and reference.batch_size > n:
        found.append(f"search.lr.reference.batch_size is {reference.batch_size}, above the training set's {n} samples.")
    return found


def plans(config: StudyConfig, limits: Limits) -> tuple[tuple[int, str], ...]:
    """Return each batch size of the lattice with its plan, or why it can't be realised."""
    return tuple((size, _refusal(size, limits) or _plan(size, limits)) for size in config.search.batch_size.sizes())


def report(config: StudyConfig, description: TaskDescription, limits: Limits, *, storage: str) -> CheckReport:
    """Return everything that can be told without training."""
    n = description.num_train_samples
    task = f"{description.module} with {description.data}, {description.num_parameters:,} parameters"
    rows = [
        ("task", f"{task} ({description.package})"),
        ("training set", f"{n:,} samples" if n is not None else "of unknown length"),
        ("device", f"{description.num_devices} × {description.device}"),
        ("storage", storage),
        *_design_rows(config),
        *_flat(config.as_dict()),
    ]
    warnings = _design_warnings(config)
    for size, _ in plans(config, limits):
        lost = _lost(description, size, limits.world_size)
        if lost > 0.05:
            warnings.append(f"drop_last leaves out {lost:.0%} of the training set at batch size {size}.")
    smallest = config.search.batch_size.sizes()[0] // limits.world_size
    if description.has_batch_norm and smallest < 16:
        warnings.append(
            f"the model has BatchNorm, which sees as few as {max(1, smallest)} samples: under 16 its statistics are "
            "noisy. GroupNorm or a larger search.batch_size.low avoids that."
        )
    return CheckReport(
        rows=tuple(rows),
        plans=plans(config, limits),
        problems=tuple(misfits(config, description, limits)),
        warnings=tuple(warnings),
    )


def _design_rows(config: StudyConfig) -> list[tuple[str, str]]:
    design = design_of(config)
    if design is None:
        return []
    settings, seeds = len(design.configurations), design.num_seeds
    return [("designed runs", f"{len(design.runs)}: {settings} batch sizes with learning rates, {seeds} seeds each")]


def _design_warnings(config: StudyConfig) -> list[str]:
    if config.experiment is None:
        return []
    found = []
    if config.experiment.seeds < 5:
        found.append(f"experiment.seeds is {config.experiment.seeds}: below 5 no finding can be judged.")
    if config.checkpoints.trials != "all" or "best" not in config.checkpoints.keep:
        found.append(
            "sharpness, interpolation and landscapes need every run's best weights: set checkpoints: all to have them."
        )
    return found


def _plan(size: int, limits: Limits) -> str:
    plan = realise(size, limits)
    return f"{plan}" + (f" ({plan.reason})" if plan.reason else "")


def _refusal(size: int, limits: Limits) -> str:
    try:
        realise(size, limits)
    except PlanError as error:
        return str(error)
    return ""


def _lost(description: TaskDescription, size: int, world_size: int) -> float:
    n = description.num_train_samples
    if not description.drop_last or not n:
        return 0.0
    return (n % size) / n


def _flat(data: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in data.items():
        place = f"{path}.{key}" if path else key
        if isinstance(value, Mapping) and value:
            rows += _flat(value, place)
        elif place != "storage":
            rows.append((place, "—" if value is None else str(value)))
    return rows
