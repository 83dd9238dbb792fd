"""The best learning rate at each batch size, lr*(B), fitted over all trials of a study.

It is read off the one model of a study's values, `bsopt.laws.response_surface`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bsopt.laws.direction import Direction
from bsopt.laws.estimate import INTERVAL_MASS, Estimate, FitStatus, estimate_from_samples
from bsopt.laws.importance_sampling import even_shares
from bsopt.laws.scaling import log2_scaling
from bsopt.laws.surface_prior import RidgePrior, ridge_prior
from bsopt.laws.value_surface import EDGE, RidgePoint, SampledRidges, ValueSurface, fit_values
from bsopt.units import count_of

__all__ = ["LrPrediction", "LrRidgeFit", "RuleVerdict", "Valley", "fit_lr_ridge", "places", "read_ridge"]

Array = NDArray[np.float64]

MIN_POINTS = 5
"""Finite trials below which no ridge is fitted: fewer than the ridge and its two widths have parameters."""
UNCERTAIN_OCTAVES = 4.0
"""Interval width at the studied batch sizes from which lr* counts as not identified."""

NUM_DRAWS = 200
"""Draws of the law, for batch sizes beyond the table."""

MOST_NOISE = 0.8
"""Noise, as a share of the spread of all values, from which they may say nothing: repeats tell through any."""

TUNED_OCTAVES = 1.5
"""A batch size counts as tuned where a trial ran this near its fitted best learning rate."""

LEAST_VALLEY, MOST_ON_HILL, HILL_OCTAVES = (1.0 - INTERVAL_MASS) / 2.0, 0.25, 2.0
"""Two valleys are told where the interval reaches across a hill so wide, with at most this share of the lesser
valley's best rates on it."""


@dataclass(frozen=True, slots=True)
class Valley:
    """One of two places along the learning rates where the best one may be, and the chance that it is there."""

    lr: Estimate
    chance: float


