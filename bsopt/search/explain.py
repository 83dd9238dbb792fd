"""What the sampler believes now, for people and for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from optuna import Study
from optuna.trial import FrozenTrial
from scipy.special import ndtr

from bsopt.laws.surface_prior import RidgePrior
from bsopt.search.model import Edge, Model, edges_of
from bsopt.units import format_chance, format_number, in_words

__all__ = ["Basin", "Explanation", "Proposal", "RidgeAt", "explain_model", "explain_proposal"]

Array: TypeAlias = NDArray[np.float64]

LEAST_TRIALS = 3
SAMPLES_PER_DRAW, MOST_SIZES, RATES = 4, 12, 33
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


def explain_model(model: Model, *, last: Proposal | None, seed: int) -> Explanation:
    """Return the belief of a fit, by drawing whole surfaces from it."""
    num, is_fitted = model.history.num_finished, model.history.num_finished >= LEAST_TRIALS
    if not (model.prior.has_lr and model.prior.has_batch_size):
        message = "A ridge needs both a batch size and a learning rate to be searched."
        return Explanation(
            is_fitted=False, num_finished=num, message=message, ridge=(), basin=None, edges=edges_of(model), last=last,
            prior=model.prior.ridge,
        )  # fmt: skip
    rows, sizes, rates = _surface(model)
    picks, weights = _sampled_optima(model, rows, (len(sizes), len(rates)), seed)
    log_rates = np.log2(rates)
    ridge = tuple(RidgeAt(float(size), *_interval(log_rates, picks[:, i], weights)) for i, size in enumerate(sizes))
    where, at = picks[:, -1] // len(rates), picks[:, -1] % len(rates)
    chances = np.bincount(where, weights=weights, minlength=len(sizes))
    pairs = [(float(size), float(chance)) for size, chance in zip(sizes, chances, strict=True) if chance > 0.01]
    likely = sorted(pairs, key=lambda pair: -pair[1])
    middle, low, high = _interval(log_rates, at, weights)
    basin = Basin(tuple(likely), middle, low, high) if is_fitted else None
    message = f"Too few finished trials for a fit ({num} of {LEAST_TRIALS}); this is the prior."
    if is_fitted:
        rate = f"{middle:.2g} (90 %: {low:.2g} to {high:.2g})"
        message = f"After {num} trials {_likeliest(likely)}, with a learning rate of {rate}."
    return Explanation(is_fitted, num, message, ridge, basin, edges_of(model), last, _as_prior(model, ridge))


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


def _surface(model: Model) -> tuple[Array, Array, Array]:
    """Return rows over batch sizes × learning rates, other parameters as in the best trial, and both axes."""
    space = model.space
    size, rate = space.index("batch_size"), space.index("lr")
    assert size is not None
    assert rate is not None
    b = space.columns[size].values
    assert b is not None
    b = b[np.unique(np.linspace(0, len(b) - 1, min(len(b), MOST_SIZES)).round().astype(int))]
    column = space.columns[rate]
    x = column.values if column.values is not None else np.linspace(column.low, column.high, RATES)
    middle = np.array([(c.low + c.high) / 2 for c in space.columns])
    best = model.history.rows[model.history.y.argmin()] if len(model.history.y) else space.snap(middle[None])[0]
    rows = np.repeat(best[None], len(b) * len(x), axis=0)
    rows[:, size], rows[:, rate] = np.repeat(b, len(x)), np.tile(x, len(b))
    return rows, 2.0**b, 2.0**x


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


def _sampled_optima(model: Model, rows: Array, shape: tuple[int, int], seed: int) -> tuple[NDArray[np.int64], Array]:
    """Return the best learning rate's index at each size, then the best point's index, per sample; and weights."""
    at = model.space.coordinates(rows)
    samples, weights = model.posterior.sample(at, SAMPLES_PER_DRAW, np.random.default_rng([seed, len(model.history.y)]))
    each = samples.reshape(len(samples), *shape).argmin(axis=2)
    return np.concatenate([each, samples.argmin(axis=1)[:, None]], axis=1), weights


def _interval(log_rates: Array, picks: NDArray[np.int64], weights: Array) -> tuple[float, float, float]:
    """Return median and 90 % interval of picked learning rates; a pick is known to within half a step."""
    order = np.argsort(picks, kind="stable")
    upto = np.cumsum(weights[order]) / weights.sum()
    at = np.minimum(np.searchsorted(upto, [0.5, 0.05, 0.95]), len(picks) - 1)
    middle, low, high = (float(value) for value in log_rates[picks[order]][at])
    half = float(log_rates[-1] - log_rates[0]) / max(len(log_rates) - 1, 1) / 2
    ends = max(low - half, float(log_rates[0])), min(high + half, float(log_rates[-1]))
    return 2.0**middle, 2.0 ** ends[0], 2.0 ** ends[1]


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
