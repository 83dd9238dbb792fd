"""What a measured noise scale says about the batch size in use: the numbers and the words."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bsopt.laws.noise_scale import NoiseScale, sample_ratio, step_ratio
from bsopt.laws.scaling import Reference, default_rule, scaled_learning_rate
from bsopt.laws.throughput import Throughput

__all__ = ["Advice", "BatchSizeOption", "Verdict", "advise"]

Verdict = Literal["too small", "about right", "past the critical size", "unknown"]

_MARGIN = 3.0  # B_simple is good to about one order of magnitude: half of one on each side
_ABOUT = 10.0  # an interval that reaches further than this from the batch size says nothing of it
MIN_MEASUREMENTS = 5
"""Measurements of the noise scale below which its interval isn't believed."""
_FACTORS = (0.25, 0.5, 2.0, 4.0, 8.0)


@dataclass(frozen=True, slots=True)
class BatchSizeOption:
    """What a change to another global batch size would do; factors are relative to the current one.

    Attributes:
        batch_size: Samples per optimizer update.
        steps: Factor on the optimizer steps to the same loss.
        steps_low: The smallest factor on the steps over the noise scale's interval.
        steps_high: The largest factor on the steps over the noise scale's interval.
        samples: Factor on the samples to the same loss.
        time_low: The smallest factor on the time: a step of a larger batch takes as long as now, since the device is
            idle in part, and a step of a smaller one takes less in proportion to its samples.
        time_high: The largest factor on the time: a step of a larger batch takes more in proportion to its samples,
            and a step of a smaller one as long as now.
        lr: Learning rate to try there, in use; None where the current one isn't known.
        lr_written: What to write in the configuration for that: less by the factor of a LearningRateScaling callback.
    """

    batch_size: int
    steps: float
    steps_low: float
    steps_high: float
    samples: float
    time_low: float
    time_high: float
    lr: float | None
    lr_written: float | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """The answer of a BatchSizeAdvisor.

    Attributes:
        batch_size: The global batch size in use, samples.
        verdict: Where it stands.
        noise_scale: What that rests on; None where nothing was measured.
        suggestion: The batch size to try; None where the current one is about right or nothing is known.
        options: What other batch sizes would do.
        certainty: How sure this is, in a sentence.
        next_step: What to run to be surer.
        throughput: Speed of the run; None where no step was timed.
        text: All of it in one paragraph.
    """

    batch_size: int
    verdict: Verdict
    noise_scale: NoiseScale | None
    suggestion: BatchSizeOption | None
    options: tuple[BatchSizeOption, ...]
    certainty: str
    next_step: str
    throughput: Throughput | None
    text: str


def advise(
    noise: NoiseScale | None,
    *,
    batch_size: int,
    lr: float | None = None,
    optimizer: str = "sgd",
    throughput: Throughput | None = None,
    lr_factor: Callable[[int], float] | None = None,
    num_parts: int = 1,
) -> Advice:
    """Return what a noise scale says about a global batch size.

    The batch is too small (past the critical size) where it lies more than three times below (above) the noise scale's
    interval, and about right where the interval stays within a factor of ten of it; else nothing can be told yet. Steps
    and samples follow McCandlish et al. 2018; the learning rate their saturating law with the noise scale as B_n, and
    its square root for adaptive optimizers.

    Args:
        noise: As measured; None where nothing was.
        batch_size: Current global batch size, samples.
        lr: Learning rate in use: what reaches the optimizer's step, a schedule left out.
        optimizer: The optimizer's name.
        throughput: Speed of the run.
        lr_factor: From a global batch size to what a LearningRateScaling callback multiplies the configured rate by;
            None without one.
        num_parts: Micro-batches of an update: devices times accumulation.
    """
    if noise is None or not math.isfinite(noise.value) or noise.value <= 0:
        return _unknown(noise, batch_size, throughput, num_parts)
    verdict = _verdict(noise, batch_size)
    if verdict == "unknown":
        return _unknown(noise, batch_size, throughput, num_parts)
    others = [max(1, round(batch_size * factor)) for factor in _FACTORS]
    use = _InUse(lr, optimizer, lr_factor, num_parts)
    options = {size: _option(noise, batch_size, size, use) for size in others if size != batch_size}
    suggestion = None
    if verdict != "about right":
        target = 2 ** round(math.log2(min(max(noise.value, batch_size / 8), batch_size * 8)))
        suggestion = _option(noise, batch_size, target, use)
        options[target] = suggestion
    certainty, next_step = _certainty(noise, batch_size, suggestion, num_parts)
    return Advice(
        batch_size=batch_size,
        verdict=verdict,
        noise_scale=noise,
        suggestion=suggestion,
        options=tuple(options[size] for size in sorted(options)),
        certainty=certainty,
        next_step=next_step,
        throughput=throughput,
        text=_paragraph(noise, batch_size, verdict, suggestion or options[2 * batch_size], throughput, use)
        + f" {certainty} {next_step}",
    )


