r"""Is a training curve still improving? (`bsopt.laws.extrapolation` says where it will end.)

A curve is two sequences of one length: `steps`, increasing positions on the progress axis (samples seen in a
bsopt study, anything that grows elsewhere), and `values`, the current metric there. Points whose step or
value isn't finite are left out. `patience` is a distance on the axis of `steps`, not a number of
validations, unless a function says so.

Notation:

    t       step; t_last the last one
    y       value, negated where the direction is "maximize", so that lower is better
    σ       standard deviation of one value's noise
    E_va    validation error of an epoch; E_opt the lowest so far (Prechelt 1998)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from bsopt.errors import ConfigError
from bsopt.laws.direction import Direction, sign_of

__all__ = [
    "RULES",
    "PlateauTest",
    "clean_curve",
    "flat_for",
    "generalization_loss",
    "noise_sd",
    "plateau_test",
    "successive_rises",
]

RULES = ("noise", "keras", "relative", "prechelt_gl", "prechelt_up")
"""How a plateau can be told from progress, see `flat_for`."""

_Floats: TypeAlias = NDArray[np.float64]

_STRIPS = 3  # of UP_3
_IN_A_ROW = 6  # values, each better than the one before
_SIGNIFICANCE = 0.025  # one-sided: a flat noisy curve passes for an improving one this often per window


@dataclass(frozen=True, slots=True)
class PlateauTest:
    """Whether a curve is still improving, and what that rests on.

    Attributes:
        is_plateau: True where at least `patience` was observed and nothing improved over the last of it.
        is_improving: True where an improvement beyond the noise fell within the last `patience`.
        best: The best value so far, in the curve's own units; NaN for an empty curve.
        best_step: Its step.
        flat_for: Distance on the step axis since the last improvement that counts.
        gain_per_patience: By how much the recent trend improves over one `patience`; negative where it gets worse.
        noise: Estimated σ of one value.
    """

    is_plateau: bool
    is_improving: bool
    best: float
    best_step: float
    flat_for: float
    gain_per_patience: float
    noise: float


def plateau_test(
    steps: ArrayLike,
    values: ArrayLike,
    *,
    patience: float,
    min_delta: float = 0.0,
    direction: Direction = "minimize",
) -> PlateauTest:
    """Tell a plateau from slow progress, with the noise of the curve in mind.

    A curve improves if any of these holds:

    1. A value within the last `patience` beats the reference by more than max(min_delta, 2σ√2). The reference is
       the first value until another one beats it by that much and takes its place; so many small steps add up. σ
       comes from the curve itself. For a curve without noise this is the rule of Keras' EarlyStopping.
    2. A straight line through the points of the last 1, 2 or 4 `patience` falls significantly (one-sided, 2.5 %)
       and by more than `min_delta` per `patience`. For 2 and 4, a line through the last `patience` alone must
       be at least half as steep, so that a fall that is over doesn't count.
    3. Each of the last six values is better than the one before, which noise alone does once in 6! = 720 times, and
       together by more than `min_delta` per `patience`. So a loss that halves at each report goes on improving,
       although its first values bend by more than all that it has left.

    So a flat noisy curve is a plateau, although by chance it sets new records. A slow steady fall is none,
    although no single step is larger than the noise. A curve that gets worse is a plateau, too.

    Args:
        steps: Increasing positions, shape (n,).
        values: Current values, shape (n,). Not the best so far: its equal values look like a plateau without noise.
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
    t, y = clean_curve(steps, values, direction)
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
    sign, best = sign_of(direction), int(np.argmin(y))
    noise = noise_sd(t, y, recent=4 * patience)
    improved_at = _last_record(t, y, margin=max(min_delta, 2.0 * np.sqrt(2.0) * noise))
    gain, has_trend = _trend(t, y, patience=patience, min_delta=min_delta, noise=noise)
    has_trend = has_trend or _falls_in_a_row(t, y, patience=patience, min_delta=min_delta)
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


