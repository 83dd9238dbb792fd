"""Fits and a goal in, an answer out: which batch size and learning rate, how to run it, and how sure that is."""

from __future__ import annotations

import optuna

from bsopt.errors import ConfigError, nearest
from bsopt.laws.estimate import FitStatus
from bsopt.recommendation.choices import choice_at, choose
from bsopt.recommendation.costs import pareto
from bsopt.recommendation.evidence import Evidence
from bsopt.recommendation.fits import Fits
from bsopt.recommendation.result import GOALS, Recommendation
from bsopt.recommendation.sentences import caveats, sentence, why_missing

__all__ = ["recommend"]


def recommend(
    study: optuna.Study,
    *,
    goal: str = "quality",
    num_devices: int | None = None,
    num_nodes: int | None = None,
    batch_size: int | None = None,
    budget: float | str | None = None,
    bandwidth: float | None = None,
    fits: Fits | None = None,
) -> Recommendation:
    """Return which batch size and learning rate to train with.

    Args:
        study: Any single-objective study with parameters `batch_size` and `lr`, ours or anyone's.
        goal: `quality` (best value at the budget), `largest` (largest batch size that costs nothing in quality beyond
            noise), `fastest` (least time to the target, or over the budget) or `cheapest` (least energy, or
            device-hours).
        num_devices: Devices per node to plan for; the study's by default.
        num_nodes: Nodes; the study's by default.
        batch_size: Answer for this global batch size instead.
        budget: Another training budget than the study's: samples, or text such as "40 epochs".
        bandwidth: Of the slowest link between the devices, in bytes per second, where no trial measured it.
        fits: The study's fitted laws, where they are at hand.

    Raises:
        ConfigError: An unknown goal, a budget that can't be read, or a bandwidth for a model of unknown size.
    """
    if goal not in GOALS:
        raise ConfigError(f"unknown goal {goal!r}; allowed are {', '.join(GOALS)}." + nearest(goal, GOALS))
    evidence = Evidence.of(study, devices=num_devices, nodes=num_nodes, budget=budget, bandwidth=bandwidth, fits=fits)
    best = evidence.best
    if best is None:
        count = len(evidence.records)
        return Recommendation(
            FitStatus.TOO_FEW,
            f"None of {count} trials ended with a finite value, so there is no answer yet."
            if count
            else "No trial has run yet, so there is no answer.",
            evidence.info.name,
            evidence.info.objective.monitor,
        )
    choices = {name: choose(evidence, name) for name in GOALS}
    asked = next(name for name in GOALS if name == goal)
    choice = (
        choices[asked]
        if batch_size is None
        else choice_at(evidence, batch_size, asked, ("You asked for this batch size.",))
    )
    missing: tuple[str, ...] = ()
    if choice is None:
        choice, missing = choices["quality"], (why_missing(evidence, asked),)
    assert choice is not None  # quality always has one where a trial succeeded
    status = FitStatus.OK if evidence.is_fitted else evidence.fits.ridge.status
    return Recommendation(
        status,
        sentence(evidence, choice),
        evidence.info.name,
        evidence.info.objective.monitor,
        choice=choice,
        alternatives=tuple(c for name, c in choices.items() if c is not None and name != choice.goal),
        ties=evidence.ties,
        caveats=(*missing, *caveats(evidence, choice)),
        pareto=pareto(evidence),
        critical_batch_size=evidence.fits.steps.critical_batch_size,
    )
