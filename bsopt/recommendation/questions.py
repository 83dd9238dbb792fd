"""What people ask about batch sizes, answered from one study."""

from __future__ import annotations

import math

from bsopt.laws.direction import possible_range
from bsopt.laws.estimate import Estimate, FitStatus
from bsopt.laws.lr_ridge import LrPrediction
from bsopt.recommendation.costs import update_seconds
from bsopt.recommendation.evidence import Evidence
from bsopt.recommendation.result import Answer, SizeState
from bsopt.recommendation.sentences import SMALL_BATCH_NORM, batch_norm_warning, counted, duration, with_interval
from bsopt.units import count_of, digits_telling, format_number, in_words

__all__ = ["answers"]

_NOT_MEASURED = "not measured"
_STANDINGS = {
    (SizeState.TESTED,): "Tested to be as good",
    (SizeState.SUPPORTED,): "As good by their neighbours, untested",
    (SizeState.WORSE,): "Worse",
    (SizeState.OPEN, SizeState.NOT_TESTED): "Not known yet",
}


def answers(evidence: Evidence) -> list[Answer]:
    """Return the questions that people ask about batch sizes, answered from the study's own data."""
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


def _not_yet(question: str, evidence: Evidence) -> Answer:
    if evidence.num_objectives > 1:
        return Answer(question, "It can't be told in a study of several objectives.", _NOT_MEASURED)
    return Answer(question, f"It can't be told yet: {evidence.fits.ridge.message}", _NOT_MEASURED)


def _of_one_size(question: str, evidence: Evidence) -> Answer:
    words = f"It can't be told yet: all trials ran at batch size {evidence.tried[0]:.0f}."
    return Answer(question, words, _NOT_MEASURED)


def _ends(evidence: Evidence) -> tuple[LrPrediction, LrPrediction] | None:
    """Return what is best at the smallest and at the largest batch size tried; None without a fit."""
    low, high = (evidence.fits.ridge.predict(size) if evidence.is_fitted else None for size in evidence.tried)
    return (low, high) if low is not None and high is not None else None


def _is_size_right(evidence: Evidence) -> Answer:
    question = "Is my batch size too large or too small?"
    if evidence.best is None or not evidence.is_fitted:
        return _not_yet(question, evidence)
    words = f"Of the sizes tried, {evidence.best_size} is recommended."
    for state, what in _STANDINGS.items():
        sizes = [f.batch_size for f in evidence.findings if f.state in state and f.batch_size != evidence.best_size]
        if sizes:
            words += f" {what}: {in_words(sizes)}."
    words += _critical(evidence)
    scale = evidence.fits.noise_scale
    if scale is not None:
        words += f" The gradient noise scale, good to a factor of ten, was {scale.value:.3g} samples."
    return Answer(question, words, f"the fitted best value at each batch size, from {counted(evidence)}")


def _critical(evidence: Evidence) -> str:
    """Return what is known of the critical batch size, and to which value; empty where nothing is."""
    steps, objective = evidence.fits.steps, evidence.info.objective
    if steps.target is None or steps.status not in (FitStatus.OK, FitStatus.NOT_IDENTIFIED):
        return ""
    apart = "" if objective.target is not None else ", which tells the batch sizes apart"
    return f" {steps.message} That is on the way to {objective.monitor} {steps.target:.4g}{apart}."


def _what_of_quality(evidence: Evidence) -> Answer:
    question = "What does the batch size do to accuracy?"
    ends = _ends(evidence)
    if ends is None:
        return _not_yet(question, evidence)
    if evidence.tried[0] == evidence.tried[1]:
        return _of_one_size(question, evidence)
    is_sure = evidence.fits.run_sd is not None
    perfect, sign = evidence.perfect_value, evidence.info.objective.sign
    values = [end.value.within(*possible_range(perfect, end.value.high, sign=sign)) for end in ends]
    digits = digits_telling(*sorted(value.value for value in values))
    low, high = (
        with_interval(value if is_sure else Estimate(value.value, -math.inf, math.inf), digits=digits)
        for value in values
    )
    beyond = [f"{end.batch_size:.0f}" for end in ends if end.beyond is not None]
    rates = "At the best of the learning rates that were tried" if beyond else "At the best learning rate of each"
    words = (
        f"{rates}, {evidence.info.objective.monitor} is {low} at batch size "
        f"{ends[0].batch_size:.0f} and {high} at {ends[1].batch_size:.0f}."
    )
    if beyond:
        words += f" A better one may lie beyond them for {in_words(beyond)}."
    return Answer(question, words, f"the fitted ridge, from {counted(evidence)}")


