"""The sentences of an answer."""

from __future__ import annotations

import math
from typing import cast

from bsopt.laws.estimate import Estimate, FitStatus
from bsopt.recommendation.costs import update_seconds
from bsopt.recommendation.evidence import Evidence
from bsopt.recommendation.fits import NOISE_TRIALS
from bsopt.recommendation.result import Choice, Goal, SizeState
from bsopt.trial.plan import Plan
from bsopt.trial.record import TrialRecord
from bsopt.units import count_of, digits_telling, format_number, in_words

__all__ = [
    "SMALL_BATCH_NORM",
    "batch_norm_warning",
    "caveats",
    "counted",
    "devices_in_words",
    "duration",
    "energy",
    "known_from",
    "no_answer",
    "of_front",
    "sentence",
    "to_what",
    "where",
    "why_missing",
    "with_interval",
]

SMALL_BATCH_NORM = 16
"""Micro-batch below which BatchNorm's statistics are noisy."""
BUDGET_EXPONENT = 0.65
"""B_best ∝ budget^0.65: 128 to 1,024 sequences from 4 to 100 B tokens (a 215 M language model; FACTS of step laws)."""
EDGE_FACTOR = 1.3
"""A learning rate within this factor of an end of its range lies at the edge."""

_CLAIMS: dict[Goal, str] = {
    "quality": "",
    "largest": " is the largest that was tested to be as good as the best",
    "fastest": " is fastest",
    "cheapest": " is cheapest",
    "frugal": " takes the least energy",
    "asked": "",
}


def no_answer(evidence: Evidence) -> str:
    """Return why there is nothing to recommend."""
    if not evidence.records:
        return "No trial has run yet, so there is no answer."
    if evidence.unknown:
        return evidence.unknown
    if len(evidence.records) == 1:
        return "The only trial hasn't ended with a finite value, so there is no answer yet."
    return f"None of {len(evidence.records)} trials ended with a finite value, so there is no answer yet."


def of_front(evidence: Evidence) -> str:
    """Return what can be said of a study of several objectives."""
    sizes = sorted({point.batch_size for point in evidence.front})
    span = f"batch size {sizes[0]}" if len(sizes) == 1 else f"batch sizes {sizes[0]} to {sizes[-1]}"
    return (
        f"With {evidence.num_objectives} objectives there is no single best batch size: "
        f"{count_of(len(evidence.front), 'trial')} at {span} can't be beaten in all of them."
    )


def sentence(evidence: Evidence, choice: Choice) -> str:
    """Return the choice with its uncertainty, and what was tested to be as good."""
    head = f"Batch size {choice.batch_size} with learning rate {choice.lr.value:.2g}"
    rate = f" (90 %: {choice.lr.low:.2g} to {choice.lr.high:.2g})" if math.isfinite(choice.lr.high) else ""
    if choice.goal == "asked":
        return f"{head}{rate}: {_standing(evidence, choice)}."
    if not evidence.is_fitted:
        best = cast(TrialRecord, evidence.best)
        value = f"{_value_name(evidence)} {cast(float, best.value):.4g}"
        if best.outcome != "complete":
            return f"{head} was the best so far when it was stopped early ({value}): no trial has run to its end yet."
        say = "are too few to say" if _are_few(evidence) else "don't say"
        if evidence.all_alike:
            return f"{head} ended at {value}, as every one of {counted(evidence)} did, which {say} what is best."
        return f"{head} is the best of {counted(evidence)} ({value}), which {say} how sure that is."
    expected = f": expect {_value_name(evidence)} {with_interval(choice.value)}" if choice.value else ""
    tied = f"; {_tied(evidence, choice)}" if choice.goal == "quality" else ""
    return f"{head}{rate}{_CLAIMS[choice.goal]}{expected}, from {counted(evidence)}{tied}."


