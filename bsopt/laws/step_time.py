r"""Step time, memory and power of one device against its micro-batch.

Notation, as in the code below:

    b       micro-batch: samples of one device's forward and backward pass
    t(b)    seconds of a step:  (t0^γ + (t1·b)^γ)^(1/γ), γ in [1, 10]; t0 a latency, t1 seconds per sample;
            γ = 1 is the straight line, γ → ∞ the sharp corner max(t0, t1·b)
    m(b)    peak memory of a full step:  m0 + m1·b
    P(b)    mean power:  P0 + P1·t1·b/t(b): idle, and the busy share of a step

The γ form follows Pollux (Qiao et al. 2021, arXiv 2008.12260, eq. 11), which combines compute and communication
so. On 24 published GPU × workload sets its median error is 2.7 %, the straight line's 5.4 %. Fits are of the log
error, so that a step of a millisecond counts like one of a second. Several devices: `bsopt.laws.communication`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from bsopt.laws.estimate import (
    INTERVAL_MASS,
    Estimate,
    FitStatus,
    draw_from_grid,
    estimate_from_samples,
    shuffled_normals,
)
from bsopt.laws.gaussian_process import condition
from bsopt.units import count_of

__all__ = [
    "MemoryFit",
    "PowerFit",
    "StepTimeFit",
    "fit_memory",
    "fit_power",
    "fit_step_time",
    "step_time",
]

Array = NDArray[np.float64]

MEMORY_MARGIN = 0.05
"""Share of a device's memory kept free for fragmentation and validation peaks."""

_DRAWS = 199
_LEAST_BYTES = 1.0  # of memory that a sample takes: less is rounding
_SCATTER, _SCATTER_LOG_SD = 0.03, 0.7  # of ln t about the law: the published sets' median error is 2.7 %
_RISE, _RISE_SD = 0.5, 0.5  # of power between idle and busy, relative to the mean power of the probes
_BEND, _BEND_LENGTH = 0.03, 1.0  # smooth misfit of the law: standard deviation of ln t, length in ln b


@dataclass(frozen=True, slots=True)
class StepTimeFit:
    """t(b) with intervals.

    Attributes:
        latency_seconds: t0.
        seconds_per_sample: t1, the reciprocal of the largest throughput.
        gamma: γ.
        scatter: Standard deviation of ln t about the law.
        tried_low: Smallest micro-batch measured.
        tried_high: Largest.
        draws: (ln t0, ln t1, γ, scatter) of posterior draws.
        bends: ln b of each measured size, and what the measured ln t has above the law there, as the draws see it.
    """

    status: FitStatus
    message: str
    num_points: int
    latency_seconds: Estimate | None = None
    seconds_per_sample: Estimate | None = None
    gamma: Estimate | None = None
    scatter: float | None = None
    tried_low: float | None = None
    tried_high: float | None = None
    draws: tuple[tuple[float, float, float, float], ...] = ()
    bends: tuple[tuple[float, float], ...] = ()

    def predict(self, micro_batch_size: float) -> Estimate | None:
        """Return the seconds of a step with `micro_batch_size` samples; None where nothing is fitted."""
        samples = self.sample(micro_batch_size)
        return None if samples is None else estimate_from_samples(samples)

    def samples_per_second(self, micro_batch_size: float) -> Estimate | None:
        """Return the throughput of one device."""
        seconds = self.predict(micro_batch_size)
        if seconds is None:
            return None
        return Estimate(*(micro_batch_size / s for s in (seconds.value, seconds.high, seconds.low)))

    def sample(self, micro_batch_size: float) -> Array | None:
        """Return posterior samples of the seconds of a step, for sums with other uncertain times."""
        if not self.draws or self.status is FitStatus.CONTRADICTORY:
            return None
        log_t0, log_t1, gamma, scatter = np.array(self.draws).T
        x = float(np.log(micro_batch_size))
        shift, left = _bend_at(x, self.bends, float(self.scatter or _SCATTER))
        noise = shuffled_normals(len(log_t0), seed=len(log_t0))
        law = _log_time(log_t0, log_t1 + x, gamma)
        return np.asarray(np.exp(law + shift + np.hypot(scatter, left) * noise))


