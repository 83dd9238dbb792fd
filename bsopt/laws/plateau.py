r"""Is a training curve still improving, and where will it end.

A curve is two sequences of one length: `steps`, increasing positions on the progress axis (samples seen in a
bsopt study, anything that grows elsewhere), and `values`, the current metric there. Points whose step or
value isn't finite are left out. `patience` is a distance on the axis of `steps`, not a number of
validations, unless a function says so.

Notation:

    t       step; t_last the last one, t_end the one to extrapolate to
    y       value, negated where the direction is "maximize", so that lower is better
    σ       standard deviation of one value's noise
    E_va    validation error of an epoch; E_opt the lowest so far (Prechelt 1998)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, ndtr, stdtrit

from bsopt.errors import ConfigError, nearest

__all__ = [
    "DIRECTIONS",
    "Direction",
    "Extrapolation",
    "PlateauTest",
    "extrapolate",
    "generalization_loss",
    "keras_early_stop",
    "noise_sd",
    "plateau_test",
    "reduce_lr_steps",
    "successive_rises",
]

Direction: TypeAlias = Literal["minimize", "maximize"]
DIRECTIONS: tuple[Direction, ...] = ("minimize", "maximize")

_Floats: TypeAlias = NDArray[np.float64]

_SIGNIFICANCE = 0.025  # one-sided: a flat noisy curve passes for an improving one this often per window
_POWERS = np.array([0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0])  # α of c + a·t^−α
_RATES = np.geomspace(0.25, 16.0, 16)  # t_last/τ of c + a·exp(−t/τ)


@dataclass(frozen=True, slots=True)
class PlateauTest:
    """Whether a curve is still improving, and what that rests on.

    Attributes:
        is_plateau: True where at least `patience` was observed and nothing improved over the last of it.
        is_improving: True where an improvement beyond the noise fell within the last `patience`.
        best: The best value so far, in the curve's own units; NaN for an empty curve.
        best_step: Its step.
        flat_for: Distance on the step axis since the last improvement that counts.
        gain_per_patience: What the recent trend gains over one `patience`, positive when it improves.
        noise: Estimated σ of one value.
    """

    is_plateau: bool
    is_improving: bool
    best: float
    best_step: float
    flat_for: float
    gain_per_patience: float
    noise: float


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


def plateau_test(
    steps: ArrayLike,
    values: ArrayLike,
    *,
    patience: float,
    min_delta: float = 0.0,
    direction: Direction = "minimize",
) -> PlateauTest:
    """Tell a plateau from slow progress, with the noise of the curve in mind.

    A curve improves if either holds:

    1. A value within the last `patience` beats the reference by more than max(min_delta, 2σ√2). The
       reference is the value that did so last (as in Keras, so that many small steps add up), and σ comes
       from the curve itself. Without noise this is Keras' EarlyStopping.
    2. The slope of a straight line through the last 1, 2 or 4 `patience` is significantly downward
       (one-sided, 2.5 %) and gains more than `min_delta` per `patience`. Over the longer windows the last
       `patience` alone must keep at least half the pace, so that a fall that ended doesn't count.

    So a noisy flat curve is a plateau although it sets records by chance, and a slow steady one isn't
    although no single step shows. A curve that gets worse is a plateau, too.

    Args:
        steps: Increasing positions, shape (n,).
        values: Current values, shape (n,); not the running best, whose ties look like a plateau of zero noise.
        patience: Distance on the step axis, above 0.
        min_delta: The least improvement that counts, in value units, at least 0.
        direction: "minimize" or "maximize".

    Raises:
        ConfigError: A patience, min_delta or direction that is not allowed.

    >>> plateau_test([1, 2, 3, 4, 5, 6], [1.0, 0.5, 0.4, 0.4, 0.4, 0.4], patience=3).is_plateau
    True
    >>> plateau_test([1, 2, 3, 4, 5, 6], [1.0, 0.9, 0.8, 0.7, 0.6, 0.5], patience=3).is_plateau
    False
    """
    _check_rule(patience=patience, min_delta=min_delta)
    t, y = _clean(steps, values, direction)
    if not len(y):
        nan = float("nan")
        return PlateauTest(
            is_plateau=False,
            is_improving=False,
            best=nan,
            best_step=nan,
            flat_for=0.0,
            gain_per_patience=0.0,
            noise=0.0,
        )
    sign, best = _sign(direction), int(np.argmin(y))
    noise = noise_sd(t, y, recent=4 * patience)
    improved_at = _last_significant_record(t, y, margin=max(min_delta, 2.0 * np.sqrt(2.0) * noise))
    gain, has_trend = _trend(t, y, patience=patience, min_delta=min_delta, noise=noise)
    flat_for = 0.0 if has_trend else float(t[-1] - improved_at)
    is_improving = has_trend or flat_for < patience
    observed = float(t[-1] - t[0])
    return PlateauTest(
        is_plateau=observed >= patience and not is_improving,
        is_improving=is_improving,
        best=float(sign * y[best]),
        best_step=float(t[best]),
        flat_for=min(flat_for, observed),
        gain_per_patience=gain,
        noise=noise,
    )


def noise_sd(steps: ArrayLike, values: ArrayLike, *, recent: float | None = None) -> float:
    """Return the standard deviation of a curve's noise, whatever its smooth part.

    Divided differences of three and of four neighbours vanish on straight lines and on parabolas; over the
    norm of their weights each has the standard deviation σ (Gasser, Sroka & Jennen-Steinmetz 1986,
    Biometrika 73(3), eq. 2.3 for three). The median of their sizes resists a few spikes, and the smaller of the
    two estimates is the one less bent by the curve.

    Args:
        steps: Increasing positions, shape (n,).
        values: Values, shape (n,).
        recent: Use only the last part of this length, if at least six points are in it.

    Returns:
        σ in value units; 0 for fewer than four points.
    """
    t, y = _clean(steps, values, "minimize")
    if recent is not None and len(t):
        first = min(int(np.searchsorted(t, t[-1] - recent)), max(len(t) - 6, 0))
        t, y = t[first:], y[first:]
    if len(y) < 4:
        return 0.0
    return min(_difference_noise(t, y, points) for points in ((3, 4) if len(y) >= 6 else (3,)))


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
    t, y = _clean(steps, values, direction)
    sign = _sign(direction)
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


def keras_early_stop(
    values: Sequence[float],
    *,
    patience: int,
    min_delta: float = 0.0,
    direction: Direction = "minimize",
) -> int | None:
    """Return the index at which Keras' EarlyStopping would stop, or None.

    A value improves if it is better than the best by more than |min_delta|; training stops when `patience`
    validations in a row (at least one) brought none (keras.callbacks.EarlyStopping, `_is_improvement` and
    `on_epoch_end`). NaN never improves.

    >>> keras_early_stop([3.0, 2.0, 2.0, 2.5, 1.0], patience=2)
    3
    """
    _check_rule(patience=patience, min_delta=abs(min_delta), least_patience=0)
    sign, best, wait = _sign(direction), float("inf"), 0
    for index, value in enumerate(values):
        current = sign * float(value)
        wait += 1
        if current + abs(min_delta) < best:
            best, wait = current, 0
        elif wait >= patience and index > 0:
            return index
    return None


def reduce_lr_steps(
    values: Sequence[float],
    *,
    patience: int = 10,
    threshold: float = 1e-4,
    threshold_mode: Literal["rel", "abs"] = "rel",
    cooldown: int = 0,
    direction: Direction = "minimize",
) -> tuple[int, ...]:
    """Return the indices at which PyTorch's ReduceLROnPlateau would reduce the learning rate.

    A value improves if it is below best·(1 − threshold), or above best·(1 + threshold) when maximising;
    with "abs", best ∓ threshold. The rate is reduced when *more than* `patience` values in a row didn't
    (torch.optim.lr_scheduler.ReduceLROnPlateau). The relative threshold depends on where zero is: a
    negative best is "improved" by anything near it.

    >>> reduce_lr_steps([1.0, 1.0, 1.0, 1.0, 1.0], patience=1)
    (2, 4)
    """
    _check_rule(patience=patience, min_delta=threshold, least_patience=0)
    sign, best = _sign(direction), _sign(direction) * float("inf")
    bad, resting, reductions = 0, 0, []
    for index, value in enumerate(values):
        bar = best - sign * threshold if threshold_mode == "abs" else best * (1.0 - sign * threshold)
        if sign * float(value) < sign * bar:
            best, bad = float(value), 0
        else:
            bad += 1
        if resting > 0:
            resting, bad = resting - 1, 0
        if bad > patience:
            reductions.append(index)
            resting, bad = cooldown, 0
    return tuple(reductions)


def generalization_loss(values: ArrayLike) -> _Floats:
    """Return Prechelt's generalisation loss of each epoch, in percent.

    GL(t) = 100·(E_va(t)/E_opt(t) − 1), E_opt(t) the lowest error up to t; the rule GL_α stops at the first
    GL > α (Prechelt 1998, "Early stopping: but when?", section 2.2). Errors must be positive; a NaN has a
    NaN loss and is left out of E_opt.

    Args:
        values: Validation errors, shape (n,), lower is better.

    >>> generalization_loss([2.0, 1.0, 1.1]).round(6).tolist()
    [0.0, 0.0, 10.0]
    """
    errors = np.asarray(values, dtype=float)
    lowest = np.fmin.accumulate(errors)
    if np.any(lowest <= 0.0):
        raise ConfigError("generalization_loss needs positive errors; give 1 - accuracy rather than accuracy.")
    return np.asarray(100.0 * (errors / lowest - 1.0), dtype=float)


def successive_rises(values: ArrayLike, *, strip: int = 5, direction: Direction = "minimize") -> int:
    """Return in how many successive strips of training, up to the last, the validation error has risen.

    The rule UP_s stops when this reaches s: UP_s holds at t if UP_{s−1} holds at t − k and
    E_va(t) > E_va(t − k), k the strip length in validations (Prechelt 1998, section 2.2, k = 5). A
    comparison with NaN is no rise.

    >>> successive_rises([5.0, 4.0, 4.1, 4.2], strip=1)
    2
    """
    if strip < 1:
        raise ConfigError(f"strip must be at least 1 validation, got {strip}.")
    ends = (_sign(direction) * np.asarray(values, dtype=float))[::-1][::strip]  # newest first
    rises = ends[:-1] > ends[1:]
    return int(len(rises) if rises.all() else np.argmin(rises))


def _sign(direction: Direction) -> float:
    if direction not in DIRECTIONS:
        allowed = " or ".join(map(repr, DIRECTIONS))
        raise ConfigError(f"direction must be {allowed}, got {direction!r}." + nearest(str(direction), DIRECTIONS))
    return 1.0 if direction == "minimize" else -1.0


def _check_rule(*, patience: float, min_delta: float, least_patience: float = np.nextafter(0.0, 1.0)) -> None:
    if not (np.isfinite(patience) and patience >= least_patience):
        bound = "at least 0" if least_patience == 0 else "above 0"
        raise ConfigError(f"patience must be a number {bound}, got {patience!r}.")
    if not (np.isfinite(min_delta) and min_delta >= 0.0):
        raise ConfigError(f"min_delta must be a number of at least 0, got {min_delta!r}.")


def _clean(steps: ArrayLike, values: ArrayLike, direction: Direction) -> tuple[_Floats, _Floats]:
    """Sort by step, keep the last report of each step, drop what isn't finite, turn maximise into minimise."""
    t, y = np.asarray(steps, dtype=float), _sign(direction) * np.asarray(values, dtype=float)
    if t.shape != y.shape or t.ndim != 1:
        raise ConfigError(f"steps and values must be of one length, got shapes {t.shape} and {y.shape}.")
    keep = np.isfinite(t) & np.isfinite(y)
    t, y = t[keep][::-1], y[keep][::-1]
    t, first = np.unique(t, return_index=True)
    return t, y[first]


