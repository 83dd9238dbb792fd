"""The one place that knows where bsopt keeps things in an Optuna storage.

A trial's record and a study's description are user attributes; both carry a format version. Long values are
cut into pieces, because some databases hold 64 kB in a text column. Each stored text is parsed once, however often
it is read.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from bsopt.errors import StorageError
from bsopt.serialization import from_plain, to_plain
from bsopt.storage.parameter_names import (
    BATCH_SIZE,
    LR,
    ParameterNames,
    find_names,
    natural_choices,
    natural_range,
    natural_value,
    spaces_of,
)
from bsopt.trial.objective import Direction, Objective, sign_of
from bsopt.trial.record import FORMAT_VERSION, Outcome, StepUnit, StopReason, StudyInfo, Tick, TrialRecord

__all__ = [
    "BATCH_SIZE",
    "CONTINUES",
    "DECAY_REMAINING",
    "LR",
    "continued_number",
    "enqueued_params",
    "is_ours",
    "read_analyses",
    "read_decay_remaining",
    "read_info",
    "read_published",
    "read_record",
    "read_records",
    "read_stop_reason",
    "write_analysis",
    "write_best",
    "write_ending",
    "write_info",
    "write_published",
    "write_record",
]

DECAY_REMAINING = "lr_decay_remaining"
"""Set on a trial by the user's own objective: whether a schedule will still lower the learning rate."""
CONTINUES = "continues"
"""Set on a trial that goes on from a paused one: that one's number."""
RECORD_KEY = "bsopt:record"
ENDING_KEY = "bsopt:ending"
INFO_KEY = "bsopt:info"
RETRY_KEY = "bsopt:retry_of"
CONFIRM_KEY = "bsopt:confirms"
REPLICATE_KEY = "bsopt:replicate"
DESIGN_KEY = "bsopt:design"
SETTLE_KEY = "bsopt:settles"
LOOK_KEY = "bsopt:look"
VARIANT_KEY = "bsopt:variant"
ANALYSIS_KEY = "bsopt:analysis"
OWNER_KEY = "bsopt:owner"
ALIVE_KEY = "bsopt:alive"
STOP_KEY = "bsopt:stop"
PUBLISHED_KEY = "bsopt:dashboard"
BEST_VALUE_KEY = "bsopt:best_value"
BEST_STEP_KEY = "bsopt:best_step"
_QUEUED_KEYS = (RETRY_KEY, CONFIRM_KEY, DESIGN_KEY, SETTLE_KEY)
_ENQUEUED_KEY = "fixed_params"  # a system attribute of Optuna's `enqueue_trial`
_PIECE = 40_000
"""Characters; at most 160 kB of UTF-8, in practice little more than 40."""
_NUM_KEPT = 4096
"""Parsed records that are kept; a tick takes half a kilobyte."""
_OUTCOMES: dict[TrialState, Outcome] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "fail",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
}


class _HasUserAttributes(Protocol):
    @property
    def user_attrs(self) -> dict[str, Any]: ...
    def set_user_attr(self, key: str, value: Any) -> None: ...


def write_record(trial: optuna.Trial, record: TrialRecord) -> None:
    """Store a trial's record; must come before the trial is told, since a finished one can't be written."""
    _write_long(trial, RECORD_KEY, {"format": FORMAT_VERSION, **to_plain(record)})


