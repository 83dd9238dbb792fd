"""What can be told of a study before it runs: whether its parts fit together, what will be run, and its first step."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bsopt.config import StudyConfig
from bsopt.errors import BsoptError, ConfigError, PlanError
from bsopt.experiment.design import design_of
from bsopt.laws.lattice import nearest_in_ratio
from bsopt.study.make_spec import budget_samples_of, keeps_state, largest_batch_of, length_of
from bsopt.study.measured_start import outlook
from bsopt.study.samplers import reference_of, rule_of, with_optimizer
from bsopt.study.task_runner import TaskRunner
from bsopt.training.processes.crash import Crash
from bsopt.trial.plan import Limits, Plan, realise
from bsopt.trial.record import StopReason
from bsopt.trial.spec import TaskDescription
from bsopt.units import format_bytes, format_duration, format_number, in_samples, in_words

__all__ = ["CheckReport", "misfits", "report", "with_first_step"]

_PASS = 10_000
"""Samples of a pass over data without a length, in lines that a person is to correct."""

_MORE_IS_BETTER = re.compile(
    r"acc|accuracy|auc|auroc|bleu|dice|f1|m?iou|jaccard|kappa|mcc|precision|psnr|r2|recall|reward|rouge|ssim|top\d+"
)
_LESS_IS_BETTER = re.compile("err|error|loss")
"""Words in the names of metrics that say which way they get better."""


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
    return [
        *_misfits_of_direction(config),
        *_misfits_of_lengths(config, description),
        *_misfits_of_plans(config, description, limits),
        *_misfits_of_settings(config, description),
        *_misfits_of_variants(config, description, limits),
    ]


def report(config: StudyConfig, description: TaskDescription, limits: Limits, *, storage: str) -> CheckReport:
    """Return everything that can be told without training.

    Args:
        config: The study file.
        description: What building its task told.
        limits: What the devices and the user allow.
        storage: The storage's address as people may see it.
    """
    n = description.num_train_samples
    task = f"{description.module} with {description.data}, {description.num_parameters:,} parameters"
    rows = [
        ("task", f"{task} ({description.package})"),
        ("training set", f"{n:,} samples" if n is not None else "of unknown length"),
        ("optimizer", _optimizer(config, description)),
        ("start", outlook(config, budget_samples=budget_samples_of(config, n))),
        ("device", f"{description.num_devices} × {description.device}"),
        ("storage", storage),
        ("interrupted trials", _resumption(config, description)),
        *_design_rows(config),
        *_flat(config.as_dict()),
    ]
    return CheckReport(
        rows=tuple(rows),
        plans=tuple((size, _said(_realised(size, limits))) for size in config.search.batch_size.sizes()),
        problems=tuple(misfits(config, description, limits)),
        warnings=(*_design_warnings(config), *_data_warnings(config, description, limits)),
    )


def with_first_step(found: CheckReport, task: TaskRunner) -> CheckReport:
    """Return a report with what came of training one optimizer step, with accumulation if any batch size needs it.

    So is one at the reference batch size, which is the first trial's, and with an experiment one of each of its
    variants: a mistake in one would show only after all other runs.

    Args:
        found: A report without problems.
        task: The study's task.
    """
    plan, *others = _rehearsed(task)
    start, variants = time.monotonic(), task.config.experiment.variants if task.config.experiment is not None else {}
    which = ""
    try:
        record = task.rehearse(plan)
        for other in others:
            which = f" at batch size {other}"
            task.rehearse(other)  # where memory runs out, trials take less at a time
        for name in variants:
            which = f" with experiment.variants.{name}"
            task.rehearse(plan, name)
    except (BsoptError, Crash) as error:
        words = error.full_message if isinstance(error, Crash) else str(error)
        return replace(found, problems=(f"one step was trained{which}, and a trial would fail like it: {words}",))
    if record.stop_reason is StopReason.OUT_OF_MEMORY:
        return replace(found, problems=(f"a step at batch size {plan} runs {record.message}.",))
    tick, monitor = record.ticks[-1], task.config.objective.monitor
    took = format_duration(time.monotonic() - start)
    row = ("first step", f"batch size {plan}, then {monitor} {format_number(tick.value)}, in {took}")
    known = {text.rstrip(".") for text in found.warnings}
    new = (f"{text}." for text in record.warnings if text not in known)
    return replace(found, rows=(row, *found.rows), warnings=(*found.warnings, *new))


def _rehearsed(task: TaskRunner) -> list[Plan]:
    """Return the plans to try a step of: one that accumulates if any does, else the smallest, and the reference's."""
    config, description, limits = task.config, task.description, task.limits()
    plans = [plan for size in config.search.batch_size.sizes() if isinstance(plan := _realised(size, limits), Plan)]
    first = next((plan for plan in plans if plan.accumulate_grad_batches > 1), plans[0])
    reference = reference_of(
        with_optimizer(config, description.optimizer),
        budget_samples=budget_samples_of(config, description.num_train_samples),
    )
    size = nearest_in_ratio(reference.batch_size, [plan.global_batch_size for plan in plans])
    return [first, *(plan for plan in plans if plan.global_batch_size == size and plan != first)]