def caveats(evidence: Evidence, choice: Choice) -> tuple[str, ...]:
    """Return what to know before trusting a choice, a sentence each."""
    info, fits = evidence.info, evidence.fits
    found = []
    if fits.ridge.status is not FitStatus.OK or fits.ridge.is_flat:
        found.append(fits.ridge.message)
    found += _edges(evidence, choice)
    found += _further(evidence)
    if info.has_batch_norm and choice.plan.micro_batch_size < SMALL_BATCH_NORM:
        found.append(batch_norm_warning(choice.plan.micro_batch_size))
    target = info.objective.target
    if target is not None and evidence.target is None and fits.target_runs:
        found.append(
            f"Times and costs are over the budget: those to {info.objective.monitor} {target:.4g} can't be told. "
            + fits.steps.message
        )
    if evidence.is_fitted and fits.run_sd is None:
        found.append(
            f"How far one more run may end from the expected value isn't known: {counted(evidence)}, none repeated "
            "often enough, don't tell the noise between seeds."
        )
    elif fits.repeats_agree:
        found.append(
            "Repeated settings gave the very same values, which tells nothing of the noise between seeds, unless there "
            "is none: confirm the finalists over other seeds."
        )
    elif not fits.noise_is_repeated:
        found.append("No setting was repeated often enough to know the noise between seeds: confirm the finalists.")
    found += _other_budget(evidence)
    return tuple(found)


def why_missing(evidence: Evidence, goal: Goal) -> str:
    """Return why there is no choice for a goal, on the devices asked about."""
    fits = evidence.fits
    if goal == "largest" and evidence.is_fitted:
        there = devices_in_words(evidence.num_devices, evidence.num_nodes)
        return f"No batch size that was tested to be as good as the best can be trained on {there}."
    if goal == "largest":
        return f"No larger batch size can be told to be as good: {fits.ridge.message}"
    if goal == "frugal" and not fits.power.num_points:
        return "No trial measured its energy or power."
    if fits.step_time.status is FitStatus.TOO_FEW and not fits.step_time.num_points:
        return "No trial measured how long an update takes."
    if fits.step_time.status in (FitStatus.TOO_FEW, FitStatus.CONTRADICTORY):
        return f"Times can't be predicted: {fits.step_time.message}"
    asked = evidence.num_devices * evidence.num_nodes
    if asked != fits.step_time_world and not fits.communication.covers(evidence.num_devices, evidence.num_nodes):
        return (
            f"Times on {devices_in_words(evidence.num_devices, evidence.num_nodes)} can't be predicted: "
            f"{fits.communication.message} --bandwidth stands in for a measurement."
        )
    if evidence.target is None and evidence.budget_samples is None:
        return "How many samples a training takes isn't known: --budget or --target says it."
    which = "" if evidence.target is not None else " of those tested to be as good"
    there = devices_in_words(evidence.num_devices, evidence.num_nodes)
    return f"What it takes isn't known of any batch size{which} that can be trained on {there}."


def batch_norm_warning(micro_batch_size: int) -> str:
    """Return what a small micro-batch does to BatchNorm, and the ways out."""
    return (
        f"BatchNorm over a micro-batch of {micro_batch_size} is noisy (under {SMALL_BATCH_NORM}): accumulate less, use "
        "SyncBatchNorm across devices, or GroupNorm instead."
    )


def counted(evidence: Evidence) -> str:
    """Return what the laws rest on: "12 complete trials"."""
    return count_of(evidence.fits.num_complete, "complete trial")


def where(plan: Plan) -> str:
    """Return a plan's placement: "8 devices", "2 nodes of 8 devices"."""
    return devices_in_words(plan.num_devices, plan.num_nodes)


def devices_in_words(num_devices: int, num_nodes: int) -> str:
    """Return a placement: "8 devices", "2 nodes of 8 devices"."""
    devices = count_of(num_devices, "device")
    return devices if num_nodes == 1 else f"{num_nodes} nodes of {devices}"


