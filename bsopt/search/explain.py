"""What the sampler believes now, for people and for the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from optuna import Study
from optuna.trial import FrozenTrial
from scipy.special import ndtr

from bsopt.laws.estimate import FitStatus
from bsopt.laws.importance_sampling import even_shares
from bsopt.laws.lr_ridge import MIN_POINTS, read_ridge
from bsopt.laws.surface_prior import RidgePrior
from bsopt.search.model import Edge, Model, edges_of
from bsopt.units import format_chance, format_number, in_words

__all__ = ["Basin", "Explanation", "Proposal", "RidgeAt", "explain_model", "explain_proposal"]

Array: TypeAlias = NDArray[np.float64]

LEAST_TRIALS = 3
MOST_SIZES, RATES, NUM_PRIOR = 12, 33, 200
OCTAVES_BETWEEN_STUDIES = 1.0
"""How far a ridge is expected to move from one study to the next, as a standard deviation."""
_ABOUT = 0.3
"""Octaves within which two learning rates are about the same."""


@dataclass(frozen=True, slots=True)
class RidgeAt:
    """The best learning rate at one batch size with a 90 % interval, inside the searched range."""

    batch_size: float
    lr: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Basin:
    """Where the optimum probably is.

    Attributes:
        batch_sizes: (batch size, probability that the optimum is there), of those above 1 %, likeliest first.
        lr, lr_low, lr_high: The optimum's learning rate with a 90 % interval.
    """

    batch_sizes: tuple[tuple[float, float], ...]
    lr: float
    lr_low: float
    lr_high: float


@dataclass(frozen=True, slots=True)
class Proposal:
    """Why a trial was proposed, from what was known when it started.

    Attributes:
        chance: Probability that it would beat the best so far; NaN before any trial had finished.
        expected: The value that was expected there; NaN likewise.
    """

    number: int
    chance: float
    expected: float
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The sampler's belief about a study.

    Attributes:
        is_fitted: Whether there were enough trials; otherwise the ridge is the prior's.
        message: What is believed, or what is missing, in a sentence.
        ridge: lr*(B) over the proposed batch sizes; empty where none or no learning rate is searched.
        basin: None before the fit, or without a batch size or a learning rate.
        edges: Ends of ranges at which the best trial sits, with wider ranges to search.
        last: Why the last trial was proposed; None before the first and in multi-objective studies.
        prior: The fitted ridge as a prior for the next study (`prior_from`).
    """

    is_fitted: bool
    num_finished: int
    message: str
    ridge: tuple[RidgeAt, ...]
    basin: Basin | None
    edges: tuple[Edge, ...]
    last: Proposal | None
    prior: RidgePrior


def explain_model(model: Model, *, last: Proposal | None) -> Explanation:
    """Return the belief of a fit."""
    num = model.history.num_finished
    if not (model.prior.has_lr and model.prior.has_batch_size):
        message = "A ridge needs both a batch size and a learning rate to be searched."
        return Explanation(
            is_fitted=False, num_finished=num, message=message, ridge=(), basin=None, edges=edges_of(model), last=last,
            prior=model.prior.ridge,
        )  # fmt: skip
    sizes = _sizes(model)
    fit = read_ridge(model.values, batch_sizes=(2.0**sizes).tolist())
    found = [(size, fit.predict(2.0**size)) for size in sizes]
    if fit.best_lr is None or any(prediction is None for _, prediction in found):
        prior, message = _prior_ridge(model, sizes), f"{fit.message} The learning rates are those of the prior."
        if fit.status is FitStatus.TOO_FEW:
            message = f"Too few finished trials for a fit ({num} of {MIN_POINTS}); this is the prior."
        return Explanation(
            is_fitted=False, num_finished=num, message=message, ridge=prior,
            basin=None, edges=edges_of(model), last=last, prior=_as_prior(model, prior),
        )  # fmt: skip
    ridge = tuple(RidgeAt(p.batch_size, p.lr.value, p.lr.low, p.lr.high) for _, p in found if p is not None)
    pairs = [(row.batch_size, chance) for row, chance in zip(fit.table, fit.chances, strict=True) if chance > 0.01]
    likely = tuple(sorted(pairs, key=lambda pair: -pair[1]))
    best = fit.best_lr
    low, high = fit.tried_low or 1.0, fit.tried_high or math.inf
    is_part = low > 2.0 ** (sizes[0] + 0.5) or high < 2.0 ** (sizes[-1] - 0.5)
    where = f" at batch sizes {low:.0f} to {high:.0f}" if is_part else ""
    message = (
        f"After {num} trials{where} {_likeliest(likely)}, with a learning rate of {best.value:.2g} "
        f"(90 %: {best.low:.2g} to {best.high:.2g})."
    )
    basin = Basin(likely, best.value, best.low, best.high)
    return Explanation(
        is_fitted=True, num_finished=num, message=message, ridge=ridge, basin=basin, edges=edges_of(model), last=last,
        prior=_as_prior(model, ridge),
    )  # fmt: skip