@dataclass(frozen=True, slots=True)
class MemoryFit:
    """m(b) = m0 + m1·b with intervals.

    Attributes:
        fixed_bytes: m0: weights, gradients, optimizer state.
        bytes_per_sample: m1: activations.
    """

    status: FitStatus
    message: str
    num_points: int
    fixed_bytes: Estimate | None = None
    bytes_per_sample: Estimate | None = None
    line: tuple[float, float] | None = None
    spread: tuple[float, float, float, float] | None = None
    tried_high: float | None = None

    def predict(self, micro_batch_size: float) -> Estimate | None:
        """Return the peak memory in bytes; None where nothing is fitted."""
        if self.line is None or self.spread is None:
            return None
        variance, mean_b, sum_square, degrees = self.spread
        value = self.line[0] + self.line[1] * micro_batch_size
        sd = np.sqrt(variance * (1.0 + 1.0 / self.num_points + (micro_batch_size - mean_b) ** 2 / sum_square))
        half = float(sd * student_t.ppf(0.5 + INTERVAL_MASS / 2.0, degrees))
        return Estimate(value, value - half, value + half)

    def largest_micro_batch(self, capacity_bytes: float, *, margin: float = MEMORY_MARGIN) -> int | None:
        """Return the largest micro-batch whose peak, at the interval's upper end, fits; verify it by one real step.

        None where nothing is fitted; 0 where not even one sample fits.
        """
        if self.line is None:
            return None
        room = capacity_bytes * (1.0 - margin)

        def fits(b: int) -> bool:
            peak = self.predict(b)
            return peak is not None and peak.high <= room

        low, high = 0, max(1, int((room - self.line[0]) / self.line[1]) + 1)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low


@dataclass(frozen=True, slots=True)
class PowerFit:
    """Mean power of one device, from its busy share; with too few points their plain mean, and what it may rise to.

    Attributes:
        idle_watts: P0.
        busy_watts: P0 + P1.
        relative_error: Standard deviation of ln P about the fit.
        lines: (watts at no busy share, at the whole) for each draw of the step time that the fit was made with.
    """

    status: FitStatus
    message: str
    num_points: int
    idle_watts: float | None = None
    busy_watts: float | None = None
    relative_error: float | None = None
    lines: tuple[tuple[float, float], ...] = ()

    def predict(self, micro_batch_size: float, *, step_time: StepTimeFit) -> Estimate | None:
        """Return mean watts at a micro-batch; None where nothing was measured."""
        shares = _busy_shares(micro_batch_size, step_time)
        if self.relative_error is None or shares is None or len(shares) != len(self.lines):
            return None
        idle, busy = np.array(self.lines).T
        noise = np.exp(self.relative_error * shuffled_normals(len(shares), seed=1))
        return estimate_from_samples(np.maximum(idle + (busy - idle) * shares, 1e-9) * noise)


def step_time(micro_batch_size: float, *, latency: float, seconds_per_sample: float, gamma: float) -> float:
    """Return t(b) = (t0^γ + (t1·b)^γ)^(1/γ) in seconds.

    >>> step_time(30, latency=0.04, seconds_per_sample=0.001, gamma=2.0)
    0.05
    """
    law = _log_time(np.log([latency]), np.log([seconds_per_sample * micro_batch_size]), np.array([gamma]))
    return float(np.round(np.exp(law[0]), 15))


def fit_step_time(points: Iterable[tuple[float, float]]) -> StepTimeFit:
    """Fit t(b) to (micro-batch, seconds per step) pairs: medians of synchronised steps after warm-up.

    Probe sizes spread evenly in log b and include a large one: a fit on the four smallest published sizes
    mispredicts the largest by 55 %.

    Returns:
        The fit: `too_few` under two sizes, `not_identified` where either end of the law (latency or time per
        sample) can't be told, which hurts only beyond the measured sizes.
    """
    b, seconds = _clean(points)
    sizes = len(np.unique(b))
    if sizes < 2:
        return StepTimeFit(
            FitStatus.TOO_FEW,
            f"Step time was measured at {count_of(sizes, 'micro-batch size')}; its law needs at least 2.",
            len(b),
        )
    x, y = np.log(b), np.log(seconds)
    if _time_falls(x, y):
        return StepTimeFit(
            FitStatus.CONTRADICTORY,
            "Larger micro-batches took less time per step than smaller ones, beyond noise: the probes were disturbed "
            "or measured on different hardware.",
            len(b),
        )
    draws = _step_time_draws(x, y)
    log_t0, log_t1, gamma, scatter = draws.T
    law = _log_time(log_t0, log_t1 + x[:, None], gamma).mean(1)
    latency, rate = estimate_from_samples(np.exp(log_t0)), estimate_from_samples(np.exp(log_t1))
    status, message = (
        FitStatus.OK,
        f"{len(b)} measurements; at most {1.0 / rate.value:,.4g} samples per second and device.",
    )
    corner = estimate_from_samples(log_t0 - log_t1)  # ln of the size where latency and work are equal
    no_rate, no_latency = corner.high > x.max() + 2.0, corner.low < x.min() - 2.0
    if no_rate or no_latency or sizes < 3:
        status = FitStatus.NOT_IDENTIFIED
        part = "the time per sample" if no_rate else "the latency" if no_latency else "both ends of the law"
        tried = f"between {b.min():.0f} and {b.max():.0f}"
        message = f"{sizes} micro-batch sizes can't tell {part}: predictions hold {tried} only."
    return StepTimeFit(
        status,
        message,
        len(b),
        latency_seconds=latency,
        seconds_per_sample=rate,
        gamma=estimate_from_samples(gamma),
        scatter=float(np.median(scatter)),
        tried_low=float(b.min()),
        tried_high=float(b.max()),
        draws=tuple((float(p), float(q), float(r), float(s)) for p, q, r, s in draws),
        bends=tuple(zip(x.tolist(), (y - law).tolist(), strict=True)),
    )