def read_record(
    study: optuna.Study,
    trial: FrozenTrial,
    *,
    names: ParameterNames | None = None,
    step_unit: StepUnit | None = None,
) -> TrialRecord:
    """Return a trial's record, or for a trial that isn't ours what Optuna keeps of it.

    Args:
        study: Its study.
        trial: The trial.
        names: What the two parameters are called; None finds them. In the record's `params` they have our names.
        step_unit: What the reports of a trial that isn't ours are counted in; None where nobody says, and then they
            are taken as they are.

    Raises:
        StorageError: It was written by another version of bsopt, with a format that this one doesn't read.
    """
    outcome = _OUTCOMES[trial.state]
    text = _read_text(trial.user_attrs, RECORD_KEY)
    value = trial.values[0] if trial.state == TrialState.COMPLETE and trial.values else None
    is_feasible = all(constraint <= 0.0 for constraint in trial.constraints.values())
    if text is not None:
        record = _parsed_record(text)
        return replace(
            record,
            number=trial.number,
            outcome=outcome,
            stop_reason=_reason(trial, record.stop_reason),
            params=trial.params,
            value=_first(value, record.value),
            is_feasible=is_feasible,
            confirms=trial.user_attrs.get(CONFIRM_KEY),
            design_seed=trial.user_attrs.get(REPLICATE_KEY) if DESIGN_KEY in trial.user_attrs else None,
            design_look=int(trial.user_attrs.get(LOOK_KEY, 0)),
            design_variant=trial.user_attrs.get(VARIANT_KEY),
        )
    params = _in_our_words(trial, names or find_names(study))
    size, lr = params.get(BATCH_SIZE), params.get(LR)
    ticks = _reports(trial, step_unit, size)
    best = _best_tick(ticks, _direction(study))
    ending = trial.user_attrs.get(ENDING_KEY, {})
    started = trial.datetime_start.timestamp() if trial.datetime_start else None
    return TrialRecord(
        number=trial.number,
        outcome=outcome,
        stop_reason=read_stop_reason(trial),
        batch_size=int(size * (1 + 1e-9)) if isinstance(size, (int, float)) else None,  # 10**log10(64) is below 64
        lr=float(lr) if isinstance(lr, (int, float)) else None,
        params=params,
        message=ending.get("message", ""),
        value=_first(value, ending.get("value"), best.value if best else None),
        best_tick=best.index if best else None,
        ticks=ticks,
        seconds=trial.duration.total_seconds() if trial.duration else None,
        started=started,
        is_feasible=is_feasible,
    )


def read_records(
    study: optuna.Study, *, names: ParameterNames | None = None, step_unit: StepUnit | None = None
) -> list[TrialRecord]:
    """Return the records of all trials, oldest first.

    Args:
        study: The study.
        names: As in `read_record`.
        step_unit: As in `read_record`.

    Raises:
        StorageError: As `read_record`.
    """
    found = names or find_names(study)
    return [read_record(study, t, names=found, step_unit=step_unit) for t in study.get_trials(deepcopy=False)]


def read_stop_reason(trial: FrozenTrial) -> StopReason | None:
    """Return why a trial ended; None where nobody noted it.

    Raises:
        StorageError: As `read_record`.
    """
    if (text := _read_text(trial.user_attrs, RECORD_KEY)) is not None:
        return _reason(trial, _parsed_record(text).stop_reason)
    ending = trial.user_attrs.get(ENDING_KEY)
    return _reason(trial, StopReason(ending["stop_reason"]) if ending else None)


def write_info(study: optuna.Study, info: StudyInfo) -> None:
    """Store what the study searches and how it trains."""
    _write_long(study, INFO_KEY, {"format": FORMAT_VERSION, **to_plain(info)})


def read_info(
    study: optuna.Study,
    *,
    names: ParameterNames | None = None,
    step_unit: StepUnit | None = None,
    monitor: str | None = None,
) -> StudyInfo:
    """Return what the study searches; for a study that isn't ours what its trials tell.

    Args:
        study: The study.
        names: As in `read_record`.
        step_unit: As in `read_record`.
        monitor: What a trial's value is called, where the study isn't ours; its own metric name, or "value", by
            default.

    Raises:
        StorageError: As `read_record`.
    """
    text = _read_text(_notes_of(study), INFO_KEY)
    if text is not None:
        return _parsed_info(text)
    found = names or find_names(study)
    size, lr = found.batch_size or BATCH_SIZE, found.lr or LR
    choices = {name: natural_choices(name, space) for name, space in spaces_of(study).items()}
    trials = study.get_trials(deepcopy=False)
    sizes, rates = _searched(trials, size), _searched(trials, lr)
    called = study.metric_names or ["value"]
    return StudyInfo(
        name=study.study_name,
        objective=Objective(monitor or called[0], _direction(study)),
        batch_size_range=(max(int(sizes[0]), 1), int(sizes[1] * (1 + 1e-9))) if sizes else None,
        lr_range=rates,
        batch_sizes=tuple(sorted({round(choice) for choice in choices.get(size, ())})),
        step_unit=step_unit,
        lr_choices=choices.get(lr, ()),
    )


