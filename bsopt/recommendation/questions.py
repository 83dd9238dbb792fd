"""What people ask about batch sizes, answered from one study."""

from __future__ import annotations

import math

import optuna

from bsopt.laws.estimate import FitStatus
from bsopt.recommendation.costs import update_seconds
from bsopt.recommendation.evidence import Desk, plan_or_none
from bsopt.recommendation.fits import Fits
from bsopt.recommendation.result import SMALL_BATCH_NORM, Answer
from bsopt.recommendation.sentences import batch_norm_warning, counted, duration

__all__ = ["answers"]


def answers(study: optuna.Study, *, fits: Fits | None = None) -> list[Answer]:
    """Return the questions that people ask about batch sizes, answered from the study's own data.

    Args:
        study: Any study that `recommend` takes.
        fits: Its fitted laws, where they are at hand.
    """
    desk = Desk.of(study, fits=fits)
    return [
        _is_size_right(desk),
        _what_of_quality(desk),
        _what_of_time(desk),
        _what_of_memory(desk),
        _does_scaling_help(desk),
        _which_rule(desk),
        _what_of_devices(desk),
        _what_of_batch_norm(desk),
        _what_of_precision(desk),
    ]


def _is_size_right(desk: Desk) -> Answer:
    question = "Is my batch size too large or too small?"
    if desk.best is None or not desk.is_fitted:
        return Answer(question, f"It can't be told yet: {desk.fits.ridge.message}", "not measured")
    low, high = min(desk.ties), max(desk.ties)
    below, above = low > 1.01 * desk.tried[0], high < 0.99 * desk.tried[1]
    where = {(True, True): "below or above", (True, False): "below", (False, True): "above"}.get((below, above))
    words = f"From {low} to {high} the value is the best within noise; {where} it gets worse."
    if not below or not above:
        words += f" Nothing {'smaller' if not below else 'larger'} was tried."
    if low == high:
        words = f"Of the sizes tried, {low} is best beyond noise."
    if not below and not above:
        words = "Every batch size tried reaches the same value within noise, given its own learning rate."
    if desk.fits.steps.status in (FitStatus.OK, FitStatus.NOT_IDENTIFIED):
        words += " " + desk.fits.steps.message
    if desk.fits.noise_scale is not None:
        words += f" The gradient noise scale, good to a factor of ten, was {desk.fits.noise_scale.value:.3g} samples."
    return Answer(question, words, f"the fitted best value at each batch size, from {counted(desk)}")


def _what_of_quality(desk: Desk) -> Answer:
    question = "What does the batch size do to accuracy?"
    low, high = (desk.fits.ridge.predict(b) if desk.is_fitted else None for b in desk.tried)
    if low is None or high is None:
        return Answer(question, f"It can't be told yet: {desk.fits.ridge.message}", "not measured")
    words = (
        f"At the best learning rate of each, {desk.info.monitor} is {low.value.value:.4g} ({low.value.low:.4g} to "
        f"{low.value.high:.4g}) at batch size {low.batch_size:.0f} and {high.value.value:.4g} ({high.value.low:.4g} to "
        f"{high.value.high:.4g}) at {high.batch_size:.0f}."
    )
    return Answer(question, words, f"the fitted ridge, from {counted(desk)}")


def _what_of_time(desk: Desk) -> Answer:
    question = "What does it do to time?"
    times = desk.fits.step_time
    if times.tried_low is None or times.tried_high is None:
        return Answer(question, times.message, "not measured")
    low, high = (times.samples_per_second(b) for b in (times.tried_low, times.tried_high))
    if low is None or high is None:
        return Answer(question, times.message, "not measured")
    words = (
        f"A device trains {_rate(low.value)} samples per second at a micro-batch of {times.tried_low:.0f} and "
        f"{_rate(high.value)} at {times.tried_high:.0f}, {high.value / low.value:.2g} times as many."
    )
    return Answer(question, words, f"measured step times at {times.num_points} micro-batch sizes")


def _what_of_memory(desk: Desk) -> Answer:
    memory = desk.fits.memory
    basis = f"peak memory at {memory.num_points} micro-batch sizes" if memory.line else "not measured"
    return Answer("What does it do to memory?", memory.message, basis)