def fit_memory(points: Iterable[tuple[float, float]]) -> MemoryFit:
    """Fit m(b) = m0 + m1·b to (micro-batch, peak bytes) pairs, each after the first optimizer step.

    Returns:
        The fit: `too_few` under two sizes; `contradictory` where memory doesn't grow by a byte per sample.
    """
    b, peak = _clean(points)
    sizes = len(np.unique(b))
    if sizes < 2:
        return MemoryFit(
            FitStatus.TOO_FEW,
            f"Memory was measured at {count_of(sizes, 'micro-batch size')}; its law needs at least 2.",
            len(b),
        )
    mean, square = float(b.mean()), float(((b - b.mean()) ** 2).sum())
    slope = float(((b - mean) * peak).sum() / square)
    fixed = float(peak.mean() - slope * mean)
    if slope < _LEAST_BYTES:
        return MemoryFit(
            FitStatus.CONTRADICTORY,
            "Peak memory doesn't grow with the micro-batch: it is set by something else, so no largest size follows.",
            len(b),
        )
    degrees = max(1, len(b) - 2)
    variance = float(((peak - fixed - slope * b) ** 2).sum()) / degrees + (0.005 * float(peak.mean())) ** 2
    wide = float(student_t.ppf(0.5 + INTERVAL_MASS / 2.0, degrees)) if len(b) > 2 else 2.0
    half_slope = wide * np.sqrt(variance / square)
    half_fixed = wide * np.sqrt(variance * (1.0 / len(b) + mean**2 / square))
    return MemoryFit(
        FitStatus.OK,
        f"A device needs {max(fixed, 0.0) / 2**20:,.0f} MiB, and {slope / 2**20:,.3g} MiB per sample of the "
        f"micro-batch on top, from {len(b)} measurements.",
        len(b),
        fixed_bytes=Estimate(fixed, fixed - half_fixed, fixed + half_fixed),
        bytes_per_sample=Estimate(slope, slope - half_slope, slope + half_slope),
        line=(fixed, slope),
        spread=(variance, mean, square, float(degrees if len(b) > 2 else 30)),
        tried_high=float(b.max()),
    )


def fit_power(points: Iterable[tuple[float, float]], *, step_time: StepTimeFit) -> PowerFit:
    """Fit P(b) to (micro-batch, mean watts of one device) pairs, given the fitted step time."""
    b, watts = _clean(points)
    if len(b) == 0:
        return PowerFit(FitStatus.TOO_FEW, "Power or energy was never measured.", 0)
    tables = [_busy_shares(size, step_time) for size in b]
    if any(shares is None for shares in tables):
        return PowerFit(FitStatus.TOO_FEW, "Power needs a law of the step time, which isn't fitted.", len(b))
    lines, error = _power_lines(np.array(tables).T, watts)
    idle, busy = np.median(lines, axis=0)
    message = f"{idle:.3g} W idle, {busy:.3g} W busy, from {len(b)} measurements."
    status = FitStatus.OK
    if len(np.unique(b)) < 3:
        status = FitStatus.NOT_IDENTIFIED
        sizes = count_of(len(np.unique(b)), "micro-batch size")
        message = f"Power was measured at {sizes}: how it rises with the size is assumed."
    return PowerFit(
        status,
        message,
        len(b),
        float(idle),
        float(busy),
        error,
        tuple((float(low), float(high)) for low, high in lines),
    )


# --- internals -------------------------------------------------------------------------------------------------


def _clean(points: Iterable[tuple[float, float]]) -> tuple[Array, Array]:
    kept = sorted((float(a), float(c)) for a, c in points if a > 0 and np.isfinite(c) and c > 0)
    array = np.array(kept, dtype=float).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _log_time(log_t0: Array, log_tb: Array, gamma: Array) -> Array:
    return np.asarray(np.logaddexp(gamma * log_t0, gamma * log_tb) / gamma)