def write_analysis(
    study: optuna.Study, key: str, value: Mapping[str, Any], *, settings: Mapping[str, Any] | None = None
) -> None:
    """Store what an analysis of trained weights found; a finished trial can't be written, so the study keeps it.

    Args:
        study: The study.
        key: What was analysed.
        value: The result as plain data.
        settings: What it was computed with.
    """
    stored = {"format": FORMAT_VERSION, "settings": settings or {}, "value": value}
    _write_long(study, f"{ANALYSIS_KEY}:{key}", stored)


def read_analyses(study: optuna.Study, *, settings: Mapping[str, Any] | None = None) -> dict[str, Mapping[str, Any]]:
    """Return key -> what was stored by `write_analysis`; only what was computed with the settings, if any are given.

    Raises:
        StorageError: As `read_record`.
    """
    attributes = study.user_attrs
    found: dict[str, Mapping[str, Any]] = {}
    for name in attributes:
        text = _read_text(attributes, name) if name.startswith(f"{ANALYSIS_KEY}:") else None
        stored = _parsed(text) if text is not None else None
        if stored is not None and settings in (None, stored["settings"]):
            found[name.removeprefix(f"{ANALYSIS_KEY}:")] = stored["value"]
    return found


def write_published(study: optuna.Study, state: Mapping[str, Any]) -> None:
    """Store what of a study optuna-dashboard shows by now, as plain data."""
    study.set_user_attr(PUBLISHED_KEY, json.dumps(state))


def read_published(study: optuna.Study) -> dict[str, Any] | None:
    """Return what `write_published` stored last, or None."""
    text = study.user_attrs.get(PUBLISHED_KEY)
    return json.loads(text) if isinstance(text, str) else None


def is_ours(study: optuna.Study) -> bool:
    """Whether bsopt made the study."""
    attributes = _notes_of(study)
    return INFO_KEY in attributes or f"{INFO_KEY}:0" in attributes


def _notes_of(study: optuna.Study) -> Mapping[str, Any]:
    """Return a study's user attributes; empty for one bracket of it, as Hyperband hands it on, which hides them."""
    return getattr(study, "user_attrs", {})


def write_best(trial: optuna.Trial, value: float, step: int) -> None:
    """Store a trial's best report beside Optuna's, which keeps only the last one of a pruned trial.

    Args:
        trial: A trial that runs.
        value: The metric, finite.
        step: The step that it was reported at, in the study's own unit.
    """
    trial.set_user_attr(BEST_VALUE_KEY, value)
    trial.set_user_attr(BEST_STEP_KEY, step)


def write_ending(trial: optuna.Trial, stop_reason: StopReason, message: str, *, value: float | None) -> None:
    """Store why a trial of the user's own objective ends; what Optuna keeps of it isn't stored again.

    Args:
        trial: A trial that runs.
        stop_reason: Why.
        message: The same in a sentence for people.
        value: Its best value; None without a finite report.
    """
    trial.set_user_attr(ENDING_KEY, {"stop_reason": stop_reason.value, "message": message, "value": value})


def read_decay_remaining(trial: FrozenTrial, *, default: bool | None = None) -> bool | None:
    """Return whether the learning rate will still fall, as the trial's attribute `lr_decay_remaining` says."""
    told = trial.user_attrs.get(DECAY_REMAINING, default)
    return None if told is None else bool(told)


def continued_number(trial: FrozenTrial | optuna.Trial) -> int | None:
    """Return the number of the paused trial that a trial goes on from; None for one from the start."""
    number = trial.user_attrs.get(CONTINUES)
    return None if number is None else int(number)


def enqueued_params(trial: FrozenTrial) -> Mapping[str, Any] | None:
    """Return the parameters that a trial was enqueued with; None where the sampler proposed it."""
    found: Mapping[str, Any] | None = trial.system_attrs.get(_ENQUEUED_KEY)
    return found


def _write_long(target: _HasUserAttributes, key: str, value: Mapping[str, Any]) -> None:
    text = json.dumps(value, separators=(",", ":"), default=_plain)
    pieces = [text[i : i + _PIECE] for i in range(0, len(text), _PIECE)]
    for number, piece in enumerate(pieces):
        target.set_user_attr(f"{key}:{number}", piece)
    target.set_user_attr(key, len(pieces))


