"""The sentences of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from bsopt.laws.estimate import Estimate, FitStatus
from bsopt.recommendation.evidence import Evidence, has_target
from bsopt.recommendation.result import BUDGET_EXPONENT, SMALL_BATCH_NORM, Choice, Goal
from bsopt.trial.plan import Plan
from bsopt.trial.record import TrialRecord

__all__ = [
    "batch_norm_warning",
    "caveats",
    "counted",
    "duration",
    "sentence",
    "to_what",
    "where",
    "why_missing",
]


def sentence(evidence: Evidence, choice: Choice) -> str:
    monitor = (
        evidence.info.objective.monitor
        if evidence.info.objective.cost is None
        else f"{evidence.info.objective} to the target"
    )
    head = f"Batch size {choice.batch_size} with learning rate {choice.lr.value:.2g}"
    if not evidence.is_fitted:
        best = cast(TrialRecord, evidence.best)
        return (
            f"{head} is the best of {counted(evidence)} ({monitor} {cast(float, best.value):.4g}), which are too few "
            "or too contradictory to say how sure that is."
        )
    where = {
        "quality": "",
        "largest": " costs nothing in quality beyond noise",
        "fastest": " is fastest",
        "cheapest": " is cheapest",
    }
    value = choice.value
    expected = f"{monitor} {value.value:.4g} (90 %: {value.low:.4g} to {value.high:.4g})" if value else ""
    ties = [b for b in evidence.ties if b != choice.batch_size]
    tie = (
        f"; {_listed(ties)} {'is' if len(ties) == 1 else 'are'} as good within noise"
        if ties and choice.goal == "quality"
        else ""
    )
    rate = f" (90 %: {choice.lr.low:.2g} to {choice.lr.high:.2g})"
    return f"{head}{rate}{where[choice.goal]}: expect {expected}, from {counted(evidence)}{tie}."


def caveats(evidence: Evidence, choice: Choice) -> tuple[str, ...]:
    found = []
    if evidence.fits.ridge.status is not FitStatus.OK:
        found.append(evidence.fits.ridge.message)
    if (
        evidence.info.lr_range
        and not 1.3 * evidence.info.lr_range[0] < choice.lr.value < evidence.info.lr_range[1] / 1.3
    ):
        low, high = evidence.info.lr_range
        found.append(f"The learning rate lies at the edge of the searched range ({low:.3g} to {high:.3g}): widen it.")
    sizes = evidence.info.batch_size_range
    if sizes and choice.goal == "quality" and choice.batch_size in sizes and sizes[0] < sizes[1]:
        found.append(f"The batch size lies at the edge of the searched range ({sizes[0]} to {sizes[1]}): look beyond.")
    if evidence.info.has_batch_norm and choice.plan.micro_batch_size < SMALL_BATCH_NORM:
        found.append(batch_norm_warning(choice.plan.micro_batch_size))
    target = evidence.fits.steps.target
    if evidence.info.objective.target is None and has_target(evidence) and target is not None:
        found.append(
            f"Times and costs are to {evidence.info.objective.monitor} {target:.4g}, which three in four batch sizes "
            "reached, as the study names no target; objective.target sets yours."
        )
    if not evidence.fits.noise_is_repeated:
        found.append("No setting was repeated often enough to know the noise between seeds: confirm the finalists.")
    own = evidence.info.budget_samples
    if evidence.budget and own and abs(evidence.budget / own - 1.0) > 0.01:
        ratio = evidence.budget / own
        if ratio < 1.0:
            found.append(
                f"Judged by values within {ratio:.2g} of the study's budget; a schedule that ends there may do better."
            )
        else:
            found.append(
                f"This is the answer at the study's own budget; for {ratio:.3g} times the samples larger batch sizes "
                f"gain: on published language models the best one grew about {ratio**BUDGET_EXPONENT:.2g} times, with "
                "the learning rate along its law."
            )
    return tuple(found)


def why_missing(evidence: Evidence, goal: Goal) -> str:
    if goal == "largest":
        return f"The largest batch size without loss can't be told: {evidence.fits.ridge.message}"
    if evidence.fits.step_time.status in (FitStatus.TOO_FEW, FitStatus.CONTRADICTORY):
        return f"Times can't be predicted, so this is the choice for quality: {evidence.fits.step_time.message}"
    if evidence.num_devices * evidence.num_nodes > 1 and not evidence.fits.communication.covers(
        evidence.num_devices, evidence.num_nodes
    ):
        why = evidence.fits.communication.message
        return f"Time on this placement can't be predicted, so this is the choice for quality: {why}"
    return f"The cost to a target can't be told, so this is the choice for quality: {evidence.fits.steps.message}"


def batch_norm_warning(micro: int) -> str:
    return (
        f"BatchNorm over a micro-batch of {micro} is noisy (under {SMALL_BATCH_NORM}): accumulate less, use "
        "SyncBatchNorm across devices, or GroupNorm instead."
    )


def counted(evidence: Evidence) -> str:
    count = evidence.fits.num_complete
    return f"{count} complete trial{'' if count == 1 else 's'}"


def _listed(sizes: Sequence[int]) -> str:
    words = [str(size) for size in sizes]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + f" and {words[-1]}"


def where(plan: Plan) -> str:
    devices = f"{plan.num_devices} device{'' if plan.num_devices == 1 else 's'}"
    return devices if plan.num_nodes == 1 else f"{plan.num_nodes} nodes of {devices}"


def to_what(evidence: Evidence) -> str:
    target = evidence.fits.steps.target
    return (
        f"to {evidence.info.objective.monitor} {target:.4g}"
        if has_target(evidence) and target is not None
        else "over the budget"
    )


def duration(seconds: Estimate) -> str:
    size, unit = (3600.0, "h") if seconds.value >= 5400 else (60.0, "min") if seconds.value >= 90 else (1.0, "s")
    return f"{seconds.value / size:.3g} {unit} (90 %: {seconds.low / size:.3g} to {seconds.high / size:.3g})"