def _time_falls(x: Array, y: Array) -> bool:
    """Whether the largest size is quicker than the smallest by over 30 %."""
    return bool(y[x == x.max()].mean() < y[x == x.min()].mean() - 0.3)


def _step_time_draws(x: Array, y: Array) -> Array:
    """Posterior draws [_DRAWS, 4] of (ln t0, ln t1, γ, scatter).

    From a grid over γ, the corner ln(t0/t1) and the scatter; ln t1 is marginalised exactly.
    """
    gamma = np.geomspace(1.0, 10.0, 12)
    corner = np.linspace(x.min() - 4.0, x.max() + 4.0, 120)
    steps = np.linspace(-2.0, 2.5, 10)
    scatter = _SCATTER * np.exp(_SCATTER_LOG_SD * steps)
    shape = _log_time(corner[None, :, None], x[None, None, :], gamma[:, None, None])  # ln t − ln t1
    residual = y - shape
    bend = _bend_covariance(x, x)
    scores, means, sds = [], [], []
    for s in scatter:
        precision = np.linalg.inv(s**2 * np.eye(len(x)) + bend)
        total = precision.sum()
        mean = residual @ precision.sum(0) / total
        square = np.einsum("gci,ij,gcj->gc", residual, precision, residual) - mean**2 * total
        scores.append(-0.5 * square + 0.5 * np.linalg.slogdet(precision)[1] - 0.5 * np.log(total))
        means.append(mean)
        sds.append(1.0 / np.sqrt(total))
    score = np.stack(scores) - 0.5 * steps[:, None, None] ** 2
    i, g, c = draw_from_grid(score, _DRAWS)
    noise = shuffled_normals(_DRAWS, seed=0)
    log_t1 = np.stack(means)[i, g, c] + np.array(sds)[i] * noise
    return np.column_stack([log_t1 + corner[c], log_t1, gamma[g], scatter[i]])


def _bend_at(x: float, bends: tuple[tuple[float, float], ...], scatter: float) -> tuple[float, float]:
    """The smooth misfit of the law at ln b = x, kriged from the measured sizes, and what is left of its sd."""
    at, residual = np.array(bends).T
    process = condition(_bend_covariance(at, at)[None], residual, noise_variance=np.array([(0.3 * scatter) ** 2]))
    cross = process.project(_bend_covariance(at, np.array([x]))[None])
    shift, variance = process.predict(cross, np.array([[_BEND**2]]))
    return float(shift[0, 0]), float(np.sqrt(variance[0, 0]))


def _bend_covariance(x: Array, other: Array) -> Array:
    """Covariance (n, m) of the law's smooth misfit at sizes ln b (n,) and (m,)."""
    return np.asarray(_BEND**2 * np.exp(-(((x[:, None] - other[None]) / _BEND_LENGTH) ** 2) / 2.0))


def _busy_shares(micro_batch_size: float, step_time: StepTimeFit) -> Array | None:
    """Return t1·b/t(b) of each draw, the share of a step that the device works; None without a step time."""
    if not step_time.draws or step_time.status is FitStatus.CONTRADICTORY:
        return None
    log_t0, log_t1, gamma, _ = np.array(step_time.draws).T
    work = log_t1 + float(np.log(micro_batch_size))
    return np.asarray(np.exp(work - _log_time(log_t0, work, gamma)))


def _power_lines(shares: Array, watts: Array) -> tuple[Array, float]:
    """Return watts at no and at the whole busy share, [draws, 2], given the shares [draws, points], and the scatter.

    The rise from idle to busy, relative to the mean, is normal beforehand: a device draws more when it works, and how
    much more the points tell only as far as their shares differ.
    """
    scale = float(np.exp(np.log(watts).mean()))
    y = watts / scale
    centre = shares.mean(1, keepdims=True)
    x = shares - centre
    error = 0.05
    for _ in range(3):  # the scatter and the slopes depend on each other
        precision = (x**2).sum(1) / error**2 + 1.0 / _RISE_SD**2
        slope = ((x * (y - y.mean())).sum(1) / error**2 + _RISE / _RISE_SD**2) / precision
        left = y - y.mean() - slope[:, None] * x
        freedom = max(len(y) - 2, 1)
        error = float(np.sqrt((np.median((left**2).sum(1)) + 2 * 0.05**2) / (freedom + 2)))
    draws = slope + shuffled_normals(len(slope), seed=2) / np.sqrt(precision)
    level = y.mean() + shuffled_normals(len(slope), seed=3) * error / np.sqrt(len(y))
    idle = level - draws * centre[:, 0]
    lines = scale * np.column_stack([np.maximum(idle, 0.02), np.maximum(idle + draws, 0.02)])
    return lines, max(error, 0.02)
