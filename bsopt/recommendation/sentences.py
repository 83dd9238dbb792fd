"""The sentences of an answer."""

from __future__ import annotations

from typing import cast

from bsopt.laws.estimate import Estimate, FitStatus
from bsopt.recommendation.costs import update_seconds
from bsopt.recommendation.evidence import Evidence
from bsopt.recommendation.result import Choice, Goal
from bsopt.trial.plan import Plan
from bsopt.trial.record import TrialRecord
from bsopt.units import count_of, in_words

__all__ = [
    "SMALL_BATCH_NORM",
    "batch_norm_warning",
    "caveats",
    "counted",
    "duration",
    "known_from",
    "no_answer",
    "sentence",
    "to_what",
    "where",
    "why_missing",
]

SMALL_BATCH_NORM = 16
"""Micro-batch below which BatchNorm's statistics are noisy."""
BUDGET_EXPONENT = 0.65
"""B_best ∝ budget^0.65: 128 to 1,024 sequences from 4 to 100 B tokens (a 215 M language model; FACTS of step laws)."""
EDGE_FACTOR = 1.3
"""A learning rate within this factor of an end of its range lies at the edge."""

_CLAIMS: dict[Goal, str] = {
    "quality": "",
    "largest": " costs nothing in quality beyond noise",
    "fastest": " is fastest",
    "cheapest": " is cheapest",
}


def no_answer(evidence: Evidence) -> str:
    """Return why there is nothing to recommend."""
    if not evidence.records:
        return "No trial has run yet, so there is no answer."
    if evidence.unknown:
        return evidence.unknown
    return f"None of {len(evidence.records)} trials ended with a finite value, so there is no answer yet."


def sentence(evidence: Evidence, choice: Choice) -> str:
    """Return the choice with its uncertainty, and what ties with it."""
    objective = evidence.info.objective
    what = objective.monitor if objective.cost is None else f"{objective.cost} to the target"
    head = f"Batch size {choice.batch_size} with learning rate {choice.lr.value:.2g}"
    if not evidence.is_fitted:
        value = cast(float, cast(TrialRecord, evidence.best).value)
        best = f"{head} is the best of {counted(evidence)}"
        if evidence.num_objectives > 1:
            return f"{best} by the first of {evidence.num_objectives} objectives ({what} {value:.4g})."
        return f"{best} ({what} {value:.4g}), which are too few or too contradictory to say how sure that is."
    rate = f" (90 %: {choice.lr.low:.2g} to {choice.lr.high:.2g})"
    value_there = choice.value
    expected = f"{what} {_with_interval(value_there)}" if value_there else ""
    ties = [size for size in evidence.ties if size != choice.batch_size]
    tied = f"; {in_words(ties)} {'is' if len(ties) == 1 else 'are'} as good within noise" if ties else ""
    return (
        f"{head}{rate}{_CLAIMS[choice.goal]}: expect {expected}, from {counted(evidence)}"
        f"{tied if choice.goal == 'quality' else ''}."
    )


def caveats(evidence: Evidence, choice: Choice) -> tuple[str, ...]:
    """Return what to know before trusting a choice, a sentence each."""
    info, fits = evidence.info, evidence.fits
    found = []
    if fits.ridge.status is not FitStatus.OK:
        found.append(fits.ridge.message)
    found += _edges(evidence, choice)
    if info.has_batch_norm and choice.plan.micro_batch_size < SMALL_BATCH_NORM:
        found.append(batch_norm_warning(choice.plan.micro_batch_size))
    if info.objective.target is None and evidence.target is not None:
        found.append(
            f"Times and costs are to {info.objective.monitor} {evidence.target:.4g}, which three in four batch sizes "
            "reached, as the study names no target; objective.target sets yours."
        )
    if not fits.noise_is_repeated:
        found.append("No setting was repeated often enough to know the noise between seeds: confirm the finalists.")
    found += _other_budget(evidence)
    return tuple(found)


def why_missing(evidence: Evidence, goal: Goal) -> str:
    """Return why there is no choice for a goal."""
    fits = evidence.fits
    if evidence.num_objectives > 1:
        return "A study of several objectives is answered by its best trial, whatever the goal."
    if goal == "largest":
        return f"The largest batch size without loss can't be told: {fits.ridge.message}"
    if fits.step_time.status in (FitStatus.TOO_FEW, FitStatus.CONTRADICTORY):
        return f"Times can't be predicted, so this is the choice for quality: {fits.step_time.message}"
    is_alone = evidence.num_devices * evidence.num_nodes == 1
    if not is_alone and not fits.communication.covers(evidence.num_devices, evidence.num_nodes):
        why = fits.communication.message
        return f"Time on this placement can't be predicted, so this is the choice for quality: {why}"
    return f"The cost to a target can't be told, so this is the choice for quality: {fits.steps.message}"


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
    devices = count_of(plan.num_devices, "device")
    return devices if plan.num_nodes == 1 else f"{plan.num_nodes} nodes of {devices}"


def to_what(evidence: Evidence) -> str:
    """Return what times and costs are to: "to val_loss 0.35", "over the budget"."""
    if evidence.target is None:
        return "over the budget"
    return f"to {evidence.info.objective.monitor} {evidence.target:.4g}"


def duration(seconds: Estimate) -> str:
    """Return a time with its interval, in the one unit that suits it."""
    size, unit = (3600.0, "h") if seconds.value >= 5400 else (60.0, "min") if seconds.value >= 90 else (1.0, "s")
    return f"{seconds.value / size:.3g} {unit} (90 %: {seconds.low / size:.3g} to {seconds.high / size:.3g})"


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


def _with_interval(value: Estimate) -> str:
    return f"{value.value:.4g} (90 %: {value.low:.4g} to {value.high:.4g})"


def _edges(evidence: Evidence, choice: Choice) -> list[str]:
    found = []
    if evidence.info.lr_range:
        low, high = evidence.info.lr_range
        if not EDGE_FACTOR * low < choice.lr.value < high / EDGE_FACTOR:
            found.append(
                f"The learning rate lies at the edge of the searched range ({low:.3g} to {high:.3g}): widen it."
            )
    if evidence.info.batch_size_range and choice.goal == "quality":
        smallest, largest = evidence.info.batch_size_range
        if smallest < largest and choice.batch_size in (smallest, largest):
            found.append(
                f"The batch size lies at the edge of the searched range ({smallest} to {largest}): look beyond."
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