@dataclass(frozen=True, slots=True)
class LrPrediction:
    """What the fit says at one batch size.

    Attributes:
        lr: The learning rate with the least value to expect, among those that were tried; the interval is that of the
            best one, which may lie beyond them.
        stable_low, stable_high: The range of learning rates that are predicted no further from the best than the
            study's median trial.
        value: The objective's value at `lr`.
        is_extrapolated: No trial ran within half an octave of, or beyond, this batch size.
        at_edge: The best learning rate lies at or beyond the edge of the rates that were tried.
        beyond: A learning rate beyond those that were tried with less value to expect, of all that were searched; None
            where there is none.
        valleys: Both, the lower rates first, where the best rate may be in either of two; else empty.
    """

    batch_size: float
    lr: Estimate
    stable_low: float
    stable_high: float
    value: Estimate
    is_extrapolated: bool
    at_edge: bool
    beyond: float | None = None
    valleys: tuple[Valley, ...] = ()


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
        is_flat: Whether lr* stays uncertain by over four octaves that are about as good.
        exponent: d log lr* / d log B over the batch sizes that were tried, whatever the law; None where lr* can't be
            seen to move: it is flat, or lies inside the rates that were tried at no two of them, an octave apart.
        law_exponent: The saturating law's exponent below its knee.
        knee_batch_size: The law's B_n in samples.
        noise_sd: Standard deviation of repeated values near the best, in the objective's unit.
        run_sd: What noise adds to the value of one more run there: the same, with what isn't known of it.
        best_lr: The best learning rate at whichever batch size is best.
        chances: For each batch size of `table`, the chance that it is the best of those that were tried.
        table: Predictions on a lattice of batch sizes.
        law_draws: (exponent, log2 B_n) of equally likely posterior draws, for batch sizes beyond the table.
        value_draws: Posterior draws of the value along the ridge, one row a draw and one column a row of `table`.
        anywhere_draws: The same, of a batch size with a rate `beyond` at that.
    """

    status: FitStatus
    message: str
    num_points: int
    is_flat: bool = False
    exponent: Estimate | None = None
    law_exponent: Estimate | None = None
    knee_batch_size: Estimate | None = None
    noise_sd: float | None = None
    run_sd: float | None = None
    best_lr: Estimate | None = None
    tried_low: float | None = None
    tried_high: float | None = None
    table: tuple[LrPrediction, ...] = ()
    chances: tuple[float, ...] = ()
    law_draws: tuple[tuple[float, float], ...] = ()
    value_draws: tuple[tuple[float, ...], ...] = ()
    anywhere_draws: tuple[tuple[float, ...], ...] = ()

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
            beyond=nearest.beyond,
            valleys=nearest.valleys if b == inside else (),
        )

    def is_tuned(self, batch_size: float, lr: float) -> bool:
        """Return whether a learning rate lies near the best one of a global batch size; True where none is fitted."""
        found = self.predict(batch_size)
        return found is None or abs(np.log2(lr / found.lr.value)) <= TUNED_OCTAVES

    def sample_values(self, batch_sizes: Sequence[float], *, anywhere: bool = False) -> Array | None:
        """Return joint posterior draws of the value at the best learning rate of each batch size.

        The draws of one row belong together: differences between batch sizes are taken within it.

        Args:
            batch_sizes: Global batch sizes in samples; beyond the table its ends are taken.
            anywhere: Of all learning rates that were searched, and not only between those that were tried.

        Returns:
            Shape (draws, batch sizes), in the objective's unit; None where nothing is fitted.
        """
        if not self.value_draws or self.status in (FitStatus.TOO_FEW, FitStatus.CONTRADICTORY):
            return None
        at = np.log2([row.batch_size for row in self.table])
        wanted = np.log2(np.asarray(batch_sizes, dtype=float))
        draws = self.anywhere_draws or self.value_draws if anywhere else self.value_draws
        return np.array([np.interp(wanted, at, draw) for draw in draws])

    def rules(self) -> tuple[RuleVerdict, ...]:
        """Return the linear, square-root and constant rules, each against the fitted exponent."""
        if self.exponent is None:
            return ()
        return tuple(
            _verdict(name, power, self.exponent) for name, power in (("linear", 1.0), ("sqrt", 0.5), ("none", 0.0))
        )

    def _law_step(self, start: float, end: float) -> Estimate:
        """By which factor lr* changes between two batch sizes, log2 samples, under the law."""
        exponent, knee = np.array(self.law_draws).T
        return estimate_from_samples(2.0 ** log2_scaling(np.array(end - start), knee=knee - start, exponent=exponent))


def fit_lr_ridge(
    points: Iterable[RidgePoint],
    *,
    direction: Direction = "minimize",
    prior: RidgePrior | None = None,
    lr_range: tuple[float, float] | None = None,
) -> LrRidgeFit:
    """Fit lr*(B) over all trials, diverged ones too. The result is deterministic.

    Args:
        points: The trials.
        direction: Which values are better.
        prior: Where lr*(B) is expected; by default the range alone says.
        lr_range: The range that was searched; by default that of the trials.

    Returns:
        The fit; `status` is `too_few` under five finite trials or two learning rates, `not_identified` where lr*
        stays uncertain by over four octaves that aren't known to be as good, `contradictory` where batch size and
        learning rate explain nothing.
    """
    kept = [p for p in points if p.batch_size > 0 and p.lr > 0]
    finite = [p for p in kept if np.isfinite(p.value)]
    if (missing := _too_few(len(finite), np.log2([p.lr for p in finite]))) is not None:
        return missing
    ridge = prior or ridge_prior(None, None, None)
    return read_ridge(fit_values(kept, ridge=ridge, direction=direction, lr_range=lr_range))


def read_ridge(surface: ValueSurface, *, batch_sizes: Sequence[float] = ()) -> LrRidgeFit:
    """Return what a surface says of lr*(B); with too little data a status and a sentence.

    Args:
        surface: The belief about the values.
        batch_sizes: Those to tell about between the smallest and the largest that was tried; else every octave.
    """
    num = surface.num_finished
    if (missing := _too_few(num, surface.l)) is not None:
        return missing
    if np.ptp(surface.belief.data.y) <= 0:
        message = f"All {num} finished trials have the same value: nothing tells batch sizes and learning rates apart."
        return LrRidgeFit(FitStatus.CONTRADICTORY, message, num)
    tried = np.unique(surface.b)
    sizes, inner = _sizes(tried, batch_sizes)
    sampled = surface.ridges(sizes)
    table = tuple(_row(i, b, sampled, tried, surface.tried) for i, b in enumerate(sizes))
    sign = surface.transform.sign
    lowest = np.where(inner[None], sign * sampled.value_anywhere, np.inf)
    at_best = int(np.argmin(np.where(inner, np.quantile(sign * sampled.value, 0.75, axis=0), np.inf)))
    widths = [float(np.log2(row.lr.high / row.lr.low)) for row, ok in zip(table, inner, strict=True) if ok]
    is_flat = min(widths) > UNCERTAIN_OCTAVES and _is_flat(table[at_best], surface)
    status, message = _judge(table[at_best], width=min(widths), is_flat=is_flat, surface=surface)
    law = surface.belief.parameters
    chances = np.bincount(lowest.argmin(1), minlength=len(sizes)) / len(lowest)
    overall = estimate_from_samples(sampled.best[np.arange(len(lowest)), lowest.argmin(1)])
    draws = np.repeat(np.arange(len(law)), even_shares(surface.belief.weights, NUM_DRAWS, np.random.default_rng(0)))
    exponents, knees = law.exponent[draws], law.knee[draws]
    return LrRidgeFit(
        status,
        message,
        num,
        is_flat=is_flat and status is FitStatus.OK,
        exponent=None if is_flat else _exponent(table, sampled, tried),
        law_exponent=estimate_from_samples(exponents) if len(tried) > 2 else None,
        knee_batch_size=estimate_from_samples(2.0**knees) if len(tried) > 2 else None,
        noise_sd=surface.noise_sd,
        run_sd=surface.run_sd,
        best_lr=_exp2(overall),
        tried_low=float(2.0 ** tried[0]),
        tried_high=float(2.0 ** tried[-1]),
        table=table,
        chances=tuple(chances.tolist()),
        value_draws=tuple(tuple(row) for row in sampled.value.tolist()),
        anywhere_draws=tuple(tuple(row) for row in sampled.value_anywhere.tolist()),
        law_draws=tuple(zip(exponents.tolist(), knees.tolist(), strict=True)),
    )


def _too_few(num: int, rates: Array) -> LrRidgeFit | None:
    """Return the fit that says that `num` finished trials at these log2 learning rates don't suffice; else None."""
    num_rates = len(np.unique(np.round(rates, 3)))
    if num >= MIN_POINTS and num_rates >= 3:
        return None
    found = f"{count_of(num, 'finished trial')} at {count_of(num_rates, 'learning rate')}"
    message = (
        f"A fit of the best learning rate needs at least {MIN_POINTS} trials and 3 learning rates; so far there "
        f"{'are' if num > 1 else 'is'} {found if num else 'no finished trial'}."
    )
    return LrRidgeFit(FitStatus.TOO_FEW, message, num)


