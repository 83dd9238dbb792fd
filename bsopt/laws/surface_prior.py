"""What is believed of a study's values before any data: priors of a surface's parameters, as maps of normals.

Notation:

    n points:
    b        (n,)  log2 of the global batch size in samples
    x        (n,)  log2 of the effective learning rate
    S draws of the parameters:
    z        (S, num_dimensions)  standard normals; every parameter is a monotone function of one coordinate
    centre   (S,)  octaves; log2 of the best learning rate at the reference batch size
    exponent (S,)  slope of the ridge below its knee, octaves of learning rate per octave of batch size
    knee     (S,)  log2 samples; the noise batch size B_n, above which the ridge flattens
    width_*  (S,)  octaves; how far below (slow) and above (diverging) the ridge the basin's walls begin
    depth    (S,)  how steep the walls are, in standardised units
    bend, b_best   a parabola along b scaled to [−1, 1]
    noise    (S,)  standard deviation of a told value, standardised units, near the best
    is_even  (S,)  whether that noise is as large everywhere in the value's own unit, or else in standardised units
    rough    (S,)  standard deviation of what the basin leaves over, standardised units
    reach    (S,)  length scales of that, as a factor on 1 octave off the ridge and 2 octaves of batch size
    scales   (S, p) length scales of further numeric parameters, in parts of their ranges
    effect   (S,)  how much further parameters matter, standardised units

The ridge is lr*(B) = lr0·[(1 + B_n/B0)/(1 + B_n/B)]^exponent, McCandlish et al. 2018 (arXiv 1812.06162), which
saturates upward as measured ridges do, or the shape of the rule that was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr, stdtrit

from bsopt.laws.scaling import Reference, Rule, default_rule, log2_scaling
from bsopt.laws.value_transform import STEEPNESS

__all__ = [
    "ANSWER_NOISE",
    "PROPOSAL_NOISE",
    "Coordinates",
    "Domain",
    "Parameters",
    "Prior",
    "RidgePrior",
    "ridge_prior",
]

Array: TypeAlias = NDArray[np.float64]

REFERENCE_SD = 2.5
"""Octaves between a usual default and the best learning rate of a task, as a standard deviation.

A reference that was measured brings its own (`Reference.sd`)."""

UNKNOWN_SD = 10.0
"""The same where no default is known: the range of learning rates alone says where to look."""

TAIL = 4.0
"""Degrees of freedom of the centre's Student t: a default that is wrong by far is believed wrong soon."""


_COLUMNS = (
    "centre", "exponent", "knee", "width_low", "width_high", "depth", "bend", "b_best", "noise", "rough", "reach",
    "effect", "is_even",
)  # fmt: skip
"""What the first columns of z stand for; those that follow are `scales`."""

NEAR_BEST = 0.1
"""Where `noise` holds: this far above the best value, in units of median − best."""

PROPOSAL_NOISE, ANSWER_NOISE = 0.06, 0.2
"""Median of `noise` a priori: 0.05 to 1 is between the seeds of small real trainings, nothing in a replayed table.

It decides how sure a belief is while few trials tell the noise. A proposal that takes it for small may cost a trial; an
answer would promise what the next training breaks: after 8 trials, 90 % intervals for one more run held 40 to 59 % of
new runs with a proposal's prior and 71 to 84 % with an answer's, on tables at noise 0.05, 0.2 and real seeds."""

_LOG_NORMALS = {  # parameter -> (median, log-sd)
    "width_low": (2.5, 0.5),
    "width_high": (2.5, 0.5),
    "depth": (1.0, 0.7),
    "bend": (0.3, 0.8),
    "noise": (PROPOSAL_NOISE, 1.0),
    "rough": (0.6, 0.8),  # real surfaces have bumps an octave or two wide, smooth laws have none
    "reach": (1.5, 0.4),
    "effect": (0.5, 0.6),
    "scales": (0.7, 0.6),
}
_LOG_NORMALS_OF_NO_BASIN = {**_LOG_NORMALS, "rough": (1.0, 0.5), "reach": (1.5, 0.5)}


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Points where a surface is simple (n of them).

    Attributes:
        b, x: (n,) in this file's notation.
        numbers: (n, p) further numeric parameters, each scaled to [0, 1] over its range.
        choices: (n, q) further categorical parameters, as indices.
    """

    b: Array
    x: Array
    numbers: Array
    choices: Array

    def __len__(self) -> int:
        return len(self.b)

    def __getitem__(self, rows: Any) -> Coordinates:
        return Coordinates(self.b[rows], self.x[rows], self.numbers[rows], self.choices[rows])

    def joined(self, other: Coordinates) -> Coordinates:
        """Return these points followed by the other's."""
        pairs = ((self.b, other.b), (self.x, other.x), (self.numbers, other.numbers), (self.choices, other.choices))
        return Coordinates(*(np.concatenate(pair) for pair in pairs))