@dataclass(frozen=True, slots=True)
class _InUse:
    """How the run trains: learning rate in use, optimizer, a scaling callback's factor, and parts of an update."""

    lr: float | None
    optimizer: str
    lr_factor: Callable[[int], float] | None
    num_parts: int


def _verdict(noise: NoiseScale, batch_size: int) -> Verdict:
    if noise.num_measurements < MIN_MEASUREMENTS:
        return "unknown"
    if noise.low > _MARGIN * batch_size:
        return "too small"
    if _MARGIN * noise.high < batch_size:
        return "past the critical size"
    return "about right" if batch_size / _ABOUT <= noise.low and noise.high <= _ABOUT * batch_size else "unknown"


def _option(noise: NoiseScale, batch_size: int, new: int, use: _InUse) -> BatchSizeOption:
    steps = step_ratio(batch_size, new, noise_scale=noise.value)
    at_high = step_ratio(batch_size, new, noise_scale=noise.high) if math.isfinite(noise.high) else batch_size / new
    ends = (step_ratio(batch_size, new, noise_scale=noise.low), at_high)
    ratio = new / batch_size
    lr = _scaled_lr(noise, batch_size, new, use.lr, use.optimizer) if use.lr is not None else None
    written = lr if lr is None or use.lr_factor is None else lr / use.lr_factor(new)
    return BatchSizeOption(
        batch_size=new,
        steps=steps,
        steps_low=min(ends),
        steps_high=max(ends),
        samples=sample_ratio(batch_size, new, noise_scale=noise.value),
        time_low=steps * min(1.0, ratio),
        time_high=steps * max(1.0, ratio),
        lr=lr,
        lr_written=written,
    )


def _scaled_lr(noise: NoiseScale, batch_size: int, new: int, lr: float, optimizer: str) -> float:
    at = Reference(batch_size, lr)
    scaled = scaled_learning_rate(float(new), reference=at, rule="saturating", noise_batch_size=noise.value)
    return math.sqrt(lr * scaled) if default_rule(optimizer) == "sqrt" else scaled


def _certainty(
    noise: NoiseScale, batch_size: int, suggestion: BatchSizeOption | None, num_parts: int
) -> tuple[str, str]:
    width = noise.high / noise.low if noise.low > 0 else math.inf
    if width > 4:
        sure = "How sure: not very; the interval spans " + (
            f"a factor of {width:.0f}." if math.isfinite(width) else "everything above its lower end."
        )
        return sure, f"To be surer, {_longer(num_parts)}"
    sure = (
        f"How sure: the noise scale is measured to a factor of {width:.1f}, but predicts the critical batch size only "
        "to about an order of magnitude, and it grows during training."
    )
    size = suggestion.batch_size if suggestion is not None else 2 * batch_size
    return sure, (
        f"To be surer, train at {size} with two or three learning rates and compare at equal samples "
        "(`bsopt study run` does it), and measure the step time there (`bsopt probe`)."
    )


