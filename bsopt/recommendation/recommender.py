"""Fits and a goal in, an answer out: which batch size and learning rate, how to run it, and how sure that is."""

from __future__ import annotations

import optuna

from bsopt.errors import ConfigError, nearest
from bsopt.laws.estimate import FitStatus
from bsopt.recommendation.choices import choice_at, choose, expectations
from bsopt.recommendation.costs import pareto
from bsopt.recommendation.evidence import Evidence
from bsopt.recommendation.next_runs import next_runs
from bsopt.recommendation.result import GOALS, Goal, Recommendation, Refusal
from bsopt.recommendation.sentences import caveats, no_answer, of_front, sentence, why_missing
from bsopt.recommendation.settings import UserCode
from bsopt.storage.attributes import read_info, read_records
from bsopt.storage.parameter_names import find_names
from bsopt.trial.asked import code_in
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
    margin: float | None = None,
    target: float | None = None,
) -> Recommendation:
    """Return which batch size and learning rate to train with.

    Args:
        study: Any study that searches a batch size and a learning rate, ours or anyone's. One of several objectives
            is answered by its Pareto front.
        goal: `quality` (best value at the budget), `largest` (largest batch size that was tested to be as good),
            `fastest` (least time to the target, or over the budget), `cheapest` (least device time) or `frugal` (least
            energy).
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
        margin: Difference in value up to which a batch size counts as good as the best; by default the larger of one
            seed's deviation and 2 % of (median − best), the latter at most a tenth of the best loss.
        target: Value of the metric that times and costs are to; by default the study's own, and without one they are
            over the budget, of the batch sizes that were tested to be as good.

    Raises:
        ConfigError: An unknown goal, a name that no trial has, a budget that can't be read, a bandwidth for a model of
            unknown size, a negative margin, or another target for a study whose values are the cost of its own.
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
        margin=margin,
        target=target,
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
    if evidence.front:
        return Recommendation(
            FitStatus.NOT_IDENTIFIED, of_front(evidence), info.name, info.objective.monitor, front=evidence.front
        )
    choices = {name: found for name in GOALS if (found := choose(evidence, name)) is not None}
    refusals = tuple(Refusal(name, why_missing(evidence, name)) for name in GOALS if name not in choices)
    missing = [f"{refusal.reason} So this is the choice for quality." for refusal in refusals if refusal.goal == asked]
    choice = choices.get(asked, choices["quality"])
    if at_batch_size is not None:
        choice, missing = choice_at(evidence, at_batch_size, "asked", f"You asked for batch size {at_batch_size}."), []
    unfitted = ridge.status if ridge.status is not FitStatus.OK else FitStatus.NOT_IDENTIFIED
    return Recommendation(
        FitStatus.OK if evidence.is_fitted else unfitted,
        sentence(evidence, choice),
        info.name,
        info.objective.monitor,
        choice=choice,
        alternatives=tuple(other for name, other in choices.items() if name != choice.goal),
        refusals=refusals,
        sizes=expectations(evidence),
        margin=evidence.margin,
        next_runs=next_runs(evidence),
        caveats=(*missing, *caveats(evidence, choice)),
        pareto=pareto(evidence),
        critical_batch_size=evidence.fits.steps.critical_batch_size,
        code=_code(evidence),
    )


def _code(evidence: Evidence) -> UserCode:
    info, best = evidence.info, evidence.best
    return UserCode(
        code_in(info.config),
        info.places,
        best.further if best is not None and info.config else {},
        info.seed,
        info.num_train_samples,
        evidence.budget_samples,
        info.units_per_sample,
    )


def _check_goal(goal: str) -> Goal:
    if goal not in GOALS:
        raise ConfigError(f"unknown goal {goal!r}; allowed are {', '.join(GOALS)}." + nearest(goal, GOALS))
    return goal