def _sizes(tried: Array, wanted: Sequence[float]) -> tuple[Array, NDArray[np.bool_]]:
    """Return log2 of the table's batch sizes, two octaves wider than what was tried, and which lie within that."""
    low, high = float(tried[0]), float(tried[-1])
    step = max(1.0, (high - low) / 12.0)
    inside = np.log2([size for size in wanted if low - 1e-9 <= np.log2(size) <= high + 1e-9])
    if not len(inside):
        inside = np.arange(np.floor(low), np.ceil(high) + 1e-9, step)
    sizes = np.concatenate([inside[0] - np.array([2.0, 1.0]), inside, inside[-1] + np.array([1.0, 2.0])])
    sizes = np.unique(np.maximum(sizes, 0.0))
    return sizes, (sizes >= inside[0]) & (sizes <= inside[-1])


def _row(i: int, b: float, sampled: SampledRidges, tried: Array, rates: tuple[float, float]) -> LrPrediction:
    drawn, expected = estimate_from_samples(sampled.best[:, i]), float(sampled.lr[i])
    lr = Estimate(expected, min(drawn.low, expected), max(drawn.high, expected))
    return LrPrediction(
        batch_size=float(2.0**b),
        lr=_exp2(lr),
        stable_low=float(2.0 ** np.median(sampled.low[:, i])),
        stable_high=float(2.0 ** np.median(sampled.high[:, i])),
        value=estimate_from_samples(sampled.value[:, i]),
        is_extrapolated=bool(np.abs(tried - b).min() > 0.5 and not tried[0] < b < tried[-1]),
        at_edge=bool(lr.value <= rates[0] + EDGE or lr.value >= rates[1] - EDGE),
        beyond=float(2.0 ** sampled.lr_anywhere[i]) if sampled.lr_anywhere[i] != sampled.lr[i] else None,
        valleys=_valleys(sampled.best[:, i]),
    )


def places(valleys: Sequence[Valley]) -> str:
    """Return where the best learning rate may be, in words."""
    return " or ".join(f"near {valley.lr.value:.2g} ({valley.chance:.0%})" for valley in valleys)


