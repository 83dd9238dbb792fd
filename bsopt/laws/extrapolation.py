r"""Where a curve will end, from its own shape alone.

A curve is two sequences of one length, as in `bsopt.laws.plateau`. Notation:

    t       step; t_last the last one, t_end the one to extrapolate to
    y       value, negated where the direction is "maximize", so that lower is better
    x       t / t_last
    h       a shape's progress: 1 at the first point, 0 at the last
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, ndtr

from bsopt.laws.direction import Direction, sign_of
from bsopt.laws.plateau import clean_curve

__all__ = ["Extrapolation", "extrapolate"]

_Floats: TypeAlias = NDArray[np.float64]

_POWERS = np.array([0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0])  # α of c + a·t^−α
_RATES = np.geomspace(0.25, 16.0, 16)  # t_last/τ of c + a·exp(−t/τ)


@dataclass(frozen=True, slots=True)
class Extrapolation:
    """Where a curve will be at `t_end`, from its own shape.

    Attributes:
        status: "ok", or "too_few" with fewer than four points, or "beyond" where the curve is at its end.
        message: What the status means, for people.
        value: Expected level at the end, noise left out; the last value where the status isn't "ok".
        sd: Its standard deviation; infinite where there are too few points.
        low: Lower end of the 90 % interval.
        high: Upper end.
        shape: The more probable family, "power law" or "exponential"; empty where the status isn't "ok".
    """

    status: Literal["ok", "too_few", "beyond"]
    message: str
    value: float
    sd: float
    low: float
    high: float
    shape: str = ""

    def chance_below(self, value: float) -> float:
        """Return the probability that the curve ends below `value`, by a normal distribution."""
        if not np.isfinite(self.sd):
            return 0.5
        if self.sd == 0.0:
            return float(self.value < value)
        return float(ndtr((value - self.value) / self.sd))


def extrapolate(
    steps: ArrayLike,
    values: ArrayLike,
    *,
    end: float,
    direction: Direction = "minimize",
) -> Extrapolation:
    """Say where a curve will be at `end`, with an interval, from its own shape.

    Two families are fitted, c + a·t^−α with eight α in 0.1–2 (pow3) and c + a·exp(−t/τ) with sixteen τ
    (exponential), as Domhan, Springenberg & Hutter 2015 (IJCAI) do among others. c and a have a
    normal-inverse-gamma prior in units of the curve's range, so each fit is closed form; all are averaged by
    their marginal likelihood, and curves that expect r times the progress so far are discounted by 1/(1 + r).
    Older points weigh t/t_last, because early transients follow no such law. Real curves follow neither
    family exactly, so 15 % of the expected change, once more for each doubling of the steps, and the misfit
    of the last quarter of the points are added to the standard deviation. An annealed learning rate bends a
    curve later than the curve itself can show.

    Args:
        steps: Increasing positions, shape (n,). Where they start at 0 or below, all are moved by one gap.
        values: Current values, shape (n,).
        end: The step to extrapolate to.
        direction: "minimize" or "maximize"; only says which way a curve is expected to go.

    Raises:
        ConfigError: An unknown direction.

    >>> t = [1, 2, 4, 8, 16]
    >>> found = extrapolate(t, [0.2 + 0.8 / step**0.5 for step in t], end=64)
    >>> round(found.value, 2), found.shape
    (0.3, 'power law')
    """
    t, y = clean_curve(steps, values, direction)
    sign = sign_of(direction)
    last = float(sign * y[-1]) if len(y) else float("nan")
    if len(y) and t[-1] >= end:
        return Extrapolation("beyond", "the curve has reached its end", last, 0.0, last, last)
    if len(y) < 4:
        message = f"{len(y)} of at least 4 points to extrapolate from"
        return Extrapolation("too_few", message, last, float("inf"), float("-inf"), float("inf"))
    if t[0] <= 0.0:
        shift = float(np.median(np.diff(t))) - t[0]
        t, end = t + shift, end + shift
    mean, sd, weights = _average_shapes(t, y, end)
    value = sign * mean
    # 1.645 standard deviations: the mixture's tails are left to the standard deviation
    low, high = value - 1.645 * sd, value + 1.645 * sd
    shape = "power law" if weights[: len(_POWERS)].sum() >= 0.5 else "exponential"
    return Extrapolation("ok", f"a {shape} through {len(y)} points", value, sd, low, high, shape)


def _average_shapes(t: _Floats, y: _Floats, end: float) -> tuple[float, float, _Floats]:
    """Posterior mean and standard deviation of the level at `end`, and the weight of each shape."""
    x, x_end = t / t[-1], end / t[-1]
    shapes = np.vstack([x ** -_POWERS[:, None], np.exp(-_RATES[:, None] * x)])
    at_end = np.concatenate([x_end**-_POWERS, np.exp(-_RATES * x_end)])
    first, last = shapes[:, :1], shapes[:, -1:]
    h = (shapes - last) / (first - last)  # 1 at the first point, 0 at the last
    h_end = (at_end - last[:, 0]) / (first - last)[:, 0]  # −r: progress to come over progress so far
    scale = float(np.ptp(y)) or max(abs(float(y[-1])), 1.0) * 1e-9
    z, weights = (y - y[-1]) / scale, x
    design = np.stack([np.ones_like(h), h], axis=-1)  # (shapes, points, 2)
    precision = np.einsum("sni,n,snj->sij", design, weights, design) + np.diag([0.25, 1.0])
    moment = np.einsum("sni,n,n->si", design, weights, z) + np.array([0.0, 1.0 if z[0] > 0 else 0.0])
    coefficients = np.linalg.solve(precision, moment[..., None])[..., 0]
    a = 1.0 + 0.5 * float(weights.sum())
    prior_fit = 1.0 if z[0] > 0 else 0.0
    b = 2e-4 + 0.5 * (float(weights @ z**2) + prior_fit - np.einsum("si,si->s", coefficients, moment))
    b = np.maximum(b, 1e-12)
    log_evidence = -0.5 * np.linalg.slogdet(precision)[1] - a * np.log(b) + gammaln(a) - np.log1p(np.abs(h_end))
    weight = np.exp(log_evidence - log_evidence.max())
    weight /= weight.sum()
    target = np.stack([np.ones_like(h_end), h_end], axis=-1)
    means = np.einsum("si,si->s", target, coefficients)
    spread = np.einsum("si,sij,sj->s", target, np.linalg.inv(precision), target)
    variances = b / max(a - 1.0, 0.5) * spread
    mean = float(weight @ means)
    late = -max(len(y) // 4, 2)
    misfit = float(np.mean(z[late:] - np.einsum("s,sni,si->n", weight, design, coefficients)[late:]))
    departure = 0.15 * (1.0 + float(np.log2(x_end))) * mean
    variance = float(weight @ (variances + (means - mean) ** 2)) + departure**2 + misfit**2
    return float(y[-1] + scale * mean), scale * float(np.sqrt(variance)), weight
