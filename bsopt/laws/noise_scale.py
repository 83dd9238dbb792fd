r"""The gradient noise scale: how noisy one step's gradient is, and what that says about the batch size.

Notation, as in the formulas below:

    G        true gradient;  |G|²  its squared norm
    Σ        per-sample gradient covariance;  tr Σ  its trace
    g_b      gradient averaged over b samples:  E|g_b|² = |G|² + tr Σ / b
    B_simple tr Σ / |G|², samples: the simple noise scale
    B        global batch size, samples per optimizer update

Two batch sizes b < B in one step give two equations for the two unknowns. Each step's answer is unbiased and
very noisy (|G|² often comes out negative), so numerator and denominator are averaged apart, nothing is clamped
before averaging, and the division comes last. B_simple is good to about one order of magnitude: a diagnosis and
a prior for the critical batch size, not a verdict.

Source: McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", arXiv 1812.06162, appendix A.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from bsopt.errors import ConfigError
from bsopt.laws.estimate import fieller_interval
from bsopt.units import count_of

__all__ = [
    "NoiseMeasurement",
    "NoiseMoments",
    "NoiseScale",
    "NoiseTrend",
    "describe_noise_scale",
    "estimate_noise_scale",
    "estimate_trend",
    "measure_noise",
    "sample_ratio",
    "step_ratio",
]


@dataclass(frozen=True, slots=True)
class NoiseMeasurement:
    """One step's unbiased estimates; either may be negative.

    Attributes:
        gradient_sq_norm: |G|².
        covariance_trace: tr Σ.
    """

    gradient_sq_norm: float
    covariance_trace: float

    @property
    def is_finite(self) -> bool:
        """Whether both are finite numbers."""
        return math.isfinite(self.gradient_sq_norm) and math.isfinite(self.covariance_trace)


@dataclass(frozen=True, slots=True)
class NoiseMoments:
    """Exponentially weighted mean and covariance of measurements, updated one at a time.

    Attributes:
        num_measurements: How many were added.
        weight: Σw, with w = decay^age.
        weight_sq: Σw².
        gradient_sq_norm: Weighted mean of |G|², bias-corrected by construction.
        covariance_trace: Weighted mean of tr Σ.
        var_gradient: Σw·(deviation of |G|²)².
        var_trace: Σw·(deviation of tr Σ)².
        cov: Σw·(product of the two deviations).
    """

    num_measurements: int = 0
    weight: float = 0.0
    weight_sq: float = 0.0
    gradient_sq_norm: float = 0.0
    covariance_trace: float = 0.0
    var_gradient: float = 0.0
    var_trace: float = 0.0
    cov: float = 0.0

    def add(self, measurement: NoiseMeasurement, *, decay: float = 1.0) -> NoiseMoments:
        """Return the moments with one more measurement, older ones weighted down by `decay` (West 1979)."""
        weight = decay * self.weight + 1.0
        d_gradient = measurement.gradient_sq_norm - self.gradient_sq_norm
        d_trace = measurement.covariance_trace - self.covariance_trace
        gradient = self.gradient_sq_norm + d_gradient / weight
        trace = self.covariance_trace + d_trace / weight
        return NoiseMoments(
            num_measurements=self.num_measurements + 1,
            weight=weight,
            weight_sq=decay**2 * self.weight_sq + 1.0,
            gradient_sq_norm=gradient,
            covariance_trace=trace,
            var_gradient=decay * self.var_gradient + d_gradient * (measurement.gradient_sq_norm - gradient),
            var_trace=decay * self.var_trace + d_trace * (measurement.covariance_trace - trace),
            cov=decay * self.cov + d_gradient * (measurement.covariance_trace - trace),
        )

    def merge(self, other: NoiseMoments) -> NoiseMoments:
        """Return the moments of both sets together (Chan et al. 1983)."""
        weight = self.weight + other.weight
        if weight == 0.0:
            return self
        d_gradient = other.gradient_sq_norm - self.gradient_sq_norm
        d_trace = other.covariance_trace - self.covariance_trace
        share = other.weight / weight
        between = self.weight * share
        return NoiseMoments(
            num_measurements=self.num_measurements + other.num_measurements,
            weight=weight,
            weight_sq=self.weight_sq + other.weight_sq,
            gradient_sq_norm=self.gradient_sq_norm + d_gradient * share,
            covariance_trace=self.covariance_trace + d_trace * share,
            var_gradient=self.var_gradient + other.var_gradient + d_gradient**2 * between,
            var_trace=self.var_trace + other.var_trace + d_trace**2 * between,
            cov=self.cov + other.cov + d_gradient * d_trace * between,
        )


@dataclass(frozen=True, slots=True)
class NoiseScale:
    """The simple noise scale with its interval.

    Attributes:
        value: B_simple in samples; inf where the mean |G|² is not positive yet.
        low: Lower end of the interval, samples.
        high: Upper end; inf where |G|² can't be told from zero.
        gradient_sq_norm: |G|², averaged.
        covariance_trace: tr Σ, averaged.
        num_measurements: Steps behind it.
        confidence: Of the interval.
    """

    value: float
    low: float
    high: float
    gradient_sq_norm: float
    covariance_trace: float
    num_measurements: int
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class NoiseTrend:
    """How the noise scale moved over a run.

    Attributes:
        first: Over the first half of the measurements.
        last: Over the second half.
        growth: last / first; NaN where either is unbounded.
        low: Lower end of the growth's 95 % interval.
        high: Upper end.
    """

    first: NoiseScale
    last: NoiseScale
    growth: float
    low: float
    high: float

    @property
    def is_growing(self) -> bool:
        """Whether the whole interval lies above 1."""
        return self.low > 1.0


def measure_noise(
    small_sq_norm: float, big_sq_norm: float, *, small_batch_size: float, big_batch_size: float
) -> NoiseMeasurement:
    """Return unbiased |G|² and tr Σ from the squared gradient norms at two batch sizes of the same step.

    |G|² = (B|g_B|² − b|g_b|²) / (B − b) and tr Σ = (|g_b|² − |g_B|²) / (1/b − 1/B) (McCandlish et al. 2018,
    eq. A.2 and A.3). For K parts of unequal sizes whose gradients are averaged with equal weights, the same
    holds with b the harmonic mean of the sizes, B = K·b, and |g_b|² the mean over the parts.

    Args:
        small_sq_norm: |g_b|², the mean of squared norms of gradients that average b samples each.
        big_sq_norm: |g_B|², the squared norm of the gradient that averages B samples.
        small_batch_size: b in samples.
        big_batch_size: B in samples, larger than b.

    Raises:
        ConfigError: Unless 0 < b < B.

    >>> measure_noise(5.0, 2.0, small_batch_size=1, big_batch_size=4)
    NoiseMeasurement(gradient_sq_norm=1.0, covariance_trace=4.0)
    """
    b, B = float(small_batch_size), float(big_batch_size)
    if not 0 < b < B:
        raise ConfigError(f"two batch sizes 0 < small < big are needed, got {b:g} and {B:g}.")
    return NoiseMeasurement(
        gradient_sq_norm=(B * big_sq_norm - b * small_sq_norm) / (B - b),
        covariance_trace=(small_sq_norm - big_sq_norm) / (1.0 / b - 1.0 / B),
    )


def estimate_noise_scale(moments: NoiseMoments, *, confidence: float = 0.95) -> NoiseScale | None:
    """Return tr Σ / |G|² with Fieller's interval for a ratio of two means, or None before any measurement.

    Its t has Σ(w)²/Σ(w²) − 1 degrees of freedom (`bsopt.laws.estimate.fieller_interval`). It has no upper end where
    |G|² can't be told from zero. With fewer than three measurements it is (0, inf).
    """
    if moments.num_measurements == 0:
        return None
    n, d = moments.covariance_trace, moments.gradient_sq_norm
    low, high = _interval(moments, confidence)
    value = max(n, 0.0) / d if d > 0 else math.inf
    return NoiseScale(
        value=value,
        low=min(low, value),
        high=max(high, value),
        gradient_sq_norm=d,
        covariance_trace=n,
        num_measurements=moments.num_measurements,
        confidence=confidence,
    )


def estimate_trend(blocks: Sequence[NoiseMoments]) -> NoiseTrend | None:
    """Return how B_simple moved from the first half of a run's blocks to the second; None below two blocks.

    The growth's interval is the delta method's on the logarithm of each half's ratio.
    """
    half = len(blocks) // 2
    if half == 0:
        return None
    halves = [_merged(blocks[:half]), _merged(blocks[-half:])]
    first, last = (estimate_noise_scale(moments) for moments in halves)
    if first is None or last is None:
        return None
    if not (0 < first.value < math.inf and 0 < last.value < math.inf):
        return NoiseTrend(first=first, last=last, growth=math.nan, low=0.0, high=math.inf)
    growth = last.value / first.value
    spread = math.exp(1.96 * math.sqrt(sum(_log_ratio_variance(moments) for moments in halves)))
    return NoiseTrend(first=first, last=last, growth=growth, low=growth / spread, high=growth * spread)


def step_ratio(batch_size: float, new_batch_size: float, *, noise_scale: float) -> float:
    """Return by what the number of steps to a target multiplies when the batch size changes.

    S(B) ∝ 1 + B_noise/B with the learning rate tuned at each B (McCandlish et al. 2018, eq. 2.7).

    >>> step_ratio(100, 200, noise_scale=100)
    0.75
    """
    return (1.0 + noise_scale / new_batch_size) / (1.0 + noise_scale / batch_size)


def sample_ratio(batch_size: float, new_batch_size: float, *, noise_scale: float) -> float:
    """Return by what the number of samples to a target multiplies; E(B) ∝ 1 + B/B_noise.

    >>> sample_ratio(100, 200, noise_scale=100)
    1.5
    """
    return step_ratio(batch_size, new_batch_size, noise_scale=noise_scale) * new_batch_size / batch_size


def describe_noise_scale(noise: NoiseScale, *, global_batch_size: float) -> str:
    """Return in words what the noise scale means for the current global batch size."""
    B = global_batch_size
    taken = count_of(noise.num_measurements, "measurement")
    if not math.isfinite(noise.value):
        known = f": the noise scale is probably above {noise.low:.3g} samples" if noise.low > 0 else ""
        return f"The gradient's mean can't be told from its noise yet ({taken}){known}. Measure for longer."
    if noise.value <= 0:
        known = f": the noise scale is probably below {noise.high:.3g} samples" if math.isfinite(noise.high) else ""
        return f"The gradient's noise can't be told from zero yet ({taken}){known}. Measure for longer."
    interval = f"{noise.low:.3g} to {noise.high:.3g}" if math.isfinite(noise.high) else f"above {noise.low:.3g}"
    steps = step_ratio(B, 2 * B, noise_scale=noise.value)
    samples = sample_ratio(B, 2 * B, noise_scale=noise.value)
    if noise.low > 3 * B:
        verdict = f"a batch of {B:g} is well below it: noise dominates each step, and a larger batch pays almost fully"
    elif 3 * noise.high < B:
        verdict = f"a batch of {B:g} is well above it: most of each batch repeats what the rest already says"
    else:
        verdict = f"a batch of {B:g} is of the same order"
    return (
        f"Gradient noise scale {noise.value:.3g} samples (95 % interval {interval}); {verdict}. Twice the batch would "
        f"take about {steps:.0%} of the steps and {samples:.0%} of the samples to the same loss, with the learning "
        f"rate re-tuned. Good to an order of magnitude."
    )


def _interval(moments: NoiseMoments, confidence: float) -> tuple[float, float]:
    if moments.num_measurements < 3:
        return 0.0, math.inf
    scale = _variance_of_mean(moments)
    degrees = moments.weight**2 / moments.weight_sq - 1.0
    return fieller_interval(
        moments.covariance_trace,
        moments.gradient_sq_norm,
        variances=(moments.var_trace * scale, moments.var_gradient * scale),
        covariance=moments.cov * scale,
        quantile=float(stdtrit(degrees, 0.5 + confidence / 2.0)),
        is_positive=True,
    )


def _variance_of_mean(moments: NoiseMoments) -> float:
    """Factor from weighted sums of squares to the variance of the weighted mean: Σw²/(Σw)² / (Σw − Σw²/Σw)."""
    W, W2 = moments.weight, moments.weight_sq
    return (W2 / W**2) / (W - W2 / W)


def _log_ratio_variance(moments: NoiseMoments) -> float:
    if moments.num_measurements < 3:
        return math.inf
    scale = _variance_of_mean(moments)
    n, d = moments.covariance_trace, moments.gradient_sq_norm
    return max(scale * (moments.var_trace / n**2 + moments.var_gradient / d**2 - 2 * moments.cov / (n * d)), 0.0)


def _merged(blocks: Iterable[NoiseMoments]) -> NoiseMoments:
    total = NoiseMoments()
    for block in blocks:
        total = total.merge(block)
    return total