def _paragraph(
    noise: NoiseScale,
    batch_size: int,
    verdict: Verdict,
    option: BatchSizeOption,
    throughput: Throughput | None,
    use: _InUse,
) -> str:
    interval = f"{noise.low:.3g} to {noise.high:.3g}" if math.isfinite(noise.high) else f"above {noise.low:.3g}"
    speed = ""
    if throughput is not None and throughput.seconds_per_step is not None:
        speed = f" A step takes {1e3 * throughput.seconds_per_step:.3g} ms now"
        waits = throughput.data_share
        speed += f", {waits:.0%} of the time between batches: mend that first." if waits > 0.3 else "."
    lr = _what_to_write(option, use)
    return (
        f"Batch size advice: {batch_size} is {verdict}. The gradient noise scale is {noise.value:.3g} samples (95 % "
        f"interval {interval}, {noise.num_measurements} measurements). Going to {option.batch_size} would take about "
        f"{option.steps:.2g} times the steps and {option.samples:.2g} times the samples to the same loss; in time, "
        f"{option.time_low:.2g} to {option.time_high:.2g} times, by how much of the device is idle.{speed}{lr}"
    )


def _what_to_write(option: BatchSizeOption, use: _InUse) -> str:
    """Return which learning rate and batch size go where; empty where the learning rate in use isn't known."""
    if use.lr is None or option.lr is None or option.lr_written is None:
        return ""
    words = f" In use is a learning rate of {use.lr:.3g}; try one near {option.lr:.3g} there: "
    if use.lr_factor is None:
        words += f"write lr={option.lr_written:.3g} where the optimizer gets it"
    else:
        words += (
            f"write lr={option.lr_written:.3g} where the optimizer gets it, which LearningRateScaling multiplies by "
            f"{use.lr_factor(option.batch_size):.3g}"
        )
    size = option.batch_size / use.num_parts
    if use.num_parts == 1:
        return f"{words}, and batch_size={option.batch_size} in the DataLoader."
    if size >= 1 and size == int(size):
        return f"{words}, and batch_size={int(size)} in the DataLoader, of which {use.num_parts} make an update."
    return f"{words}, and a batch size of {option.batch_size} over all devices and accumulated batches."


def _unknown(noise: NoiseScale | None, batch_size: int, throughput: Throughput | None, num_parts: int) -> Advice:
    if noise is None:
        certainty = "nothing was measured."
    elif noise.covariance_trace <= 0:
        certainty = "the gradient's noise can't be told from zero."
    elif noise.num_measurements < MIN_MEASUREMENTS:
        count = "one measurement" if noise.num_measurements == 1 else f"{noise.num_measurements} measurements"
        certainty = f"{count} of the noise scale can't settle it; it takes at least {MIN_MEASUREMENTS}."
    elif math.isfinite(noise.high):
        certainty = f"the noise scale lies between {noise.low:.3g} and {noise.high:.3g} samples, which is too wide."
    elif noise.low > 0:
        certainty = f"the noise scale is probably above {noise.low:.3g} samples, and nothing more can be said."
    else:
        certainty = "the gradient's mean can't be told from its noise yet."
    next_step = _longer(num_parts).capitalize()
    return Advice(
        batch_size=batch_size,
        verdict="unknown",
        noise_scale=noise,
        suggestion=None,
        options=(),
        certainty=certainty,
        next_step=next_step,
        throughput=throughput,
        text=f"Batch size advice: can't tell yet whether {batch_size} is right: {certainty} {next_step}",
    )


def _longer(num_parts: int) -> str:
    """Say how to measure more: for longer and, where an update has one micro-batch only, from more of them."""
    return "train longer with this callback" + (", or accumulate two or more micro-batches." if num_parts == 1 else ".")