def to_what(evidence: Evidence) -> str:
    """Return what times and costs are to: "to val_loss 0.35", "over the budget"."""
    if evidence.target is None:
        return "over the budget"
    return f"to {evidence.info.objective.monitor} {evidence.target:.4g}"


def duration(seconds: Estimate) -> str:
    """Return a time with its interval, in the one unit that suits it."""
    size, unit = (3600.0, "h") if seconds.value >= 5400 else (60.0, "min") if seconds.value >= 90 else (1.0, "s")
    return _in_unit(seconds.scaled(1.0 / size), unit)


def known_from(evidence: Evidence, plan: Plan) -> str:
    """Return what an update takes on several devices, and whether that was measured there or what it is told from."""
    fits, place = evidence.fits, where(plan)
    update = update_seconds(fits, plan)
    if update is None:
        is_covered = fits.communication.covers(plan.num_devices, plan.num_nodes)
        why = fits.step_time.message if is_covered else fits.communication.message
        return f"What an update takes on {place} isn't known: {why}"
    took = f"An update takes {_milliseconds(update)} on {place}"
    if fits.measured_update(plan) is not None:
        return f"{took}, as measured there."
    if fits.step_time_world == plan.world_size:
        return f"{took}, by the law of steps measured on as many devices."
    return f"{took}: predicted, not measured there. {fits.communication.message}"


def _milliseconds(seconds: Estimate) -> str:
    value, low, high = (1e3 * part for part in (seconds.value, seconds.low, seconds.high))
    return f"{value:.3g} ms (90 %: {low:.3g} to {high:.3g})"


def energy(joules: Estimate) -> str:
    """Return an energy with its interval, in the one unit that suits it."""
    size, unit = (3.6e6, "kWh") if joules.value >= 3.6e6 else (3600.0, "Wh") if joules.value >= 360 else (1.0, "J")
    return _in_unit(joules.scaled(1.0 / size), unit)


def _in_unit(amount: Estimate, unit: str) -> str:
    if not amount.low < amount.high:
        return f"{amount.value:.3g} {unit}"
    return f"{amount.value:.3g} {unit} (90 %: {amount.low:.3g} to {amount.high:.3g})"


def _are_few(evidence: Evidence) -> bool:
    """Return whether an answer without a fit lacks trials, and not what they tell."""
    return evidence.fits.num_complete < NOISE_TRIALS


def _value_name(evidence: Evidence) -> str:
    objective = evidence.info.objective
    return objective.monitor if objective.cost is None else f"{objective.cost} to the target"


def _standing(evidence: Evidence, choice: Choice) -> str:
    """Return how a batch size that was asked for stands beside the best one."""
    best, found = evidence.best_size, evidence.finding(choice.batch_size)
    ran = count_of(found.num_complete, "complete trial") if found is not None else "no trial"
    if found is None or not found.num_complete:
        words = f"no trial ran to its end there; the best of {counted(evidence)} is at {evidence.best_size}"
        expected = choice.value if evidence.is_fitted else None
        return words + (f", and the law expects {_value_name(evidence)} {with_interval(expected)}" if expected else "")
    if choice.batch_size == best:
        return f"it is the best of all tried, from {ran} there"
    if not evidence.is_fitted:
        why = "too few to compare it with" if _are_few(evidence) else "they don't say how it compares with"
        return f"{ran} there, of {counted(evidence)} in all: {why} {best}, the best trial's"
    words = {
        SizeState.TESTED: f"it was tested to be as good as {best}, to {evidence.margin:.2g}",
        SizeState.WORSE: f"it is worse than {best}",
    }.get(found.state, f"whether it is as good as {best} can't be told yet")
    if found.state is SizeState.OPEN and not found.is_tuned:
        words += ", without a trial near its best learning rate"
    gap = f", by {with_interval(found.gap, digits=2)}" if found.gap and found.state is SizeState.WORSE else ""
    return f"{words}{gap}, from {ran} there"