@dataclass(frozen=True, slots=True)
class Domain:
    """What is searched.

    Attributes:
        b, x: The ranges of both coordinates; None for one that isn't searched.
        num_numbers: How many further numeric parameters are.
    """

    b: tuple[float, float] | None
    x: tuple[float, float] | None
    num_numbers: int = 0


@dataclass(frozen=True, slots=True)
class RidgePrior:
    """Where lr*(B) is expected, with standard deviations; `b0` is log2 of the reference batch size.

    Attributes:
        shape: `saturating`, `surge`, or a function from k = B/B0 to the factor on the learning rate, which the
            exponent then tilts.
    """

    b0: float
    centre: float
    centre_sd: float
    exponent: float
    exponent_sd: float
    knee: float
    knee_sd: float
    shape: str | Callable[[float], float] = "saturating"


@dataclass(frozen=True, slots=True)
class Parameters:
    """Draws of a surface's parameters, in this file's notation."""

    centre: Array
    exponent: Array
    knee: Array
    width_low: Array
    width_high: Array
    depth: Array
    bend: Array
    b_best: Array
    noise: Array
    rough: Array
    reach: Array
    scales: Array
    effect: Array
    is_even: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.centre)

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> Parameters:
        return Parameters(*(getattr(self, name)[rows] for name in self.__slots__))

    def noise_at(self, gap: Array) -> Array:
        """Return the noise's standard deviation in standardised units, (S, n), of values `gap` (n,) above the best.

        Standardised values are log1p(STEEPNESS·gap) but for a factor near 1, steepest at the best: noise that is even
        in the value's own unit counts most there, where it is what makes a value look best.
        """
        there = 1.0 + STEEPNESS * NEAR_BEST
        own = self.noise_of_gap(NEAR_BEST)[:, None]
        steeper = there / (1.0 + STEEPNESS * np.hypot(gap[None, :], own))
        return np.asarray(self.noise[:, None] * np.where(self.is_even[:, None], steeper, 1.0))

    def noise_of_gap(self, gap: float) -> Array:
        """Return the noise's standard deviation in units of the gap, (S,), at values `gap` above the best."""
        where = np.where(self.is_even, NEAR_BEST, gap)
        return np.asarray(self.noise * (1.0 + STEEPNESS * where) / STEEPNESS)

    def as_if_noise(self, median: float, *, was: float) -> Array:
        """Return the factors on the draws' weights, (S,), had the noise's prior had another median than it was."""
        _, log_sd = _LOG_NORMALS["noise"]
        shift, z = np.log(median / was) / log_sd, np.log(self.noise / was) / log_sd
        return np.asarray(np.exp(shift * z - 0.5 * shift**2))

    def joined(self, other: Parameters) -> Parameters:
        """Return these draws and the other ones behind them."""
        return Parameters(*(np.concatenate([getattr(self, n), getattr(other, n)]) for n in self.__slots__))


def ridge_prior(optimizer: str | None, rule: Rule | None, reference: Reference | None) -> RidgePrior:
    """Return the prior of the ridge through a reference; without one the learning rate may be anything.

    Where no rule is given: exponent 0.7 (SGD, between the square root and the linear rule) or 0.35 (adaptive),
    since measured exponents are smaller than the rules', with a knee at B_n ~ 2^9 samples within a factor of 4.
    A rule that is asked for is believed more: its own exponent, and a knee far out (2^13, where Goyal et al. 2017
    saw the linear rule end) unless the rule has one of its own.
    """
    known = reference or Reference(32, 0.01)
    b0, centre = float(np.log2(known.batch_size)), float(np.log2(known.lr))
    centre_sd = UNKNOWN_SD if reference is None else reference.sd or REFERENCE_SD

    def prior(exponent: float, exponent_sd: float, knee: float, shape: str | Callable[[float], float]) -> RidgePrior:
        return RidgePrior(b0, centre, centre_sd, exponent, exponent_sd, knee, 2.0, shape)

    if rule is None:
        exponent = 0.55 if optimizer is None else 0.35 if default_rule(optimizer) == "sqrt" else 0.7
        return prior(exponent, 0.25, 9.0, "saturating")
    if callable(rule):
        return prior(0.0, 0.15, 9.0, rule)
    exponents = {"linear": 1.0, "sqrt": 0.5, "power": 0.5, "saturating": 1.0, "surge": 1.0, "none": 0.0}
    knee = 9.0 if rule in ("saturating", "surge") else 13.0
    return prior(exponents[rule], 0.15, knee, "surge" if rule == "surge" else "saturating")


