"""The answer that opens the report: which batch size and learning rate, and how sure.

It is `bsopt.recommend`'s, with the trials that are as good within noise. Where there is no study to ask (records alone,
or two objectives) it is the best trial's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np

from bsopt.recommendation.recommender import recommend
from bsopt.recommendation.result import Choice
from bsopt.trial.record import TrialRecord
from bsopt.visualization.study_data import StudyData

__all__ = ["Answer", "answer"]

MIN_TRIALS = 5
"""Completed trials below which the best one is only the best so far."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a study says so far.

    Attributes:
        sentence: The answer, in words, with its uncertainty.
        caveats: What the reader should know before trusting it, a sentence each.
        batch_size: Recommended global batch size in samples; None without a completed trial.
        lr: Recommended learning rate.
        value: What to expect, or what the best trial reached where no law is fitted.
        noise: Standard deviation of a repeated trial's value; None where nothing tells it.
        as_good: Completed trials within two standard deviations of the best, best first; of repeats of one setting
            the best.
        choices: What to take for each goal (best value, largest without loss, fastest, cheapest), this answer first.
        yaml: Settings for a LightningCLI or Trainer configuration.
        snippet: The same as Python.
    """

    sentence: str
    caveats: tuple[str, ...] = ()
    batch_size: int | None = None
    lr: float | None = None
    value: float | None = None
    noise: float | None = None
    as_good: tuple[TrialRecord, ...] = ()
    choices: tuple[Choice, ...] = ()
    yaml: str = ""
    snippet: str = ""


def answer(data: StudyData) -> Answer:
    """Return the recommendation, the trials as good as the best within noise, and settings to paste."""
    if data.best is None:
        return Answer(sentence=_nothing_yet(data))
    if data.study is None or len(data.study.directions) > 1:
        return _of_trials(data, data.best)
    found = recommend(data.study, fits=data.fits)
    choice = found.choice
    if choice is None:
        return Answer(sentence=found.sentence, caveats=found.caveats)
    noise = data.fits.noise_sd
    return Answer(
        sentence=found.sentence,
        caveats=found.caveats,
        batch_size=choice.batch_size,
        lr=choice.lr.value,
        value=choice.value.value if choice.value is not None else data.best.value,
        noise=noise,
        as_good=_as_good(data, data.best, noise),
        choices=(choice, *found.alternatives),
        yaml=found.to_yaml().strip(),
        snippet=found.to_lightning().strip(),
    )


def _of_trials(data: StudyData, best: TrialRecord) -> Answer:
    noise, source = _noise(data)
    close = _as_good(data, best, noise)
    return Answer(
        sentence=_sentence(data, best, close),
        caveats=_caveats(data, best, source),
        batch_size=best.batch_size,
        lr=best.lr,
        value=best.value,
        noise=noise,
        as_good=close,
        yaml=_yaml(best),
        snippet=_snippet(best),
    )


def _nothing_yet(data: StudyData) -> str:
    if not data.records:
        return "No trial has been run yet, so there is no answer."
    return (
        f"None of the {len(data.records)} trials so far ran to its end with a finite value, "
        "so there is no answer yet. The table below says why each one stopped."
    )


def _sentence(data: StudyData, best: TrialRecord, close: tuple[TrialRecord, ...]) -> str:
    words = (
        f"Batch size {best.batch_size} with learning rate {best.lr:.2g} is the best of "
        f"{len(data.completed)} completed trials: {data.info.objective.monitor} {best.value:.4g}."
    )
    sizes = sorted({cast(int, record.batch_size) for record in close})
    if len(close) < 2:
        return words
    rates = [cast(float, record.lr) for record in close if record.batch_size == best.batch_size]
    if len(sizes) > 1:
        words += f" Batch sizes {_enumerated(sizes)} are as good within noise, each at its own learning rate."
    elif max(rates) > 1.05 * min(rates):
        words += (
            f" At this batch size learning rates from {min(rates):.2g} to {max(rates):.2g} are as good within noise."
        )
    return words


def _caveats(data: StudyData, best: TrialRecord, noise_source: str) -> tuple[str, ...]:
    found = []
    if len(data.completed) < MIN_TRIALS:
        found.append(
            f"Only {len(data.completed)} trials ran to their end: take this as the best so far, not as an answer."
        )
    found.append(noise_source)
    low, high = data.info.lr_range or (0.0, math.inf)
    if best.lr is not None and (best.lr <= 1.3 * low or best.lr >= high / 1.3):
        found.append(
            f"The learning rate lies at the edge of the searched range ({low:g} to {high:g}): widen the range."
        )
    sizes = data.info.batch_size_range
    if sizes is not None and best.batch_size in sizes and sizes[0] < sizes[1]:
        found.append(
            f"The batch size lies at the edge of the searched range ({sizes[0]} to {sizes[1]}): "
            "a value outside it may be better still."
        )
    return tuple(found)


def _noise(data: StudyData) -> tuple[float | None, str]:
    """Return the standard deviation of a value, and a sentence on where it is known from."""
    groups: dict[tuple[int, int], list[float]] = {}
    for record in data.completed:
        key = (cast(int, record.batch_size), round(math.log2(cast(float, record.lr)) * 8))
        groups.setdefault(key, []).append(cast(float, record.value))
    repeats = [values for values in groups.values() if len(values) > 1]
    freedom = sum(len(values) - 1 for values in repeats)
    if freedom >= 3:
        total = sum(float(np.var(values)) * len(values) for values in repeats)
        noise = math.sqrt(total / freedom)
        return noise, f"Noise (one standard deviation, {noise:.2g}) is estimated from repeated settings."
    ranked = sorted(data.completed, key=lambda record: data.sign * cast(float, record.value))
    ripples = [ripple for record in ranked[:5] for ripple in _ripples(record)]
    if len(ripples) >= 4:
        noise = float(np.median(ripples)) / 0.6745 / math.sqrt(6.0)
        return noise, (
            f"Noise (one standard deviation, {noise:.2g}) is estimated from the ripple of the best trials' curves; "
            "another seed may differ by more. `confirm_seeds` in the study file repeats the finalists over fresh seeds."
        )
    return None, "How much a repeated run would differ is not known: nothing was repeated and curves are short."


def _ripples(record: TrialRecord) -> list[float]:
    """Second differences of a curve's last third: without its slope, their variance is six times that of a value."""
    values = [tick.value for tick in record.ticks if math.isfinite(tick.value)]
    tail = values[-max(4, len(values) // 3) :]
    return [abs(float(ripple)) for ripple in np.diff(tail, 2)] if len(values) >= 6 else []


def _as_good(data: StudyData, best: TrialRecord, noise: float | None) -> tuple[TrialRecord, ...]:
    limit = data.sign * cast(float, best.value) + 2.0 * (noise or 0.0)
    close = [record for record in data.completed if data.sign * cast(float, record.value) <= limit]
    settings: dict[tuple[object, ...], TrialRecord] = {}  # repeats over seeds are one setting
    for record in sorted(close, key=lambda record: data.sign * cast(float, record.value)):
        settings.setdefault((record.batch_size, record.lr, *sorted(record.params.items())), record)
    return tuple(settings.values())


def _yaml(best: TrialRecord) -> str:
    micro, accumulate = _parts(best)
    return "\n".join(
        [
            "model:",
            f"  lr: {best.lr:.4g}",
            "data:",
            f"  batch_size: {micro}",
            "trainer:",
            f"  accumulate_grad_batches: {accumulate}",
            *([f"  devices: {best.plan.num_devices}"] if best.plan else []),
        ]
    )


def _snippet(best: TrialRecord) -> str:
    micro, accumulate = _parts(best)
    devices = f", devices={best.plan.num_devices}" if best.plan else ""
    return "\n".join(
        [
            f"model = YourModule(lr={best.lr:.4g})",
            f"data = YourDataModule(batch_size={micro})",
            f"trainer = Trainer(accumulate_grad_batches={accumulate}{devices})",
            "trainer.fit(model, datamodule=data)",
        ]
    )


def _parts(best: TrialRecord) -> tuple[int, int]:
    if best.plan is None:
        return cast(int, best.batch_size), 1
    return best.plan.micro_batch_size, best.plan.accumulate_grad_batches


def _enumerated(sizes: list[int]) -> str:
    words = [str(size) for size in sizes]
    return ", ".join(words[:-1]) + f" and {words[-1]}"
