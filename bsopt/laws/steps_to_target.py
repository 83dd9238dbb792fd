r"""Steps and samples to a target value against batch size, and the critical batch size.

Notation, as in the code below:

    B               global batch size, samples per optimizer update
    S(B), E(B)      optimizer steps and samples to the target:  S = S_min·(1 + B_c/B),  E = B·S = E_min·(1 + B/B_c)
    B_c             critical batch size E_min/S_min, where both cost twice their minimum
    e(B)            scaling elasticity −d ln S/d ln B = B_c/(B + B_c): 1 perfect scaling, 0 flat

McCandlish et al. 2018 (arXiv 1812.06162, eq. 2.7 and 5.1). The law holds where the learning rate is tuned at each
batch size; a fit says where runs contradict it. The posterior is taken on a grid over ln B_c and the scatter of
batch sizes about the law, with ln E_min marginalised exactly where no run is censored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from bsopt.laws.estimate import Estimate, FitStatus, draw_from_grid, estimate_from_samples, shuffled_normals

__all__ = [
    "MIN_SIZES",
    "Regime",
    "StepsToTargetFit",
    "TargetPrediction",
    "TargetRun",
    "fit_steps_to_target",
    "samples_to_target",
    "steps_to_target",
]

Array = NDArray[np.float64]
Regime = Literal["perfect_scaling", "diminishing", "flat"]

MIN_SIZES = 3
"""Batch sizes that reached the target below which nothing is fitted: the law has two parameters."""
PERFECT_ELASTICITY, FLAT_ELASTICITY = 0.8, 0.2
"""Doubling B saves at least 43 % of the steps (B ≤ B_c/4), and at most 13 % (B ≥ 4·B_c)."""
IDENTIFIED_FACTOR = 16.0
"""Width (high/low) of B_c's 90 % interval up to which it counts as identified."""
USEFUL_FACTOR = 4.0
"""Width (high/low) of the samples' 90 % interval up to which they are told beyond the batch sizes that ran."""
MIN_MEASURED = 2
"""Batch sizes whose crossing was seen, and not only bounded, below which nothing is fitted."""

_SCATTER, _SCATTER_LOG_SD = 0.05, 0.6  # of ln E about the law; MLPerf reference points: 2–13 % at worst (FACTS)
_LEAST_NOISE = 0.01
_DRAWS = 199


@dataclass(frozen=True, slots=True)
class TargetRun:
    """One run: samples seen when it reached the target, or, if it never did, how far it was watched.

    Attributes:
        samples: NaN or inf where the target was never reached.
        watched_samples: Samples after which a run that never reached it stopped; None where unknown, and then
            the run tells nothing by itself.
        is_upper_bound: Whether it was past the target at its first validation, so that it reached it somewhere before
            `samples`.
        resolution_samples: Samples between the validation that saw it and the one before; None for the fit's own.
    """

    batch_size: float
    samples: float
    watched_samples: float | None = None
    is_upper_bound: bool = False
    resolution_samples: float | None = None

    def scaled(self, factor: float) -> TargetRun:
        """Return the run with its samples counted in another unit, `factor` of which make a sample."""
        watched, resolution = (
            None if amount is None else amount * factor for amount in (self.watched_samples, self.resolution_samples)
        )
        return replace(self, samples=self.samples * factor, watched_samples=watched, resolution_samples=resolution)


@dataclass(frozen=True, slots=True)
class TargetPrediction:
    """What one batch size costs to the target, and in which regime it lies."""

    batch_size: float
    samples: Estimate
    steps: Estimate
    regime: Regime
    regime_chance: float
    is_extrapolated: bool


