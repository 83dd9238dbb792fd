"""The best learning rate at each batch size, lr*(B), fitted over all trials of a study.

The model and its notation: `bsopt.laws.ridge_model`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bsopt.laws.direction import Direction, sign_of
from bsopt.laws.estimate import Estimate, FitStatus, estimate_from_samples
from bsopt.laws.ridge_model import (
    ModelPrior,
    RidgeData,
    RidgeParameters,
    RidgePoint,
    Surfaces,
    prepare,
    prior_of,
    sample_parameters,
    sample_surfaces,
)
from bsopt.laws.scaling import log2_scaling

__all__ = ["LrPrediction", "LrRidgeFit", "RidgePoint", "RuleVerdict", "fit_lr_ridge"]

Array = NDArray[np.float64]

MIN_POINTS = 5
"""Finite trials below which no ridge is fitted: fewer than the ridge and its two widths have parameters."""
UNCERTAIN_OCTAVES = 4.0
"""Interval width at the studied batch sizes from which lr* counts as not identified."""


@dataclass(frozen=True, slots=True)
class LrPrediction:
    """What the fit says at one batch size.

    Attributes:
        lr: The best learning rate.
        stable_low, stable_high: The range of learning rates that are predicted no further from the best than the
            study's median trial.
        value: The objective's value at `lr`.
        is_extrapolated: No trial ran within half an octave of, or beyond, this batch size.
        at_edge: The best learning rate lies at or beyond the edge of the range that was searched.
    """

    batch_size: float
    lr: Estimate
    stable_low: float
    stable_high: float
    value: Estimate
    is_extrapolated: bool
    at_edge: bool


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """A published scaling rule against the study's own exponent."""

    rule: str
    exponent: float
    is_compatible: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class LrRidgeFit:
    """lr*(B) with intervals; below the data that it needs, a status and a sentence.

    Attributes:
        exponent: d log lr* / d log B over the batch sizes that were tried, whatever the law.
        law_exponent: The saturating law's exponent below its knee.
        knee_batch_size: The law's B_n in samples.
        noise_sd: Standard deviation of repeated values near the best, in the objective's unit.
        table: Predictions on a lattice of batch sizes.
        law_draws: (log2 lr at the pivot, exponent, log2 B_n) of posterior draws, for batch sizes beyond the table.
        value_draws: Posterior draws of the value along the ridge, one row a draw and one column a row of `table`.
    """

    status: FitStatus
    message: str
    num_points: int
    exponent: Estimate | None = None
    law_exponent: Estimate | None = None
    knee_batch_size: Estimate | None = None
    noise_sd: float | None = None
    best_batch_size: float | None = None
    tried_low: float | None = None
    tried_high: float | None = None
    pivot_batch_size: float | None = None
    table: tuple[LrPrediction, ...] = ()
    law_draws: tuple[tuple[float, float, float], ...] = ()
    value_draws: tuple[tuple[float, ...], ...] = ()

    def predict(self, batch_size: float) -> LrPrediction | None:
        """Return what is known at a global batch size, run or never run; None where nothing is fitted."""
        if not self.table or self.status in (FitStatus.TOO_FEW, FitStatus.CONTRADICTORY):
            return None
        at = np.log2([p.batch_size for p in self.table])
        b = float(np.log2(batch_size))
        inside = float(np.clip(b, at[0], at[-1]))

        def between(values: Sequence[float], *, log: bool) -> float:
            y = np.log2(values) if log else np.asarray(values, dtype=float)
            found = float(np.interp(inside, at, y))
            return float(2.0**found) if log else found

        def estimate(items: Sequence[Estimate], *, log: bool) -> Estimate:
            return Estimate(
                between([e.value for e in items], log=log),
                between([e.low for e in items], log=log),
                between([e.high for e in items], log=log),
            )

        lr = estimate([p.lr for p in self.table], log=True)
        stable = [between([getattr(p, side) for p in self.table], log=True) for side in ("stable_low", "stable_high")]
        if b != inside:
            step = self._law_step(inside, b)
            lr = Estimate(lr.value * step.value, lr.low * step.low, lr.high * step.high)
            stable = [stable[0] * step.value, stable[1] * step.value]
        nearest = self.table[int(np.argmin(np.abs(at - b)))]
        return LrPrediction(
            batch_size=float(batch_size),
            lr=lr,
            stable_low=stable[0],
            stable_high=stable[1],
            value=estimate([p.value for p in self.table], log=False),
            is_extrapolated=nearest.is_extrapolated or b != inside,
            at_edge=nearest.at_edge,
        )

    def sample_values(self, batch_sizes: Sequence[float]) -> Array | None:
        """Return joint posterior draws of the value at the best learning rate of each batch size.

        The draws of one row belong together: differences between batch sizes are taken within it.

        Args:
            batch_sizes: Global batch sizes in samples; beyond the table its ends are taken.

        Returns:
            Shape (draws, batch sizes), in the objective's unit; None where nothing is fitted.
        """
        if not self.value_draws or self.status in (FitStatus.TOO_FEW, FitStatus.CONTRADICTORY):
            return None
        at = np.log2([row.batch_size for row in self.table])
        wanted = np.log2(np.asarray(batch_sizes, dtype=float))
        return np.array([np.interp(wanted, at, draw) for draw in self.value_draws])

    def rules(self) -> tuple[RuleVerdict, ...]:
        """Return the linear, square-root and constant rules, each against the fitted exponent."""
        if self.exponent is None:
            return ()
        return tuple(
            _verdict(name, power, self.exponent) for name, power in (("linear", 1.0), ("sqrt", 0.5), ("none", 0.0))
        )

    def _law_step(self, start: float, end: float) -> Estimate:
        """By which factor lr* changes between two batch sizes, log2 samples, under the law."""
        _, exponent, knee = np.array(self.law_draws).T
        return estimate_from_samples(2.0 ** log2_scaling(np.array(end - start), knee=knee - start, exponent=exponent))


