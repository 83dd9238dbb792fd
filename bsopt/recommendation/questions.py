"""What people ask about batch sizes, answered from one study."""

from __future__ import annotations

import math

import optuna

from bsopt.laws.estimate import FitStatus
from bsopt.recommendation.costs import update_seconds
from bsopt.recommendation.evidence import Evidence, plan_or_none
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
    evidence = Evidence.of(study, fits=fits)
    return [
        _is_size_right(evidence),
        _what_of_quality(evidence),
        _what_of_time(evidence),
        _what_of_memory(evidence),
        _does_scaling_help(evidence),
        _which_rule(evidence),
        _what_of_devices(evidence),
        _what_of_batch_norm(evidence),
        _what_of_precision(evidence),
    ]


def _is_size_right(evidence: Evidence) -> Answer:
    question = "Is my batch size too large or too small?"
    if evidence.best is None or not evidence.is_fitted:
        return Answer(question, f"It can't be told yet: {evidence.fits.ridge.message}", "not measured")
    low, high = min(evidence.ties), max(evidence.ties)
    below, above = low > 1.01 * evidence.tried[0], high < 0.99 * evidence.tried[1]
    where = {(True, True): "below or above", (True, False): "below", (False, True): "above"}.get((below, above))
    words = f"From {low} to {high} the value is the best within noise; {where} it gets worse."
    if not below or not above:
        words += f" Nothing {'smaller' if not below else 'larger'} was tried."
    if low == high:
        words = f"Of the sizes tried, {low} is best beyond noise."
    if not below and not above:
        words = "Every batch size tried reaches the same value within noise, given its own learning rate."
    if evidence.fits.steps.status in (FitStatus.OK, FitStatus.NOT_IDENTIFIED):
        words += " " + evidence.fits.steps.message
    if evidence.fits.noise_scale is not None:
        words += (
            f" The gradient noise scale, good to a factor of ten, was {evidence.fits.noise_scale.value:.3g} samples."
        )
    return Answer(question, words, f"the fitted best value at each batch size, from {counted(evidence)}")


def _what_of_quality(evidence: Evidence) -> Answer:
    question = "What does the batch size do to accuracy?"
    low, high = (evidence.fits.ridge.predict(b) if evidence.is_fitted else None for b in evidence.tried)
    if low is None or high is None:
        return Answer(question, f"It can't be told yet: {evidence.fits.ridge.message}", "not measured")
    monitor = evidence.info.objective.monitor
    words = (
        f"At the best learning rate of each, {monitor} is {low.value.value:.4g} ({low.value.low:.4g} to "
        f"{low.value.high:.4g}) at batch size {low.batch_size:.0f} and {high.value.value:.4g} ({high.value.low:.4g} to "
        f"{high.value.high:.4g}) at {high.batch_size:.0f}."
    )
    return Answer(question, words, f"the fitted ridge, from {counted(evidence)}")


def _what_of_time(evidence: Evidence) -> Answer:
    question = "What does it do to time?"
    times = evidence.fits.step_time
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


def _what_of_memory(evidence: Evidence) -> Answer:
    memory = evidence.fits.memory
    basis = f"peak memory at {memory.num_points} micro-batch sizes" if memory.line else "not measured"
    return Answer("What does it do to memory?", memory.message, basis)


def _does_scaling_help(evidence: Evidence) -> Answer:
    question = "Does scaling the learning rate close the gap, and by how much?"
    low, high = (evidence.fits.ridge.predict(b) if evidence.is_fitted else None for b in evidence.tried)
    if low is None or high is None or evidence.tried[0] == evidence.tried[1]:
        return Answer(question, f"It can't be told yet: {evidence.fits.ridge.message}", "not measured")
    kept = [
        r.value
        for r in evidence.records
        if r.batch_size and r.lr and r.value is not None and r.outcome == "complete" and math.isfinite(r.value)
        and abs(math.log2(r.batch_size / evidence.tried[1])) <= 0.5 and abs(math.log2(r.lr / low.lr.value)) <= 1.0
    ]  # fmt: skip
    exponent = evidence.fits.ridge.exponent
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
    fixed = evidence.sign * (min(kept, key=lambda v: evidence.sign * v) - low.value.value)
    tuned = evidence.sign * (high.value.value - low.value.value)
    if fixed <= 2.0 * (evidence.fits.noise_sd or 0.0):
        words = (
            f"There is no gap beyond noise: {evidence.tried[1]:.0f} does as well at the smallest size's learning rate."
        )
    else:
        closed = min(1.0, 1.0 - max(tuned, 0.0) / fixed)
        words = (
            f"At learning rate {low.lr.value:.2g} batch size {evidence.tried[1]:.0f} is {fixed:.3g} worse than "
            f"{evidence.tried[0]:.0f}; at its own best, {high.lr.value:.2g}, {max(tuned, 0.0):.3g} worse: "
            f"{closed:.0%} of the gap closes."
        )
    return Answer(question, words + law, f"{len(kept)} trials at the unscaled learning rate and the fitted ridge")