@dataclass(frozen=True, slots=True)
class StepsToTargetFit:
    """S(B), E(B) and B_c with intervals; below the data they need, a status and a sentence.

    Attributes:
        critical_batch_size: In samples. With status `not_identified` its interval holds bounds only.
        resolution_samples: Samples between two validations: predictions are of a crossing seen at that resolution.
        scatter: Standard deviation of ln E between batch sizes about the law.
        draws: (ln E_min, ln B_c, scatter) of posterior draws.
    """

    status: FitStatus
    message: str
    num_sizes: int
    num_runs: int
    target: float | None = None
    resolution_samples: float = 0.0
    min_samples: Estimate | None = None
    min_steps: Estimate | None = None
    critical_batch_size: Estimate | None = None
    scatter: float | None = None
    tried_low: float | None = None
    tried_high: float | None = None
    draws: tuple[tuple[float, float, float], ...] = ()

    def predict(self, batch_size: float) -> TargetPrediction | None:
        """Return cost and regime at a global batch size.

        None where nothing is fitted, and, beyond the batch sizes that ran, where the interval of the samples is wider
        than a factor of `USEFUL_FACTOR`: an unbounded critical batch size alone is no reason, since far below it the
        samples hardly change.
        """
        if not self.draws or self.tried_low is None or self.tried_high is None:
            return None
        is_extrapolated = not self.tried_low <= batch_size <= self.tried_high
        if self.status is FitStatus.CONTRADICTORY:
            return None
        log_min, log_critical, scatter = np.array(self.draws).T
        noise = shuffled_normals(len(log_min), seed=len(log_min))
        law = log_min + np.log1p(batch_size / np.exp(log_critical))
        rounding = self.resolution_samples / np.sqrt(12.0) / np.exp(law)
        seen = np.exp(law + np.hypot(scatter, rounding) * noise) + self.resolution_samples / 2.0
        samples = estimate_from_samples(seen)
        if is_extrapolated and samples.high > USEFUL_FACTOR * samples.low:
            return None
        elasticity = 1.0 / (1.0 + batch_size / np.exp(log_critical))
        chances: dict[Regime, float] = {
            "perfect_scaling": float((elasticity >= PERFECT_ELASTICITY).mean()),
            "flat": float((elasticity <= FLAT_ELASTICITY).mean()),
        }
        chances["diminishing"] = 1.0 - sum(chances.values())
        regime = max(chances, key=lambda name: chances[name])
        return TargetPrediction(
            batch_size=float(batch_size),
            samples=samples,
            steps=samples.scaled(1.0 / batch_size),
            regime=regime,
            regime_chance=chances[regime],
            is_extrapolated=is_extrapolated,
        )


def steps_to_target(batch_size: float, *, min_steps: float, critical_batch_size: float) -> float:
    """Return S(B) = S_min·(1 + B_c/B), optimizer steps to the target.

    >>> steps_to_target(100.0, min_steps=50.0, critical_batch_size=100.0)
    100.0
    """
    return min_steps * (1.0 + critical_batch_size / batch_size)


def samples_to_target(batch_size: float, *, min_samples: float, critical_batch_size: float) -> float:
    """Return E(B) = E_min·(1 + B/B_c), samples to the target.

    >>> samples_to_target(100.0, min_samples=5000.0, critical_batch_size=100.0)
    10000.0
    """
    return min_samples * (1.0 + batch_size / critical_batch_size)


def fit_steps_to_target(
    runs: Iterable[TargetRun], *, target: float | None = None, resolution_samples: float = 0.0
) -> StepsToTargetFit:
    """Fit E(B) = E_min·(1 + B/B_c) to runs, several per batch size or one.

    A batch size enters with its median run, so that a slip among several does no harm. Where that run never reached the
    target, or was past it at its first validation, the size enters as a lower or an upper bound.

    Args:
        runs: Runs at the learning rate tuned for their batch size.
        target: The value that counts as reached, kept for the reader.
        resolution_samples: Samples between two validations: a crossing is known no better.

    Returns:
        The fit; `status` is `too_few` under three batch sizes, `contradictory` where samples to the target fall,
        or steps rise, with the batch size, and `not_identified` where the sizes can't bound B_c.
    """
    table = _group(runs, resolution_samples)
    reached = [row for row in table if not row.is_lower_bound]
    measured = [row for row in reached if not row.is_upper_bound]
    num_runs = sum(row.num_runs for row in table)
    head = (len(reached), num_runs, target, resolution_samples)
    if len(reached) < MIN_SIZES:
        sizes = "batch size" if len(reached) == 1 else "batch sizes"
        return StepsToTargetFit(
            FitStatus.TOO_FEW,
            f"{len(reached)} {sizes} reached the target; the critical batch size needs at least {MIN_SIZES}.",
            *head,
        )
    if len(measured) < MIN_MEASURED:
        return StepsToTargetFit(
            FitStatus.TOO_FEW,
            f"{len(reached) - len(measured)} of {len(reached)} batch sizes were past the target at their first "
            "validation: a harder target, or earlier validations (budget.validate_every: geometric), would tell the "
            "critical batch size.",
            *head,
        )
    if problem := _contradiction(measured):
        return StepsToTargetFit(FitStatus.CONTRADICTORY, problem, *head)
    posterior = _posterior(table)
    return _summarise(table, posterior, head)


