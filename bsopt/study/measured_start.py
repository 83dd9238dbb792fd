"""Where a study's learning rate lives, measured before its first trial."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from bsopt.config import StudyConfig
from bsopt.errors import PlanError, TaskError
from bsopt.laws.lattice import nearest_in_ratio
from bsopt.laws.lr_ladder import BATCH_SIZE, LONG, NUM_RUNGS, MeasuredStart, is_cheap, steps_for
from bsopt.laws.scaling import Reference
from bsopt.laws.surface_prior import Domain, Prior, ridge_prior
from bsopt.search.space import USUAL_MOMENTUM
from bsopt.study.make_spec import length_of
from bsopt.study.task_runner import TaskRunner
from bsopt.training.ladder.request import LadderRequest
from bsopt.training.processes.crash import Crash
from bsopt.trial.plan import realise
from bsopt.trial.record import StopReason, StudyInfo
from bsopt.units import format_number

__all__ = ["beyond_range", "is_open", "measured_start", "outlook", "with_start"]


def is_open(config: StudyConfig) -> bool:
    """Whether a study file leaves it to a measurement where its learning rate lives, or may."""
    search = config.search
    is_known = search.lr.reference is not None or search.prior_from is not None or search.lr.low == search.lr.high
    return search.lr.measure != "never" and search.sampler == "scaling" and not is_known and config.num_searched > 0


def outlook(config: StudyConfig, *, budget_samples: float | None) -> str:
    """Return in words whether a study's learning rate will be measured before its first trial.

    Args:
        config: The study file.
        budget_samples: Nominal samples of a full trial; None where they aren't known.
    """
    if config.search.lr.reference is not None:
        return "not measured: search.lr.reference says it"
    if not is_open(config):
        return "not measured before the first trial"
    size = _batch_size(config)
    steps = _training_steps(config, budget_samples, size)
    num_steps = steps_for(steps)
    ladder = f"{NUM_RUNGS} rates, {num_steps or LONG} steps each, at batch size {size}"
    if steps:
        ladder += f", about {NUM_RUNGS * num_steps / steps:.0%} of one training"
    if config.search.lr.measure == "always" or is_cheap(steps):
        return f"measured before the first trial ({ladder})"
    if not num_steps:
        return str(MeasuredStart(None, _too_short(steps)))
    return f"measured before the first trial if its first steps say that the usual default is off ({ladder})"


def measured_start(config: StudyConfig, task: TaskRunner, info: StudyInfo) -> MeasuredStart:
    """Measure where the learning rate lives, at a batch size of the study near 32, on one device.

    What fails in the user's code is no error here: the trials will tell it.

    Raises:
        Crash: It was interrupted.
        BsoptError: The storage or the machine failed.
    """
    size, is_asked_for = _batch_size(config), config.search.lr.measure == "always"
    steps = _training_steps(config, info.budget_samples, size)
    if not steps_for(steps) and not is_asked_for:
        return MeasuredStart(None, _too_short(steps))
    try:
        plan = realise(size, replace(task.limits(), num_devices=1, num_nodes=1))
        spec = task.ladder_spec(plan)
        reference = info.reference or Reference(size, 1.0)
        ridge = ridge_prior(info.optimizer, config.search.lr.rule, reference)
        usual = ridge.centre + Prior(ridge, Domain(None, None)).shape_at(ridge, float(np.log2(size)))
        request = LadderRequest(
            optimizer=info.optimizer or "sgd",
            usual_lr=2.0**usual,
            training_steps=steps,
            decays_to_end=config.pruning.options.get("decays_to_end"),
            is_asked_for=is_asked_for,
        )
        found = task.climb(spec, request)
    except (PlanError, TaskError) as error:
        return MeasuredStart(None, f"that failed: {error}")
    except Crash as crash:
        if crash.reason is StopReason.INTERRUPTED:
            raise
        return MeasuredStart(None, f"that failed: {crash.message}")
    momentum = next((v for name, v in spec.init_args.items() if name.rsplit(".", 1)[-1] == "momentum"), None)
    if found.lr is None or momentum is None:
        return found
    usual_share = (1.0 - USUAL_MOMENTUM) / (1.0 - float(momentum))  # where momentum is searched, at 0.9
    return replace(found, lr=replace(found.lr, lr=found.lr.lr * usual_share))


def with_start(info: StudyInfo, start: MeasuredStart | None) -> StudyInfo:
    """Return a study's description with what was measured as its reference."""
    if start is None:
        return info
    reference = start.lr.reference if start.lr is not None else info.reference
    return replace(info, measured_start=start, reference=reference)


def beyond_range(config: StudyConfig, start: MeasuredStart) -> str:
    """Return what to do where the measured rate lies outside the searched ones; empty where it doesn't."""
    low, high = config.search.lr.low, config.search.lr.high
    if start.lr is None or low <= start.lr.lr <= high:
        return ""
    key, end = ("low", start.lr.lr / start.lr.factor) if start.lr.lr < low else ("high", start.lr.lr * start.lr.factor)
    rounded = 10.0 ** (math.floor(math.log10(end)) if key == "low" else math.ceil(math.log10(end)))
    return (
        f"the measured learning rate {format_number(start.lr.lr, digits=2)} is outside the searched ones ({low:g} to "
        f"{high:g}): search.lr.{key}: {rounded:g} would take it in"
    )


def _too_short(steps: float | None) -> str:
    return f"a training has only {format_number(steps)} steps"


def _batch_size(config: StudyConfig) -> int:
    space = config.search.batch_size
    if space.lattice == "any":
        return min(max(BATCH_SIZE, space.low), space.high)
    return nearest_in_ratio(BATCH_SIZE, space.sizes())


def _training_steps(config: StudyConfig, budget_samples: float | None, batch_size: int) -> float | None:
    """Return the updates of a full trial at a batch size; None where they aren't known."""
    length = length_of(config)
    if length is not None and length.unit == "steps":
        return length.value
    return budget_samples / batch_size if budget_samples else None