def _what_of_time(evidence: Evidence) -> Answer:
    question = "What does it do to time?"
    times = evidence.fits.step_time
    smallest, largest = times.tried_low, times.tried_high
    if smallest is None or largest is None:
        return Answer(question, times.message, _NOT_MEASURED)
    slow, fast = times.samples_per_second(smallest), times.samples_per_second(largest)
    if slow is None or fast is None:
        return Answer(question, times.message, _NOT_MEASURED)
    words = (
        f"A device trains {_rate(slow.value)} samples per second at a micro-batch of {smallest:.0f} and "
        f"{_rate(fast.value)} at {largest:.0f}, {fast.value / slow.value:.2g} times as many."
    )
    return Answer(question, words, f"measured step times at {times.num_points} micro-batch sizes")


def _what_of_memory(evidence: Evidence) -> Answer:
    memory = evidence.fits.memory
    basis = f"peak memory at {memory.num_points} micro-batch sizes" if memory.line else _NOT_MEASURED
    return Answer("What does it do to memory?", memory.message, basis)


def _does_scaling_help(evidence: Evidence) -> Answer:
    question = "Does scaling the learning rate close the gap, and by how much?"
    ends, (smallest, largest) = _ends(evidence), evidence.tried
    if ends is None:
        return _not_yet(question, evidence)
    if smallest == largest:
        return _of_one_size(question, evidence)
    low, high = ends
    law = _growth(evidence, " The best learning rate grows as B^{power} (90 %: {interval}).")
    unscaled = _values_near(evidence, largest, low.lr.value)
    if not unscaled:
        words = "No trial ran the largest batch size at the smallest one's learning rate, so the gap wasn't measured."
        return Answer(question, words + law, _NOT_MEASURED)
    sign = evidence.info.objective.sign
    loss_unscaled = min(sign * value for value in unscaled) - sign * low.value.value
    loss_scaled = max(sign * (high.value.value - low.value.value), 0.0)
    if loss_unscaled <= 2.0 * (evidence.fits.noise_sd or 0.0):
        words = f"There is no gap beyond noise: {largest:.0f} does as well at the smallest size's learning rate."
    else:
        words = (
            f"At learning rate {low.lr.value:.2g} batch size {largest:.0f} is {loss_unscaled:.3g} worse than "
            f"{smallest:.0f}; at its own best, {high.lr.value:.2g}, {loss_scaled:.3g} worse: "
            f"{max(0.0, 1.0 - loss_scaled / loss_unscaled):.0%} of the gap closes."
        )
    return Answer(
        question, words + law, f"{count_of(len(unscaled), 'trial')} at the unscaled learning rate and the fitted ridge"
    )


def _values_near(evidence: Evidence, size: float, lr: float) -> list[float]:
    """Return the values of complete trials within half an octave of a batch size and an octave of a learning rate."""
    return [
        record.value
        for record in evidence.records
        if record.outcome == "complete"
        and (record.value is not None and math.isfinite(record.value))
        and (record.batch_size and abs(math.log2(record.batch_size / size)) <= 0.5)
        and (record.lr and abs(math.log2(record.lr / lr)) <= 1.0)
    ]