# --- data ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Size:
    B: float
    log_samples: float  # median ln E, or the bound
    variance: float  # of that median: scatter of runs and the resolution
    num_runs: int
    is_lower_bound: bool = False  # never reached
    is_upper_bound: bool = False  # past the target at the first validation


def _group(runs: Iterable[TargetRun], resolution: float) -> list[_Size]:
    by_size: dict[float, list[TargetRun]] = {}
    for run in runs:
        if run.batch_size > 0:
            by_size.setdefault(float(run.batch_size), []).append(run)
    logs = {
        B: np.log([r.samples if np.isfinite(r.samples) and r.samples > 0 else np.inf for r in group])
        for B, group in by_size.items()
    }
    run_variance = _pooled_variance(list(logs.values()))
    table = []
    for B, values in sorted(logs.items()):
        middle_run = by_size[B][int(np.argsort(values, kind="stable")[len(values) // 2])]
        is_upper = middle_run.is_upper_bound
        has_bounds = bool(np.isinf(values).any()) or is_upper
        middle = float(np.sort(values)[len(values) // 2]) if has_bounds else float(np.median(values))
        is_lower = not np.isfinite(middle)
        if is_lower:
            watched = [r.watched_samples for r in by_size[B] if r.watched_samples and not np.isfinite(r.samples)]
            if not watched:
                continue
            middle = float(np.log(np.median(watched)))
        own = resolution if middle_run.resolution_samples is None else middle_run.resolution_samples
        if not is_upper and not is_lower:  # it happened somewhere since the validation before
            middle = float(np.log(max(np.exp(middle) - own / 2.0, np.exp(middle) / 2.0)))
        quantum = 0.0 if is_upper else own / np.exp(middle)
        variance = run_variance * (np.pi / 2.0 if len(values) > 2 else 1.0) / len(values) + quantum**2 / 12.0
        size = _Size(B, middle, max(float(variance), _LEAST_NOISE**2), len(values), is_lower, is_upper)
        table.append(size)
    return table


def _pooled_variance(groups: Sequence[Array]) -> float:
    """Variance of ln E between runs of one size, pooled and robust (from median absolute deviations)."""
    spreads = [
        (1.4826 * float(np.median(np.abs(g - np.median(g))))) ** 2
        for g in groups
        if len(g) > 1 and np.isfinite(g).all()
    ]
    return float(np.mean(spreads)) if spreads else 0.0


def _contradiction(reached: Sequence[_Size]) -> str | None:
    """Return why the law can't hold: samples that fall, or steps that rise, with the batch size."""
    for i, small in enumerate(reached):
        for large in reached[i + 1 :]:
            margin = 3.0 * np.sqrt(small.variance + large.variance + 2.0 * _SCATTER**2)
            change = large.log_samples - small.log_samples
            if change < -margin:
                return (
                    f"Batch size {large.B:.0f} reaches the target in {np.exp(change):.2f} times the samples of "
                    f"batch size {small.B:.0f}, where the law allows no fall: the learning rate isn't tuned at the "
                    "smaller one."
                )
            if change > np.log(large.B / small.B) + margin:
                return (
                    f"Batch size {large.B:.0f} needs more optimizer steps than batch size {small.B:.0f}, where the law "
                    "allows no rise: the learning rate isn't tuned at the larger one."
                )
    return None


# --- posterior -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Posterior:
    log_critical: Array  # [g]
    scatter: Array  # [s]
    log_weight: Array  # [g, s], not normalised
    mean: Array  # [g, s] of ln E_min
    sd: Array  # [g, s]


def _posterior(table: Sequence[_Size]) -> _Posterior:
    B = np.array([row.B for row in table])
    y = np.array([row.log_samples for row in table])
    variance = np.array([row.variance for row in table])
    upper = np.array([row.is_upper_bound for row in table])
    bound = np.array([row.is_lower_bound for row in table]) | upper
    # Up to sizes so large that the samples are as good as flat over those that ran: they may be.
    log_critical = np.linspace(np.log(B.min() / 30.0), np.log(B.max() * 3000.0), 300)
    steps = np.linspace(-2.2, 2.8, 15)
    scatter = _SCATTER * np.exp(_SCATTER_LOG_SD * steps)
    shape = np.log1p(B[None] / np.exp(log_critical)[:, None])  # [g, B]
    total = variance[None] + scatter[:, None] ** 2  # [s, B]
    precision = np.where(bound, 0.0, 1.0 / total)
    residual = np.where(bound, 0.0, y)[None] - np.where(bound, 0.0, shape)  # [g, B]
    sum_precision = precision.sum(1)  # [s]
    mean = residual @ precision.T / sum_precision
    square = residual**2 @ precision.T - mean**2 * sum_precision
    log_weight = -0.5 * square + 0.5 * np.log(np.where(bound, 1.0, precision)).sum(1) - 0.5 * np.log(sum_precision)
    log_weight = log_weight - 0.5 * steps**2
    sd = np.broadcast_to(1.0 / np.sqrt(sum_precision), mean.shape)
    for i in np.flatnonzero(bound):  # the size's true median lies above its lower bound, below its upper one
        spread = np.sqrt(total[:, i] + sd**2)
        side = -1.0 if upper[i] else 1.0
        log_weight = log_weight + log_ndtr(side * (mean + shape[:, i : i + 1] - y[i]) / spread)
    return _Posterior(log_critical, scatter, log_weight, mean, np.array(sd))


def _draw(posterior: _Posterior) -> Array:
    """Draws [_DRAWS, 3] of (ln E_min, ln B_c, scatter): evenly spaced in B_c's order, so that few say much."""
    g, s = draw_from_grid(posterior.log_weight, _DRAWS)
    noise = shuffled_normals(_DRAWS, seed=0)
    log_min = posterior.mean[g, s] + posterior.sd[g, s] * noise
    return np.column_stack([log_min, posterior.log_critical[g], posterior.scatter[s]])


def _summarise(
    table: Sequence[_Size], posterior: _Posterior, head: tuple[int, int, float | None, float]
) -> StepsToTargetFit:
    draws = _draw(posterior)
    log_min, log_critical, scatter = draws.T
    critical = estimate_from_samples(np.exp(log_critical))
    reached = [row.B for row in table if not row.is_lower_bound]
    low, high = min(reached), max(reached)
    at_least = float(np.exp(posterior.log_critical[-1])) * 0.5
    unbounded_above, unbounded_below = critical.high > at_least, critical.low < low / 15.0
    status, message = (
        FitStatus.OK,
        (
            f"The critical batch size is {_samples(critical.value)} samples (90 %: {_samples(critical.low)} to "
            f"{_samples(critical.high)}), from {head[0]} batch sizes."
        ),
    )
    if unbounded_above or unbounded_below or critical.high / critical.low > IDENTIFIED_FACTOR:
        status = FitStatus.NOT_IDENTIFIED
        critical = Estimate(
            critical.value, 0.0 if unbounded_below else critical.low, np.inf if unbounded_above else critical.high
        )
        message = _unidentified(critical, low, high)
    return StepsToTargetFit(
        status,
        message,
        *head,
        min_samples=estimate_from_samples(np.exp(log_min)),
        min_steps=estimate_from_samples(np.exp(log_min - log_critical)),
        critical_batch_size=critical,
        scatter=float(np.median(scatter)),
        tried_low=low,
        tried_high=high,
        draws=tuple((float(a), float(b), float(c)) for a, b, c in draws),
    )


def _unidentified(critical: Estimate, low: float, high: float) -> str:
    tried = f"batch sizes {low:.0f} to {high:.0f}"
    if np.isinf(critical.high) and critical.low > 0:
        return (
            f"The critical batch size lies above {_samples(critical.low)} samples: {tried} use about as many samples "
            "each, so larger ones must run before it can be told."
        )
    if critical.low <= 0 and np.isfinite(critical.high):
        return (
            f"The critical batch size lies below {_samples(critical.high)} samples: {tried} take about as many steps "
            "each, so smaller ones must run before it can be told."
        )
    return (
        f"The critical batch size can't be told from {tried}: between them the samples to the target scatter too much."
    )


def _samples(number: float) -> str:
    return f"{number:.3g}" if number < 1000 else f"{number:,.0f}"