def fit_lr_ridge(
    points: Iterable[RidgePoint],
    *,
    direction: Direction = "minimize",
    optimizer: str | None = None,
    lr_range: tuple[float, float] | None = None,
) -> LrRidgeFit:
    """Fit lr*(B) over all trials, diverged ones too. The result is deterministic.

    Args:
        points: The trials.
        direction: Which values are better.
        optimizer: Its name, for the exponent's prior: about 0.7 ± 0.25 for SGD, 0.4 ± 0.25 for adaptive methods.
        lr_range: The range that was searched; by default that of the trials.

    Returns:
        The fit; `status` is `too_few` under five finite trials or two learning rates, `not_identified` where lr*
        stays uncertain by over four octaves, `contradictory` where batch size and learning rate explain nothing.
    """
    kept = [p for p in points if p.batch_size > 0 and p.lr > 0]
    finite = [p for p in kept if np.isfinite(p.value)]
    rates = {round(float(np.log2(p.lr)), 3) for p in finite}
    if len(finite) < MIN_POINTS or len(rates) < 3:
        return LrRidgeFit(
            FitStatus.TOO_FEW,
            f"{len(finite)} finished trials with {len(rates)} different learning rates are too few for a fit of the "
            f"best learning rate: it needs at least {MIN_POINTS} trials and 3 learning rates.",
            len(finite),
        )
    data = prepare(kept, sign=sign_of(direction))
    if data.spread <= 0:
        return LrRidgeFit(
            FitStatus.CONTRADICTORY,
            f"All {len(finite)} finished trials have the same value: neither batch size nor learning rate matters.",
            len(finite),
        )
    prior = prior_of(data, optimizer, lr_range)
    draws = sample_parameters(data, prior)
    return _summarise(data, prior, draws, num_points=len(finite))


def _summarise(data: RidgeData, prior: ModelPrior, draws: RidgeParameters, *, num_points: int) -> LrRidgeFit:
    tried = np.unique(data.b)
    low, high = float(tried[0]), float(tried[-1])
    step = max(1.0, (high - low + 4.0) / 14.0)
    sizes = np.arange(max(0.0, np.floor(low) - 2.0), np.ceil(high) + 2.0 + 1e-9, step)
    surface = sample_surfaces(sizes, data, prior, draws)
    table = tuple(_row(i, b, surface, data, prior, tried) for i, b in enumerate(sizes))
    inner = (sizes >= low - 0.5 * step) & (sizes <= high + 0.5 * step)
    at_best = int(np.argmin(np.where(inner, np.quantile(surface.z, 0.75, axis=0), np.inf)))
    widths = [float(np.log2(row.lr.high / row.lr.low)) for row, ok in zip(table, inner, strict=True) if ok]
    status, message = _judge(data, table[at_best], min(widths), float(np.exp(np.median(draws.log_noise))), num_points)
    return LrRidgeFit(
        status,
        message,
        num_points,
        exponent=_exponent(sizes, surface, prior, low, high) if len(tried) > 1 and high - low >= 1.0 else None,
        law_exponent=estimate_from_samples(draws.exponent) if len(tried) > 2 else None,
        knee_batch_size=estimate_from_samples(2.0**draws.knee) if len(tried) > 2 else None,
        noise_sd=_noise_sd(surface.z[:, inner], data, draws),
        best_batch_size=table[at_best].batch_size,
        tried_low=float(2.0**low),
        tried_high=float(2.0**high),
        pivot_batch_size=float(2.0**prior.pivot),
        table=table,
        law_draws=tuple(zip(draws.centre.tolist(), draws.exponent.tolist(), draws.knee.tolist(), strict=True)),
        value_draws=tuple(tuple(row) for row in _in_unit(surface.z, data).tolist()),
    )