def _valleys(best: Array) -> tuple[Valley, ...]:
    """Return the two valleys that sampled best rates, log2, lie in; nothing where they lie in one."""
    splits = np.sort(best)
    below = (best <= splits[:, None] - HILL_OCTAVES / 2.0).mean(1)
    above = (best >= splits[:, None] + HILL_OCTAVES / 2.0).mean(1)
    lesser = np.minimum(below, above)
    on_hill = np.where(lesser >= LEAST_VALLEY, (1.0 - below - above) / np.maximum(lesser, 1e-12), np.inf)
    at = int(on_hill.argmin())
    if on_hill[at] > MOST_ON_HILL:
        return ()
    sides = (best[best <= splits[at]], best[best > splits[at]])
    return tuple(Valley(_exp2(estimate_from_samples(side)), len(side) / len(best)) for side in sides)


def _exp2(log2: Estimate) -> Estimate:
    return Estimate(float(2.0**log2.value), float(2.0**log2.low), float(2.0**log2.high))


def _exponent(table: Sequence[LrPrediction], sampled: SampledRidges, tried: Array) -> Estimate | None:
    """Return d log lr* / d log B where the best rate isn't cut off at an edge; None where that doesn't tell."""
    if np.ptp(tried) < 1.0:
        return None
    sizes = np.log2([row.batch_size for row in table])
    inside = (sizes >= tried[0] - 1e-9) & (sizes <= tried[-1] + 1e-9)
    if inside.sum() < 2:
        inside = (sizes >= tried[0] - 1.0) & (sizes <= tried[-1] + 1.0)
    inside &= ~np.array([row.at_edge for row in table])
    if inside.sum() < 2 or np.ptp(sizes[inside]) < 1.0 - 1e-9:
        return None
    x = sizes[inside] - sizes[inside].mean()
    return estimate_from_samples((sampled.best[:, inside] * x).sum(1) / (x * x).sum())


def _judge(best: LrPrediction, *, width: float, is_flat: bool, surface: ValueSurface) -> tuple[FitStatus, str]:
    num = surface.num_finished
    if surface.noise > MOST_NOISE and surface.num_told >= 2 * MIN_POINTS and not surface.explains:
        return (
            FitStatus.CONTRADICTORY,
            f"Batch size and learning rate explain almost nothing of the values of {num} trials: trials at like "
            "settings differ as much as all do, so no learning rate can be told to be better than another.",
        )
    where = f"at batch size {best.batch_size:.0f}"
    if is_flat:
        return (
            FitStatus.OK,
            f"Learning rates between {best.lr.low:.2g} and {best.lr.high:.2g} are about as good {where}, by {num} "
            "trials: what is expected there differs by no more than the values of two seeds do.",
        )
    if width > UNCERTAIN_OCTAVES and best.valleys:
        return FitStatus.NOT_IDENTIFIED, f"The best learning rate {where} is {places(best.valleys)}, by {num} trials."
    if width > UNCERTAIN_OCTAVES:
        near = best.beyond if best.at_edge and best.beyond is not None else best.lr.value
        return (
            FitStatus.NOT_IDENTIFIED,
            f"{num} trials leave the best learning rate {where} uncertain between {best.lr.low:.2g} and "
            f"{best.lr.high:.2g}; more trials near {near:.2g} would tell more.",
        )
    edge = ", at the edge of the rates that were tried" if best.at_edge else ""
    return (
        FitStatus.OK,
        f"The best learning rate {where} is {best.lr.value:.2g} (90 %: {best.lr.low:.2g} to {best.lr.high:.2g}){edge}, "
        f"from {num} trials.",
    )


def _is_flat(row: LrPrediction, surface: ValueSurface) -> bool:
    """Whether the values at the rates that may be best are known, and differ by no more than two seeds' deviation."""
    mean, sd = surface.believed([row.batch_size], np.geomspace(row.lr.low, row.lr.high, 9).tolist())
    return bool(max(np.ptp(mean), sd.max()) <= 2.0 * surface.noise_sd)


def _verdict(name: str, power: float, fitted: Estimate) -> RuleVerdict:
    compatible = power in fitted
    label = {"linear": "linear rule", "sqrt": "square-root rule", "none": "constant learning rate"}[name]
    found = f"the study's exponent is {fitted.value:.2f} (90 %: {fitted.low:.2f} to {fitted.high:.2f})"
    verb = "agrees with" if compatible else "is ruled out by"
    return RuleVerdict(name, power, compatible, f"The {label} (exponent {power:g}) {verb} the data: {found}.")