def _does_scaling_help(desk: Desk) -> Answer:
    question = "Does scaling the learning rate close the gap, and by how much?"
    low, high = (desk.fits.ridge.predict(b) if desk.is_fitted else None for b in desk.tried)
    if low is None or high is None or desk.tried[0] == desk.tried[1]:
        return Answer(question, f"It can't be told yet: {desk.fits.ridge.message}", "not measured")
    kept = [
        r.value
        for r in desk.records
        if r.batch_size and r.lr and r.value is not None and r.outcome == "complete" and math.isfinite(r.value)
        and abs(math.log2(r.batch_size / desk.tried[1])) <= 0.5 and abs(math.log2(r.lr / low.lr.value)) <= 1.0
    ]  # fmt: skip
    exponent = desk.fits.ridge.exponent
    law = (
        f" The best learning rate grows as B^{exponent.value:.2g} ({exponent.low:.2g} to {exponent.high:.2g})."
        if exponent
        else ""
    )
    if not kept:
        words = (
            f"No trial ran the largest batch size at the smallest one's learning rate, so the gap wasn't measured.{law}"
        )
        return Answer(question, words, "not measured")
    fixed = desk.sign * (min(kept, key=lambda v: desk.sign * v) - low.value.value)
    tuned = desk.sign * (high.value.value - low.value.value)
    if fixed <= 2.0 * (desk.fits.noise_sd or 0.0):
        words = f"There is no gap beyond noise: {desk.tried[1]:.0f} does as well at the smallest size's learning rate."
    else:
        closed = min(1.0, 1.0 - max(tuned, 0.0) / fixed)
        words = (
            f"At learning rate {low.lr.value:.2g} batch size {desk.tried[1]:.0f} is {fixed:.3g} worse than "
            f"{desk.tried[0]:.0f}; at its own best, {high.lr.value:.2g}, {max(tuned, 0.0):.3g} worse: "
            f"{closed:.0%} of the gap closes."
        )
    return Answer(question, words + law, f"{len(kept)} trials at the unscaled learning rate and the fitted ridge")


def _which_rule(desk: Desk) -> Answer:
    question = "Which scaling rule holds here?"
    verdicts = desk.fits.ridge.rules()
    if not desk.is_fitted or not verdicts or desk.fits.ridge.exponent is None:
        return Answer(question, f"It can't be told yet: {desk.fits.ridge.message}", "not measured")
    exponent = desk.fits.ridge.exponent
    names = {"linear": "the linear rule (1)", "sqrt": "the square-root rule (0.5)", "none": "a constant (0)"}
    fitting = [names[verdict.rule] for verdict in verdicts if verdict.is_compatible]
    others = [names[verdict.rule] for verdict in verdicts if not verdict.is_compatible]
    words = f"The best learning rate grows as B^{exponent.value:.2g} (90 %: {exponent.low:.2g} to {exponent.high:.2g})."
    words += f" That agrees with {_listed(fitting)}." if fitting else " None of the published rules says so."
    words += f" It rules out {_listed(others)}." if fitting and others else ""
    return Answer(question, words, f"the fitted ridge, from {counted(desk)}")


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100.0 else f"{value:.3g}"


def _what_of_devices(desk: Desk) -> Answer:
    question = "What would more GPUs change?"
    size = desk.best.batch_size if desk.best else None
    if size is None or desk.fits.communication.status is FitStatus.TOO_FEW:
        return Answer(question, desk.fits.communication.message, "not measured")
    parts = []
    for devices in (1, 2, 4, 8):
        plan = plan_or_none(desk, size, devices, 1)
        seconds = update_seconds(desk.fits, plan) if plan is not None else None
        if plan is not None and seconds is not None and plan.global_batch_size == size:
            parts.append(f"{devices}: {duration(seconds)}")
    words = (
        f"An update of batch size {size} takes, by devices, {'; '.join(parts)}."
        if parts
        else desk.fits.communication.message
    )
    return Answer(question, words, desk.fits.communication.message if parts else "not measured")


def _what_of_batch_norm(desk: Desk) -> Answer:
    question = "Does BatchNorm mind?"
    micros = [r.plan.micro_batch_size if r.plan else r.batch_size for r in desk.records]
    small = min((m for m in micros if m), default=None)
    if desk.info.has_batch_norm is None:
        return Answer(question, "It isn't known whether the model has BatchNorm layers.", "not measured")
    if not desk.info.has_batch_norm:
        return Answer(question, "No: the model has no BatchNorm layers.", "the model's layers")
    if small is not None and small < SMALL_BATCH_NORM:
        return Answer(question, batch_norm_warning(small), "the model's layers and the smallest micro-batch run")
    return Answer(question, f"No: no micro-batch was under {SMALL_BATCH_NORM}.", "the model's layers and the plans run")


def _what_of_precision(desk: Desk) -> Answer:
    question = "What would mixed precision free?"
    used = {r.precision for r in desk.records if r.precision}
    per_sample = desk.fits.memory.bytes_per_sample
    if used and not any(p.startswith("32") for p in used):
        return Answer(question, f"The trials already ran in {', '.join(sorted(used))}.", "the trials' precision")
    if per_sample is None:
        return Answer(question, "Memory per sample wasn't measured, so it can't be told.", "not measured")
    words = (
        f"About half of the activations' {per_sample.value / 2**20:.3g} MiB per sample, so a micro-batch up to twice "
        "as large; weights and optimizer state stay in 32 bits."
    )
    return Answer(question, words, "the fitted memory per sample and the width of 16-bit numbers; not run")