def _which_rule(evidence: Evidence) -> Answer:
    question = "Which scaling rule holds here?"
    if not evidence.is_fitted:
        return _not_yet(question, evidence)
    verdicts, (smallest, largest) = evidence.fits.ridge.rules(), evidence.tried
    if not verdicts and largest < 2.0 * smallest:
        words = "that takes batch sizes a factor of two apart."
        return Answer(question, f"It can't be told yet: {words}", _NOT_MEASURED)
    if evidence.fits.ridge.is_flat:
        words = "learning rates so far apart are as good that each rule's may do."
        return Answer(question, f"None can be ruled out: {words}", f"the fitted ridge, from {counted(evidence)}")
    if not verdicts:
        words = "at most batch sizes the best learning rate lies at the edge of the rates that were tried."
        return Answer(question, f"It can't be told yet: {words}", _NOT_MEASURED)
    names = {"linear": "the linear rule (1)", "sqrt": "the square-root rule (0.5)", "none": "a constant (0)"}
    fitting = [names[verdict.rule] for verdict in verdicts if verdict.is_compatible]
    others = [names[verdict.rule] for verdict in verdicts if not verdict.is_compatible]
    words = _growth(evidence, "The best learning rate grows as B^{power} (90 %: {interval}).")
    words += f" That agrees with {in_words(fitting)}." if fitting else ""
    words += f" It rules out {in_words(others)}." if others else ""
    return Answer(question, words, f"the fitted ridge, from {counted(evidence)}")


def _growth(evidence: Evidence, words: str) -> str:
    """Return words with the ridge's exponent put in; empty where it isn't known."""
    exponent = evidence.fits.ridge.exponent
    if exponent is None:
        return ""
    return words.format(power=f"{exponent.value:.2g}", interval=f"{exponent.low:.2g} to {exponent.high:.2g}")


def _what_of_devices(evidence: Evidence) -> Answer:
    question = "What would more GPUs change?"
    size, communication = evidence.best.batch_size if evidence.best else None, evidence.fits.communication
    if size is None or communication.status is FitStatus.TOO_FEW:
        return Answer(question, communication.message, _NOT_MEASURED)
    parts = []
    for devices in (1, 2, 4, 8):
        plan = evidence.plan_or_none(size, devices, 1)
        seconds = update_seconds(evidence.fits, plan) if plan is not None else None
        if plan is not None and seconds is not None and plan.global_batch_size == size:
            parts.append(f"{devices}: {duration(seconds)}")
    if not parts:
        return Answer(question, communication.message, _NOT_MEASURED)
    words = f"An update of batch size {size} takes, by devices, {'; '.join(parts)}."
    return Answer(question, words, communication.message)


def _what_of_batch_norm(evidence: Evidence) -> Answer:
    question = "Does BatchNorm mind?"
    sizes = [record.plan.micro_batch_size if record.plan else record.batch_size for record in evidence.records]
    small = min((size for size in sizes if size), default=None)
    if evidence.info.has_batch_norm is None:
        return Answer(question, "It isn't known whether the model has BatchNorm layers.", _NOT_MEASURED)
    if not evidence.info.has_batch_norm:
        return Answer(question, "No: the model has no BatchNorm layers.", "the model's layers")
    if small is not None and small < SMALL_BATCH_NORM:
        return Answer(question, batch_norm_warning(small), "the model's layers and the smallest micro-batch run")
    return Answer(question, f"No: no micro-batch was under {SMALL_BATCH_NORM}.", "the model's layers and the plans run")


def _what_of_precision(evidence: Evidence) -> Answer:
    question = "What would mixed precision free?"
    used = sorted({record.precision for record in evidence.records if record.precision})
    per_sample = evidence.fits.memory.bytes_per_sample
    if used and not any(precision.startswith("32") for precision in used):
        return Answer(question, f"The trials already ran in {', '.join(used)}.", "the trials' precision")
    if per_sample is None:
        return Answer(question, "Memory per sample wasn't measured, so it can't be told.", _NOT_MEASURED)
    words = (
        f"About half of the activations' {per_sample.value / 2**20:.3g} MiB per sample, so a micro-batch up to twice "
        "as large; weights and optimizer state stay in 32 bits."
    )
    return Answer(question, words, "the fitted memory per sample and the width of 16-bit numbers; not run")


def _rate(value: float) -> str:
    return format_number(value, digits=3, thousands=True)