def explain_proposal(model: Model, trial: FrozenTrial) -> Proposal:
    """Return why a trial was proposed, given the fit to the trials that had finished when it started."""
    history = model.history
    params: dict[str, Any] = {name: trial.params[name] for name in model.space.names}
    what = ", ".join(f"{name} {_text(value)}" for name, value in params.items())
    if not len(history.y):
        reason = f"{what}: nothing had finished yet, so the prior's best guess."
        return Proposal(trial.number, float("nan"), float("nan"), reason)
    row = model.space.encode([params])
    at = model.space.coordinates(row)
    candidates = np.flatnonzero(history.is_feasible)
    mean, variance = model.posterior.improvement(at, candidates if len(candidates) else np.arange(len(history.y)))
    weights = model.posterior.weights
    chance = float((weights @ ndtr(mean / np.sqrt(variance)))[0])
    expected, sd = (float(v[0]) for v in model.posterior.moments(at))
    value = float(history.transform.inverse(np.array([expected]))[0])
    low, high = sorted(history.transform.inverse(np.array([expected - sd, expected + sd])).tolist())
    kind = "near the best so far" if chance > 0.4 else "promising" if chance > 0.15 else "to learn more"
    reason = f"{what}: {kind}; {value:.4g} expected ({low:.4g} to {high:.4g}), chance to beat the best "
    reason += f"{format_chance(chance)}."
    if model.prior.has_lr and len(history.y) >= LEAST_TRIALS:
        octaves = _octaves_from_best(model, row)
        away = "about" if abs(octaves) < _ABOUT else f"{2.0**octaves:.2g} times"
        reason += f" Its learning rate is {away} the best one expected then at this batch size."
    return Proposal(trial.number, chance, value, reason)


def known_before(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> list[FrozenTrial]:
    """Return the trials that had finished when a trial started."""
    start = trial.datetime_start
    return [
        t
        for t in trials
        if t.state.is_finished()
        and t.number != trial.number
        and (t.number < trial.number if start is None or t.datetime_complete is None else t.datetime_complete <= start)
    ]


def last_proposed(study: Study) -> FrozenTrial | None:
    """Return the study's latest trial that has parameters."""
    return next((t for t in reversed(study.get_trials(deepcopy=False)) if t.params), None)


def _sizes(model: Model) -> Array:
    """Return log2 of the batch sizes to tell about: those that are proposed, evenly thinned where they are many."""
    size = model.space.column("batch_size")
    assert size is not None
    assert size.values is not None
    shown = np.linspace(0, len(size.values) - 1, min(len(size.values), MOST_SIZES)).round().astype(int)
    return np.asarray(size.values[np.unique(shown)])


def _octaves_from_best(model: Model, row: Array) -> float:
    """Return how far a row's learning rate lies above the one with the lowest expected value, all else equal."""
    rate = model.space.index("lr")
    assert rate is not None
    column = model.space.columns[rate]
    x = np.linspace(column.low, column.high, RATES)
    rows = np.repeat(row, RATES, axis=0)
    rows[:, rate] = x
    mean, _ = model.posterior.moments(model.space.coordinates(rows))
    return float(row[0, rate] - x[mean.argmin()])


def _prior_ridge(model: Model, sizes: Array) -> tuple[RidgeAt, ...]:
    """Return the ridge before there is a fit, inside the searched range."""
    posterior, rate = model.posterior, model.space.column("lr")
    assert rate is not None
    counts = even_shares(posterior.weights, NUM_PRIOR, np.random.default_rng(0))
    draws = np.repeat(model.prior.ridge_at(posterior.parameters, sizes), counts, axis=0)
    ends = 2.0 ** np.clip(np.quantile(draws, [0.5, 0.05, 0.95], axis=0), rate.low, rate.high)
    return tuple(RidgeAt(float(2.0**b), *(float(v) for v in at)) for b, at in zip(sizes, ends.T, strict=True))


def _as_prior(model: Model, ridge: Sequence[RidgeAt]) -> RidgePrior:
    """Return the fitted ridge as a prior: its shape from the draws, its height where it is known best."""
    posterior, before = model.posterior, model.prior.ridge
    w, parameters = posterior.weights, posterior.parameters
    exponent, knee = float(w @ parameters.exponent), float(w @ parameters.knee)
    exponent_sd = float(np.sqrt(w @ (parameters.exponent - exponent) ** 2 + 0.05**2))
    knee_sd = float(np.sqrt(w @ (parameters.knee - knee) ** 2 + 0.5**2))
    known = min(ridge, key=lambda point: point.high / point.low)
    width = float(np.log2(known.high / known.low)) / 3.29  # a 90 % interval is 3.29 sd wide
    fitted = replace(before, exponent=exponent, exponent_sd=exponent_sd, knee=knee, knee_sd=knee_sd)
    shift = model.prior.shape_at(fitted, float(np.log2(known.batch_size)))
    if len(model.history.y):  # a searched momentum counts as that of the best trial
        row = model.history.rows[model.history.y.argmin()]
        rate = model.space.index("lr")
        assert rate is not None
        shift -= float(model.space.coordinates(row[None]).x[0] - row[rate])
    sd = float(np.hypot(width, OCTAVES_BETWEEN_STUDIES))
    return replace(fitted, centre=float(np.log2(known.lr)) - shift, centre_sd=min(sd, before.centre_sd))


def _likeliest(chances: Sequence[tuple[float, float]]) -> str:
    size, share = chances[0]
    if share >= 0.5 or len(chances) == 1:
        return f"the best batch size is probably {size:.0f} ({format_chance(share)})"
    likeliest = in_words(f"{size:.0f} ({format_chance(share)})" for size, share in chances[:3])
    return f"no batch size stands out; likeliest are {likeliest}"


def _text(value: object) -> str:
    return format_number(value, digits=3) if isinstance(value, float) else str(value)