def _difference_noise(t: _Floats, y: _Floats, points: int) -> float:
    at = sliding_window_view(t, points)
    gaps = at[:, :, None] - at[:, None, :] + np.eye(points)
    weights = 1.0 / gaps.prod(axis=2)
    sizes = np.abs((weights * sliding_window_view(y, points)).sum(axis=1)) / np.sqrt((weights**2).sum(axis=1))
    return float(1.4826 * np.median(sizes))  # the median size of a standard normal is 1/1.4826


def _last_significant_record(t: _Floats, y: _Floats, *, margin: float) -> float:
    reference, improved_at = y[0], t[0]
    for step, value in zip(t[1:], y[1:], strict=True):
        if value + margin < reference:
            reference, improved_at = value, step
    return float(improved_at)


def _trend(t: _Floats, y: _Floats, *, patience: float, min_delta: float, noise: float) -> tuple[float, bool]:
    """Return the gain per patience of the shortest window with three points, and whether any is significant."""
    last, gain, significant = _line(t, y, patience), 0.0, False
    least = max(min_delta, 1e-9 * float(np.ptp(y)))  # a slope that is only rounding is none
    for windows in (1, 2, 4):
        slope, spread, count = _line(t, y, windows * patience)
        if count < 3:
            continue
        gain = gain or -slope * patience
        critical = float(stdtrit(max(count - 2, 1), 1.0 - _SIGNIFICANCE))
        keeps_pace = windows == 1 or last[2] < 2 or last[0] <= 0.5 * slope
        beyond_noise = -slope * spread > critical * noise
        significant = significant or (slope < 0.0 and beyond_noise and keeps_pace and -slope * patience > least)
    return float(gain), bool(significant)


def _line(t: _Floats, y: _Floats, window: float) -> tuple[float, float, int]:
    """Slope of a least-squares line, √Σ(t − t̄)² (σ over it is the slope's error), number of points."""
    inside = t >= t[-1] - window
    x, z = t[inside] - t[inside].mean(), y[inside]
    spread = float(np.sqrt(x @ x))
    return (float(x @ z) / spread**2 if spread else 0.0), spread, len(z)


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