def _row(i: int, b: float, surface: Surfaces, data: RidgeData, prior: ModelPrior, tried: Array) -> LrPrediction:
    lr = estimate_from_samples(surface.best[:, i])
    value = estimate_from_samples(_in_unit(surface.z[:, i], data))
    edge = 0.25
    return LrPrediction(
        batch_size=float(2.0**b),
        lr=Estimate(float(2.0**lr.value), float(2.0**lr.low), float(2.0**lr.high)),
        stable_low=float(2.0 ** np.median(surface.low[:, i])),
        stable_high=float(2.0 ** np.median(surface.high[:, i])),
        value=value,
        is_extrapolated=bool(np.abs(tried - b).min() > 0.5 and not tried[0] < b < tried[-1]),
        at_edge=bool(lr.value <= prior.lr_low + edge or lr.value >= prior.lr_high - edge),
    )


def _in_unit(z: Array, data: RidgeData) -> Array:
    """Return squashed values in the objective's unit."""
    return np.asarray(data.sign * (data.best + data.spread * np.expm1(np.clip(z, -5.0, 5.0)) / 3.0))


def _noise_sd(z: Array, data: RidgeData, draws: RidgeParameters) -> float:
    """Return the noise at the ridge, in the objective's unit.

    The squash is steepest at the luckiest trial: there a deviation of the squashed values is worth least. What it is
    worth at the ridge's own level is what a repeated trial shows.
    """
    level = max(float(np.median(z.min(1))), 0.0)
    return float(np.exp(np.median(draws.log_noise) + level)) * data.spread / 3.0


def _exponent(sizes: Array, surface: Surfaces, prior: ModelPrior, low: float, high: float) -> Estimate:
    inside = (sizes >= low - 1e-9) & (sizes <= high + 1e-9)
    if inside.sum() < 2:
        inside = (sizes >= low - 1.0) & (sizes <= high + 1.0)
    x = sizes[inside] - sizes[inside].mean()
    return estimate_from_samples((surface.best[:, inside] * x).sum(1) / (x * x).sum())


def _judge(data: RidgeData, best: LrPrediction, width: float, noise: float, num: int) -> tuple[FitStatus, str]:
    if noise > 0.8 * float(np.std(data.z)) and num >= 2 * MIN_POINTS:
        return (
            FitStatus.CONTRADICTORY,
            f"Batch size and learning rate explain almost nothing of the values of {num} trials: trials at like "
            "settings differ as much as all do, so no learning rate is better than another.",
        )
    where = f"at batch size {best.batch_size:.0f}"
    if width > UNCERTAIN_OCTAVES:
        return (
            FitStatus.NOT_IDENTIFIED,
            f"{num} trials leave the best learning rate {where} uncertain between {best.lr.low:.2g} and "
            f"{best.lr.high:.2g}; more trials near {best.lr.value:.2g} would settle it.",
        )
    edge = ", at the edge of the range that was searched" if best.at_edge else ""
    return (
        FitStatus.OK,
        f"The best learning rate {where} is {best.lr.value:.2g} (90 %: {best.lr.low:.2g} to {best.lr.high:.2g}){edge}, "
        f"from {num} trials.",
    )


def _verdict(name: str, power: float, fitted: Estimate) -> RuleVerdict:
    compatible = power in fitted
    label = {"linear": "linear rule", "sqrt": "square-root rule", "none": "constant learning rate"}[name]
    found = f"the study's exponent is {fitted.value:.2f} (90 %: {fitted.low:.2f} to {fitted.high:.2f})"
    verb = "agrees with" if compatible else "is ruled out by"
    return RuleVerdict(name, power, compatible, f"The {label} (exponent {power:g}) {verb} the data: {found}.")