def _tied(evidence: Evidence, choice: Choice) -> str:
    """Return which other batch sizes are as good as the best, and which can't be told."""
    others = [size for size in evidence.ties if size != choice.batch_size]
    if others:
        verb = "was" if len(others) == 1 else "were"
        return f"{in_words(others)} {verb} tested to be as good, to {evidence.margin:.2g}"
    is_open = [found.batch_size for found in evidence.findings if found.state is SizeState.OPEN]
    if is_open:
        return f"whether {in_words(is_open, last='or')} is as good can't be told yet"
    if evidence.tried[0] == evidence.tried[1]:
        return "no other batch size was tried"
    return "no other batch size was tested to be as good"


def with_interval(value: Estimate, *, digits: int = 4) -> str:
    """Return a value with its interval where that is bounded, with at least so many digits as tell its ends apart."""
    if not value.is_bounded:
        return f"{value.value:.{digits}g}"
    digits = digits_telling(value.low, value.high, digits=digits)
    return f"{value.value:.{digits}g} (90 %: {value.low:.{digits}g} to {value.high:.{digits}g})"


def _further(evidence: Evidence) -> list[str]:
    """Return what a study searches beside batch size and learning rate, in a sentence."""
    best = evidence.best
    further = best.further if best is not None else {}
    told = [
        f"{name} {format_number(value, digits=3) if isinstance(value, float) else value}"
        for name, value in further.items()
    ]
    number = best.number if best is not None else None
    return [f"The further parameters are those of trial {number}, the best: {in_words(told)}."] if told else []


def _edges(evidence: Evidence, choice: Choice) -> list[str]:
    found: list[str] = []
    if evidence.info.lr_range:
        low, high = evidence.info.lr_range
        if low == high:
            found.append(f"Only the learning rate {low:.3g} was searched: a better one may lie anywhere.")
        elif not EDGE_FACTOR * low < choice.lr.value < high / EDGE_FACTOR:
            found.append(
                f"The learning rate lies at the edge of the searched range ({low:.3g} to {high:.3g}): widen it."
            )
    there = evidence.fits.ridge.predict(choice.batch_size) if evidence.is_fitted else None
    if there is not None and there.at_edge and not found:
        rates = [record.lr for record in evidence.records if record.has_result and record.lr]
        found.append(
            f"The learning rate lies at the edge of the rates that were tried ({min(rates):.3g} to {max(rates):.3g}): "
            "a better one may lie beyond."
        )
    if evidence.info.batch_size_range and choice.goal == "quality":
        smallest, largest = evidence.info.batch_size_range
        is_inside = EDGE_FACTOR * smallest < choice.batch_size < largest / EDGE_FACTOR
        if smallest < largest and not is_inside:
            found.append(
                f"The batch size lies at the edge of the searched range ({smallest} to {largest}): look beyond."
            )
        elif evidence.is_fitted and evidence.size_beyond is not None and choice.batch_size == evidence.best_size:
            low, high = evidence.tried
            found.append(
                f"The batch size lies at the edge of those that were tried ({low:.0f} to {high:.0f}): "
                "a better one may lie beyond."
                if low < high
                else f"Only batch size {low:.0f} was tried: a better one may lie anywhere."
            )
    return found


def _other_budget(evidence: Evidence) -> list[str]:
    budget, own = evidence.budget_samples, evidence.info.budget_samples
    if not budget or not own or abs(budget / own - 1.0) <= 0.01:
        return []
    ratio = budget / own
    if ratio < 1.0:
        return [f"Judged by values within {ratio:.2g} of the study's budget; a schedule that ends there may do better."]
    return [
        f"This is the answer at the study's own budget; for {ratio:.3g} times the samples larger batch sizes gain: on "
        f"published language models the best one grew about {ratio**BUDGET_EXPONENT:.2g} times, with the learning rate "
        "along its law."
    ]