def _optimizer(config: StudyConfig, description: TaskDescription) -> str:
    """Return the optimizer with the rule and the reference that it is searched with."""
    config = with_optimizer(config, description.optimizer)
    reference = reference_of(config, budget_samples=budget_samples_of(config, description.num_train_samples))
    return (
        f"{description.optimizer or config.search.optimizer or 'unknown'}, {rule_of(config.search)} rule through "
        f"batch size {reference.batch_size}, lr {format_number(reference.lr)}"
    )


def _resumption(config: StudyConfig, description: TaskDescription) -> str:
    """Return whether an interrupted trial goes on, and what that takes on the disk."""
    size = format_bytes(description.state_bytes)
    if keeps_state(config, description):
        paused = ", and so do paused ones" if config.pruning.pruner == "plateau" else ""
        return f"go on from their state, at most {size} each{paused}"
    why = "" if config.resume is False else f"; resume: true keeps their state, at most {size} each"
    return f"begin anew{why}"


def _misfits_of_direction(config: StudyConfig) -> list[str]:
    """Return that the direction is to be said, where it isn't and the metric's name is one of which more is better."""
    objective = config.objective
    words = [word.lower() for word in re.findall(r"[A-Z]+\d*(?![a-z])|[A-Z]?[a-z]+\d*", objective.monitor)]
    found = next((word for word in words if _MORE_IS_BETTER.fullmatch(word)), None)
    if "direction" in objective.model_fields_set or found is None or any(map(_LESS_IS_BETTER.fullmatch, words)):
        return []
    return [
        f"objective.monitor is {objective.monitor}, which would be minimised, while of {found} more is usually better: "
        "set objective.direction to maximize, or to minimize if that is meant."
    ]


def _misfits_of_lengths(config: StudyConfig, description: TaskDescription) -> list[str]:
    """Return where the training set is too short, or validations too frequent, for the batch sizes."""
    found = []
    n, sizes = description.num_train_samples, config.search.batch_size.sizes()
    most = largest_batch_of(config, description)
    if most is not None and sizes[-1] > most:
        below = max((size for size in sizes if size <= most), default=most)
        has = f"the training set has {n} samples" if most == n else f"an epoch's batches hold {most} in all"
        found.append(
            f"search.batch_size.high is {config.search.batch_size.high}, but {has}: "
            f"set it to {below}{_and_the_experiment(config, most)}."
        )
    if n is None and (line := _in_samples(config)):
        return [
            f"the training data ({description.data}) have no length, so nothing can be counted in epochs. Say how many "
            f"samples instead, e.g. where you take {_PASS:,} for a pass over the data:\n{line}\n"
            "Or give the data set a __len__."
        ]
    try:
        every = in_samples(config.budget.tick_every, n, "budget.validate_every")
    except ConfigError as error:
        return [*found, str(error)]
    if every * (most / n if most and n else 1.0) < sizes[-1]:
        found.append(
            f"budget.validate_every is {every:g} samples, less than the largest batch ({sizes[-1]}): "
            "every batch size must be able to make a step between validations."
        )
    if description.has_epoch_plateau_scheduler and n is not None and every > n:
        found.append(
            "the module has an epoch-interval ReduceLROnPlateau: budget.validate_every must be at most 1 epoch."
        )
    return found


def _and_the_experiment(config: StudyConfig, num_samples: int) -> str:
    """Return what else is to be changed where the experiment has batch sizes larger than the training set."""
    sizes = config.experiment.batch_sizes if config.experiment is not None else []
    larger = [str(size) for size in sorted(set(sizes)) if size > num_samples]
    return f", and leave {in_words(larger)} out of experiment.batch_sizes" if larger else ""


def _in_samples(config: StudyConfig) -> str:
    """Return the lines of a study file that say in samples what it says in epochs; empty where it says nothing so."""
    budget, pruning, experiment = config.budget, config.pruning, config.experiment
    amounts = {
        "budget": {"samples": length_of(config), "validate_every": budget.tick_every},
        "pruning": {"patience": pruning.patience if pruning.pruner == "plateau" else None},
        "experiment": {"patience": experiment.patience if experiment is not None else None},
    }
    lines = []
    for block, keys in amounts.items():
        told = {
            key: f"{amount.value * _PASS:.0f}" + ("" if key == "samples" else " samples")
            for key, amount in keys.items()
            if amount is not None and amount.unit == "epochs"
        }
        if told:
            lines.append(f"  {block}: {{{', '.join(f'{key}: {text}' for key, text in told.items())}}}")
    return "\n".join(lines)