@dataclass(frozen=True, slots=True)
class Prior:
    """The priors of all parameters over one domain.

    Attributes:
        ridge: Where lr*(B) is expected.
        domain: What is searched.
        noise: Median of the noise, standardised units.
    """

    ridge: RidgePrior
    domain: Domain
    noise: float = PROPOSAL_NOISE

    @property
    def has_lr(self) -> bool:
        """Whether the learning rate is searched."""
        return self.domain.x is not None

    @property
    def has_batch_size(self) -> bool:
        """Whether the batch size is searched."""
        return self.domain.b is not None

    @property
    def num_dimensions(self) -> int:
        """Parameters of a surface: columns of z."""
        return len(_COLUMNS) + self.domain.num_numbers

    @property
    def centre(self) -> tuple[float, float]:
        """Mean and standard deviation, octaves, of the ridge at `b0`: the reference and the middle of the range.

        The range speaks as a uniform distribution of twice its width would.
        """
        mean, precision = self.ridge.centre, self.ridge.centre_sd**-2
        low, high = self.domain.x or (0.0, 0.0)
        if high > low:
            middle = (low + high) / 2
            sd = 2.0 * (high - low) / np.sqrt(12.0)
            total = precision + sd**-2
            mean, precision = (mean * precision + middle * sd**-2) / total, total
        return float(mean), float(precision**-0.5)

    def parameters(self, z: Array, *, scale: float = 1.0, has_basin: bool = True) -> Parameters:
        """Return the parameters at standard normal draws.

        Args:
            z: The draws, (S, num_dimensions).
            scale: The height of the landscape in standardised units: what `depth`, `bend`, `rough` and `effect`
                are multiplied by.
            has_basin: Whether there is a basin around a ridge; without one, as where a surface has two valleys or none,
                all is left to the rough term.
        """
        log_normals = _LOG_NORMALS if has_basin else _LOG_NORMALS_OF_NO_BASIN
        ridge, (mean, sd) = self.ridge, self.centre
        normals = dict(zip(_COLUMNS, z.T, strict=False)) | {"scales": z[:, len(_COLUMNS) :]}

        def log_normal(name: str) -> Array:
            median, log_sd = log_normals[name]
            return np.asarray(median * np.exp(log_sd * normals[name]))

        return Parameters(
            centre=np.asarray(mean + sd * stdtrit(TAIL, ndtr(normals["centre"]))),
            exponent=ridge.exponent + ridge.exponent_sd * normals["exponent"],
            knee=ridge.knee + ridge.knee_sd * normals["knee"],
            width_low=log_normal("width_low"),
            width_high=log_normal("width_high"),
            depth=scale * log_normal("depth") * has_basin,
            bend=scale * log_normal("bend") * has_basin,
            b_best=normals["b_best"],
            noise=log_normal("noise") * (self.noise / PROPOSAL_NOISE),
            rough=scale * log_normal("rough"),
            reach=log_normal("reach"),
            effect=scale * log_normal("effect"),
            scales=log_normal("scales"),
            is_even=normals["is_even"] > 0.0,
        )

    def ridge_at(self, parameters: Parameters, b: Array) -> Array:
        """Return log2 lr*(B) in octaves, shape (S, n), at batch sizes b (n,)."""
        shape = log2_scaling(
            b[None, :] - self.ridge.b0,
            knee=parameters.knee[:, None] - self.ridge.b0,
            exponent=parameters.exponent[:, None],
            shape=self.ridge.shape,
        )
        return np.asarray(parameters.centre[:, None] + shape)

    def shape_at(self, ridge: RidgePrior, b: float) -> float:
        """Return the octaves by which a ridge's mean shape rises from its reference to a batch size."""
        octaves, knee, exponent = (np.array(v) for v in (b - ridge.b0, ridge.knee - ridge.b0, ridge.exponent))
        return float(log2_scaling(octaves, knee=knee, exponent=exponent, shape=ridge.shape))

    def mean_ridge(self, b: Array) -> Array:
        """Return the ridge at the priors' medians, shape (n,)."""
        return np.asarray(self.ridge_at(self.parameters(np.zeros((1, self.num_dimensions))), b)[0])

    def mean(self, parameters: Parameters, u: Array, b: Array) -> Array:
        """Return the basin, shape (S, n), at `u` (S, n) octaves off the ridge and batch sizes `b` (n,)."""
        total = np.zeros(u.shape)
        if self.has_lr:
            width = np.where(u < 0, parameters.width_low[:, None], parameters.width_high[:, None])
            total += parameters.depth[:, None] * np.log1p((u / width) ** 2)
        low, high = self.domain.b or (0.0, 0.0)
        if high > low:
            scaled = (2 * b - high - low) / (high - low)
            total += parameters.bend[:, None] * (scaled[None, :] - parameters.b_best[:, None]) ** 2
        return total

    def log_weight(self, x: Array, b: Array) -> Array:
        """Return log π, shape (n,): the centre's density at the octaves between the points and the mean ridge."""
        if not self.has_lr:
            return np.zeros(len(b))
        t = (x - self.mean_ridge(b)) / self.centre[1]
        return np.asarray(-(TAIL + 1) / 2 * np.log1p(t**2 / TAIL))

    def quantile(self, x: Array, b: Array) -> Array:
        """Return how likely the ridge is, a priori, to lie below the points, shape (n,)."""
        return np.asarray(stdtr(TAIL, (x - self.mean_ridge(b)) / self.centre[1]))