def _which_rule(evidence: Evidence) -> Answer:
    question = "Which scaling rule holds here?"
    verdicts = evidence.fits.ridge.rules()
    if not evidence.is_fitted or not verdicts or evidence.fits.ridge.exponent is None:
        return Answer(question, f"It can't be told yet: {evidence.fits.ridge.message}", "not measured")
    exponent = evidence.fits.ridge.exponent
    names = {"linear": "the linear rule (1)", "sqrt": "the square-root rule (0.5)", "none": "a constant (0)"}
    fitting = [names[verdict.rule] for verdict in verdicts if verdict.is_compatible]
    others = [names[verdict.rule] for verdict in verdicts if not verdict.is_compatible]
    words = f"The best learning rate grows as B^{exponent.value:.2g} (90 %: {exponent.low:.2g} to {exponent.high:.2g})."
    words += f" That agrees with {_listed(fitting)}." if fitting else " None of the published rules says so."
    words += f" It rules out {_listed(others)}." if fitting and others else ""
    return Answer(question, words, f"the fitted ridge, from {counted(evidence)}")


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100.0 else f"{value:.3g}"


def _what_of_devices(evidence: Evidence) -> Answer:
    question = "What would more GPUs change?"
    size = evidence.best.batch_size if evidence.best else None
    if size is None or evidence.fits.communication.status is FitStatus.TOO_FEW:
        return Answer(question, evidence.fits.communication.message, "not measured")
    parts = []
    for devices in (1, 2, 4, 8):
        plan = plan_or_none(evidence, size, devices, 1)
        seconds = update_seconds(evidence.fits, plan) if plan is not None else None
        if plan is not None and seconds is not None and plan.global_batch_size == size:
            parts.append(f"{devices}: {duration(seconds)}")
    words = (
        f"An update of batch size {size} takes, by devices, {'; '.join(parts)}."
        if parts
        else evidence.fits.communication.message
    )
    return Answer(question, words, evidence.fits.communication.message if parts else "not measured")


def _what_of_batch_norm(evidence: Evidence) -> Answer:
    question = "Does BatchNorm mind?"
    micros = [r.plan.micro_batch_size if r.plan else r.batch_size for r in evidence.records]
    small = min((m for m in micros if m), default=None)
    if evidence.info.has_batch_norm is None:
        return Answer(question, "It isn't known whether the model has BatchNorm layers.", "not measured")
    if not evidence.info.has_batch_norm:
        return Answer(question, "No: the model has no BatchNorm layers.", "the model's layers")
    if small is not None and small < SMALL_BATCH_NORM:
        return Answer(question, batch_norm_warning(small), "the model's layers and the smallest micro-batch run")
    return Answer(question, f"No: no micro-batch was under {SMALL_BATCH_NORM}.", "the model's layers and the plans run")


def _what_of_precision(evidence: Evidence) -> Answer:
    question = "What would mixed precision free?"
    used = {r.precision for r in evidence.records if r.precision}
    per_sample = evidence.fits.memory.bytes_per_sample
    if used and not any(p.startswith("32") for p in used):
        return Answer(question, f"The trials already ran in {', '.join(sorted(used))}.", "the trials' precision")
    if per_sample is None:
        return Answer(question, "Memory per sample wasn't measured, so it can't be told.", "not measured")
    words = (
        f"About half of the activations' {per_sample.value / 2**20:.3g} MiB per sample, so a micro-batch up to twice "
        "as large; weights and optimizer state stay in 32 bits."
    )
    return Answer(question, words, "the fitted memory per sample and the width of 16-bit numbers; not run")
