"""Fits and a goal in, an answer out: which batch size and learning rate, how to run it, and how sure that is."""

from __future__ import annotations

import optuna

from bsopt.errors import ConfigError, nearest
from bsopt.laws.estimate import FitStatus
from bsopt.recommendation.choices import choice_at, choose
from bsopt.recommendation.costs import pareto
from bsopt.recommendation.evidence import Evidence
from bsopt.recommendation.result import GOALS, Goal, Recommendation
from bsopt.recommendation.sentences import caveats, no_answer, sentence, why_missing
from bsopt.storage.attributes import read_info, read_records
from bsopt.storage.parameter_names import find_names
from bsopt.trial.record import StepUnit

__all__ = ["recommend", "recommend_from"]


def recommend(
    study: optuna.Study,
    *,
    goal: str = "quality",
    at_batch_size: int | None = None,
    num_devices: int | None = None,
    num_nodes: int | None = None,
    budget: float | str | None = None,
    bandwidth: float | None = None,
    batch_size: str | None = None,
    lr: str | None = None,
    step_unit: StepUnit | None = None,
    monitor: str | None = None,
) -> Recommendation:
    """Return which batch size and learning rate to train with.

    Args:
        study: Any study that searches a batch size and a learning rate, ours or anyone's. One of several objectives is
            answered by its best trial of the first.
        goal: `quality` (best value at the budget), `largest` (largest batch size that costs nothing in quality beyond
            noise), `fastest` (least time to the target, or over the budget) or `cheapest` (least energy, or
            device-hours).
        at_batch_size: Answer for this global batch size, in samples, instead of choosing one.
        num_devices: Devices per node to plan for; the study's by default.
        num_nodes: Nodes; the study's by default.
        budget: Another training budget than the study's: samples, or text such as "40 epochs".
        bandwidth: Of the slowest link between the devices, in bytes per second, where no trial measured it.
        batch_size: Name of the batch size parameter, where the study doesn't tell.
        lr: Name of the learning rate parameter, where the study doesn't tell.
        step_unit: What the trials of a study that isn't ours report by: `samples`, `epochs` or `steps` (optimizer
            updates). Without it nothing is told of samples to a target.
        monitor: What a trial's value is called, where the study doesn't tell.

    Raises:
        ConfigError: An unknown goal, a name that no trial has, a budget that can't be read, or a bandwidth for a model
            of unknown size.
    """
    _check_goal(goal)
    if isinstance(batch_size, int):
        raise ConfigError(
            f"batch_size={batch_size}: it takes the parameter's name; ask for a size with at_batch_size={batch_size}."
        )
    names = find_names(study, batch_size=batch_size, lr=lr)
    evidence = Evidence.of(
        read_info(study, names=names, step_unit=step_unit, monitor=monitor),
        read_records(study, names=names, step_unit=step_unit),
        study=study,
        names=names,
        num_devices=num_devices,
        num_nodes=num_nodes,
        budget=budget,
        bandwidth=bandwidth,
    )
    return recommend_from(evidence, goal=goal, at_batch_size=at_batch_size)


def recommend_from(evidence: Evidence, *, goal: str = "quality", at_batch_size: int | None = None) -> Recommendation:
    """Return what `recommend` does, from evidence that is at hand.

    Args:
        evidence: Of a study or of records alone.
        goal: As for `recommend`.
        at_batch_size: As for `recommend`.

    Raises:
        ConfigError: An unknown goal.
    """
    asked = _check_goal(goal)
    info, ridge = evidence.info, evidence.fits.ridge
    if evidence.best is None:
        return Recommendation(FitStatus.TOO_FEW, no_answer(evidence), info.name, info.objective.monitor)
    # Several objectives: the best trial of the first is all that is told, since no law is fitted to them together.
    goals = GOALS if evidence.num_objectives == 1 else ("quality",)
    choices = {name: found for name in goals if (found := choose(evidence, name)) is not None}
    missing: tuple[str, ...] = ()
    if at_batch_size is not None:
        choice = choice_at(evidence, at_batch_size, asked, "You asked for this batch size.")
    elif asked in choices:
        choice = choices[asked]
    else:
        choice, missing = choices["quality"], (why_missing(evidence, asked),)
    unfitted = ridge.status if ridge.status is not FitStatus.OK else FitStatus.NOT_IDENTIFIED
    return Recommendation(
        FitStatus.OK if evidence.is_fitted else unfitted,
        sentence(evidence, choice),
        info.name,
        info.objective.monitor,
        choice=choice,
        alternatives=tuple(other for name, other in choices.items() if name != choice.goal),
        ties=evidence.ties,
        caveats=(*missing, *caveats(evidence, choice)),
        pareto=pareto(evidence),
        critical_batch_size=evidence.fits.steps.critical_batch_size,
    )


def _check_goal(goal: str) -> Goal:
    if goal not in GOALS:
        raise ConfigError(f"unknown goal {goal!r}; allowed are {', '.join(GOALS)}." + nearest(goal, GOALS))
    return goal