def flat_for(
    steps: ArrayLike, values: ArrayLike, *, patience: float, rule: str, min_delta: float = 0.0
) -> float | None:
    """Return for how long a curve hasn't improved by a rule; None where it improves or is shorter than `patience`.

    Args:
        steps: Increasing positions, shape (n,), n at least 1.
        values: Current values, shape (n,), smaller is better.
        patience: After what distance on the step axis without progress a curve is on a plateau, above 0.
        rule: "noise": `plateau_test`. "keras": no value better than the best by more than `min_delta`, as Keras'
            EarlyStopping. "relative": the same with `min_delta` as a share of the best, as PyTorch's
            ReduceLROnPlateau. "prechelt_gl": generalisation loss above `min_delta` percent. "prechelt_up": UP_3, the
            value worse at the end of each third of `patience` than at the end of the third before.
        min_delta: The least improvement that counts, in the rule's unit.

    Raises:
        ConfigError: "prechelt_gl" with negative values. Beside a best of exactly 0 any other is worse without end.

    >>> flat_for([1, 2, 3, 4, 5], [3.0, 2.0, 2.0, 2.5, 2.1], patience=2, rule="keras")
    3.0
    """
    t, y = clean_curve(steps, values, "minimize")
    if rule == "prechelt_gl" and y.min() < 0.0:
        raise ConfigError(
            'rule="prechelt_gl" needs values of at least 0 to minimise; report 1 - accuracy, or use another rule.'
        )
    if t[-1] - t[0] < patience:
        return None
    if rule == "noise":
        found = plateau_test(t, y, patience=patience, min_delta=min_delta)
        return found.flat_for if found.is_plateau else None
    if rule == "prechelt_gl":
        is_worse = y[-1] > 0.0 if y.min() == 0.0 else generalization_loss(y)[-1] > min_delta
        return float(t[-1] - t[np.argmin(y)]) if is_worse else None
    if rule == "prechelt_up":
        return patience if _rises_over_thirds(t, y, patience) else None
    is_relative = rule == "relative"
    flat = t[-1] - _last_record(t, y, margin=0.0 if is_relative else min_delta, share=min_delta if is_relative else 0.0)
    return float(flat) if flat >= patience else None


def noise_sd(steps: ArrayLike, values: ArrayLike, *, recent: float | None = None) -> float:
    """Return the standard deviation of a curve's noise, whatever its smooth part.

    A divided difference of three neighbours is zero on a straight line, and one of four on a parabola. So what is
    left is noise: divided by the norm of its weights, a difference has the standard deviation σ (Gasser, Sroka &
    Jennen-Steinmetz 1986, Biometrika 73(3), eq. 2.3 for three). The median of the differences' sizes resists a few
    spikes. A curve that bends more than that makes an estimate larger, so the smaller of the two counts.

    Args:
        steps: Increasing positions, shape (n,).
        values: Values, shape (n,).
        recent: Use only the last part of this length, if at least six points are in it.

    Returns:
        σ in value units; 0 for fewer than four points.
    """
    t, y = clean_curve(steps, values, "minimize")
    if recent is not None and len(t):
        first = min(int(np.searchsorted(t, t[-1] - recent)), max(len(t) - 6, 0))
        t, y = t[first:], y[first:]
    if len(y) < 4:
        return 0.0
    return min(_difference_noise(t, y, points) for points in ((3, 4) if len(y) >= 6 else (3,)))


def generalization_loss(values: ArrayLike) -> _Floats:
    """Return Prechelt's generalisation loss of each epoch, in percent.

    GL(t) = 100·(E_va(t)/E_opt(t) − 1), E_opt(t) the lowest error up to t; the rule GL_α stops at the first
    GL > α (Prechelt 1998, "Early stopping: but when?", section 2.2). Errors must be positive; a NaN has a
    NaN loss and is left out of E_opt.

    Args:
        values: Validation errors, shape (n,), above 0, lower is better.

    Raises:
        ConfigError: An error that isn't above 0.

    >>> generalization_loss([2.0, 1.0, 1.1]).round(6).tolist()
    [0.0, 0.0, 10.0]
    """
    errors = np.asarray(values, dtype=float)
    lowest = np.fmin.accumulate(errors)
    if np.any(lowest <= 0.0):
        raise ConfigError("generalization_loss needs positive errors; give 1 - accuracy rather than accuracy.")
    return np.asarray(100.0 * (errors / lowest - 1.0), dtype=float)


def successive_rises(values: ArrayLike, *, strip: int = 5, direction: Direction = "minimize") -> int:
    """Return over how many strips of training in a row, the last one included, the validation error has risen.

    The rule UP_s stops when this reaches s: UP_s holds at t if UP_{s−1} holds at t − k and
    E_va(t) > E_va(t − k), k the strip length in validations (Prechelt 1998, section 2.2, k = 5). A
    comparison with NaN is no rise.

    Args:
        values: Validation errors, shape (n,), one per validation.
        strip: k, at least 1.
        direction: "minimize" or "maximize".

    Raises:
        ConfigError: A strip below 1, or an unknown direction.

    >>> successive_rises([5.0, 4.0, 4.1, 4.2], strip=1)
    2
    """
    if strip < 1:
        raise ConfigError(f"strip must be at least 1 validation, got {strip}.")
    ends = (sign_of(direction) * np.asarray(values, dtype=float))[::-1][::strip]  # newest first
    rises = ends[:-1] > ends[1:]
    return int(len(rises) if rises.all() else np.argmin(rises))