def _read_text(attributes: Mapping[str, Any], key: str) -> str | None:
    """Return what `_write_long` wrote as text, None where there is nothing."""
    count = attributes.get(key)
    if not isinstance(count, int):
        return None
    return "".join(attributes[f"{key}:{number}"] for number in range(count))


@functools.lru_cache(maxsize=_NUM_KEPT)
def _parsed_record(text: str) -> TrialRecord:
    return from_plain(TrialRecord, _parsed(text))


@functools.lru_cache(maxsize=64)
def _parsed_info(text: str) -> StudyInfo:
    return from_plain(StudyInfo, _parsed(text))


def _parsed(text: str) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(text)
    version = stored.get("format", 0)
    if version > FORMAT_VERSION:
        raise StorageError(f"this study was written by a newer bsopt (format {version}): upgrade bsopt to read it.")
    if version < FORMAT_VERSION:
        raise StorageError(
            f"this study was written by an older bsopt (format {version}), whose studies this one can't read: "
            "use it with the version that made it, or start anew under another name (--study-name)."
        )
    return stored


def _plain(value: object) -> object:
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def _in_our_words(trial: FrozenTrial, names: ParameterNames) -> dict[str, Any]:
    """Return a trial's parameters with the batch size, in samples, and the learning rate under our names."""
    own = {names.batch_size: BATCH_SIZE, names.lr: LR}
    found = {own.get(name, name): value for name, value in trial.params.items()}
    for role, name in ((BATCH_SIZE, names.batch_size), (LR, names.lr)):
        if name in trial.params:
            value = natural_value(trial.params[name], name, trial.distributions[name])
            found[role] = trial.params[name] if value is None else value
    return found


def _reports(trial: FrozenTrial, unit: StepUnit | None, batch_size: object) -> tuple[Tick, ...]:
    """Return a foreign trial's reports; their samples are epochs where the training set's size isn't known."""
    samples_per_step = float(batch_size) if unit == "steps" and isinstance(batch_size, (int, float)) else 1.0
    # Epochs are often counted from 0: after epoch 0 one epoch is done.
    first = 1 if unit in ("epochs", "steps") and min(trial.intermediate_values, default=1) <= 0 else 0
    return tuple(
        Tick(
            index=i,
            samples=(step + first) * samples_per_step,
            step=step,
            epoch=float(step + first) if unit == "epochs" else math.nan,
            seconds=math.nan,
            value=value,
        )
        for i, (step, value) in enumerate(sorted(trial.intermediate_values.items()), start=1)
    )


def _direction(study: optuna.Study) -> Direction:
    return "maximize" if study.directions[0] == StudyDirection.MAXIMIZE else "minimize"


def _reason(trial: FrozenTrial, stored: StopReason | None) -> StopReason | None:
    """Return why a trial ended; one of ours that Optuna has as failed, and whose record doesn't say so, is lost."""
    if stored is None:
        is_queued = not trial.params and any(key in trial.user_attrs for key in _QUEUED_KEYS)  # ended as it began
        is_unsaid = OWNER_KEY in trial.user_attrs or is_queued
    else:
        is_unsaid = stored.outcome != "fail"
    return StopReason.LOST if trial.state == TrialState.FAIL and is_unsaid else stored


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _best_tick(ticks: tuple[Tick, ...], direction: Direction) -> Tick | None:
    finite = [tick for tick in ticks if math.isfinite(tick.value)]
    return min(finite, key=lambda tick: sign_of(direction) * tick.value, default=None)


def _searched(trials: Sequence[FrozenTrial], name: str) -> tuple[float, float] | None:
    """Return the smallest and the largest batch size or learning rate searched under a name.

    Where a range starts at 0, what trials had above it counts in the place of that end.
    """
    found: list[float] = []
    for trial in trials:
        if name in trial.distributions:
            ends = natural_range(name, trial.distributions[name])
            own = natural_value(trial.params[name], name, trial.distributions[name])
            found += ends if len(ends) > 1 or own is None or own <= 0 else [*ends, float(own)]
    return (min(found), max(found)) if found else None