def _misfits_of_plans(config: StudyConfig, description: TaskDescription, limits: Limits) -> list[str]:
    """Return why no batch size can be realised, or why gradients can't be accumulated where they must be."""
    found = []
    realised = [_realised(size, limits) for size in config.search.batch_size.sizes()]
    has_accumulation = any(isinstance(plan, Plan) and plan.accumulate_grad_batches > 1 for plan in realised)
    if has_accumulation and not description.is_automatic:
        found.append(
            "the module optimizes by hand, where gradients can't be accumulated: lower search.batch_size.high."
        )
    if all(isinstance(plan, PlanError) for plan in realised):
        found.append(str(realised[0]))
    return found


def _misfits_of_settings(config: StudyConfig, description: TaskDescription) -> list[str]:
    """Return which settings exclude each other or the task."""
    found = []
    most, reference = largest_batch_of(config, description), config.search.lr.reference
    if config.objective.cost and config.pruning.pruner not in ("plateau", "none"):
        found.append("with objective.target only pruning.pruner plateau or none make sense.")
    if reference is not None and most is not None and reference.batch_size > most:
        whole = f"the training set's {most} samples" if most == description.num_train_samples else f"an epoch's {most}"
        found.append(f"search.lr.reference.batch_size is {reference.batch_size}, above {whole}.")
    return found


def _misfits_of_variants(config: StudyConfig, description: TaskDescription, limits: Limits) -> list[str]:
    """Return what the experiment's variants ask for that this model or these devices don't do."""
    experiment, found = config.experiment, []
    if experiment is None:
        return []
    least = min(experiment.batch_sizes) // (limits.num_devices * limits.num_nodes)
    least = min(least, limits.max_micro_batch_size or least)
    for name, variant in experiment.variants.items():
        where, ghost, precision = f"experiment.variants.{name}", variant.ghost_batch_norm, variant.precision or ""
        if ghost and not description.has_batch_norm:
            found.append(f"{where}.ghost_batch_norm: {description.module} has no BatchNorm layer.")
        elif ghost and ghost > least:
            found.append(
                f"{where}.ghost_batch_norm is {ghost}, but in the smallest batch a device gets {least} samples at a "
                f"time: at most {least}."
            )
        if precision.startswith("16") and description.device_memory_bytes is None:
            found.append(
                f"{where}.trainer.precision: {precision} needs CUDA; this is {description.device}, where Lightning "
                "would compute with bfloat16 instead. Take bf16-mixed here, or run it on a GPU."
            )
    return found


def _design_rows(config: StudyConfig) -> list[tuple[str, str]]:
    design = design_of(config)
    if design is None:
        return []
    settings, seeds = len(design.configurations), design.num_seeds
    said = f"{len(design.runs)}: {settings} batch sizes with learning rates, {seeds} seeds each"
    varied = {v.name: sum(run.variant == v.name for run in design.runs) for v in design.variants}
    return [("designed runs", "; ".join([said, *(f"{num} of them with {name}" for name, num in varied.items())]))]


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


def _realised(size: int, limits: Limits) -> Plan | PlanError:
    """Return a batch size's plan, or the error that says why it has none."""
    try:
        return realise(size, limits)
    except PlanError as error:
        return error


def _said(plan: Plan | PlanError) -> str:
    return f"{plan} ({plan.reason})" if isinstance(plan, Plan) and plan.reason else str(plan)


def _data_warnings(config: StudyConfig, description: TaskDescription, limits: Limits) -> list[str]:
    """Return where samples are left out of an epoch, or a BatchNorm sees few of them."""
    found = []
    n, sizes = description.num_train_samples, config.search.batch_size.sizes()
    if n and largest_batch_of(config, description) != n:
        found.append(
            f"an epoch has {description.num_train_batches:,} batches at batch size {sizes[0]}, where {n:,} samples "
            f"make {-(-n // sizes[0]):,}: the data "
            "count their batch size in something else, in tokens for example. Batch sizes and samples to a target are "
            "then told in that; budgets and curves stay in samples."
        )
    if n and description.drop_last:
        plans = [plan for size in sizes if isinstance(plan := _realised(size, limits), Plan)]
        lost = {plan.global_batch_size: n % (plan.micro_batch_size * plan.world_size) / n for plan in plans}
        found += [
            f"drop_last leaves out {share:.0%} of the training set at batch size {size}."
            for size, share in lost.items()
            if share > 0.05
        ]
    smallest = sizes[0] // limits.world_size
    if description.has_batch_norm and smallest < 16:
        found.append(
            f"the model has BatchNorm, which sees as few as {max(1, smallest)} samples: under 16 its statistics are "
            "noisy. GroupNorm or a larger search.batch_size.low avoids that."
        )
    return found


def _flat(data: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
    """Return every setting by its dotted path, the storage left out."""
    rows: list[tuple[str, str]] = []
    for key, value in data.items():
        place = f"{path}.{key}" if path else key
        if isinstance(value, Mapping) and value:
            rows += _flat(value, place)
        elif place != "storage":
            rows.append((place, "—" if value is None else str(value)))
    return rows