def clean_curve(steps: ArrayLike, values: ArrayLike, direction: Direction) -> tuple[_Floats, _Floats]:
    """Return the finite points of a curve by increasing step; values to be maximised are negated.

    Args:
        steps: Positions, shape (n,); of equal ones the last counts.
        values: Shape (n,).
        direction: Which way they get better.

    Raises:
        ConfigError: Shapes that differ, or an unknown direction.
    """
    t, y = np.asarray(steps, dtype=float), sign_of(direction) * np.asarray(values, dtype=float)
    if t.shape != y.shape or t.ndim != 1:
        raise ConfigError(f"steps and values must be of one length, got shapes {t.shape} and {y.shape}.")
    keep = np.isfinite(t) & np.isfinite(y)
    t, y = t[keep][::-1], y[keep][::-1]
    t, first = np.unique(t, return_index=True)
    return t, y[first]


def _check_rule(*, patience: float, min_delta: float) -> None:
    if not (np.isfinite(patience) and patience > 0.0):
        raise ConfigError(f"patience must be a number above 0, got {patience!r}.")
    if not (np.isfinite(min_delta) and min_delta >= 0.0):
        raise ConfigError(f"min_delta must be a number of at least 0, got {min_delta!r}.")


def _difference_noise(t: _Floats, y: _Floats, points: int) -> float:
    at = sliding_window_view(t, points)
    gaps = at[:, :, None] - at[:, None, :] + np.eye(points)
    weights = 1.0 / gaps.prod(axis=2)
    sizes = np.abs((weights * sliding_window_view(y, points)).sum(axis=1)) / np.sqrt((weights**2).sum(axis=1))
    return float(1.4826 * np.median(sizes))  # the median size of a standard normal is 1/1.4826


def _last_record(t: _Floats, y: _Floats, *, margin: float, share: float = 0.0) -> float:
    """Return the step of the last value that beat the reference by more than margin + share·|reference|.

    The reference is the value that did so before, at first the curve's first.
    """
    reference, improved_at = y[0], t[0]
    for step, value in zip(t[1:], y[1:], strict=True):
        if value + margin + share * abs(reference) < reference:
            reference, improved_at = value, step
    return float(improved_at)


def _rises_over_thirds(t: _Floats, y: _Floats, patience: float) -> bool:
    """Whether the value rose over each third of the last `patience`, read at the points nearest to the thirds' ends."""
    ends = t[-1] - patience * np.arange(_STRIPS + 1)[::-1] / _STRIPS
    at = np.abs(t[:, None] - ends).argmin(axis=0)
    return bool(np.all(np.diff(at) > 0)) and successive_rises(y[at], strip=1) >= _STRIPS


def _trend(t: _Floats, y: _Floats, *, patience: float, min_delta: float, noise: float) -> tuple[float, bool]:
    """Return the gain per patience of the shortest window with three points, and whether any is significant."""
    last, gain, significant = _line(t, y, patience), 0.0, False
    least = max(min_delta, 1e-9 * float(np.ptp(y)))  # less is rounding
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


def _falls_in_a_row(t: _Floats, y: _Floats, *, patience: float, min_delta: float) -> bool:
    """Whether each of the last values is below the one before, together by more than `min_delta` per patience."""
    if len(y) < _IN_A_ROW:
        return False
    least = max(min_delta, 1e-9 * float(np.ptp(y)))  # less is rounding
    gain = float((y[-_IN_A_ROW] - y[-1]) / (t[-1] - t[-_IN_A_ROW])) * patience
    return bool(np.all(np.diff(y[-_IN_A_ROW:]) < 0.0)) and gain > least


def _line(t: _Floats, y: _Floats, window: float) -> tuple[float, float, int]:
    """Slope of a least-squares line, √Σ(t − t̄)² (σ over it is the slope's error), number of points."""
    inside = t >= t[-1] - window
    x, z = t[inside] - t[inside].mean(), y[inside]
    spread = float(np.sqrt(x @ x))
    return (float(x @ z) / spread**2 if spread else 0.0), spread, len(z)
