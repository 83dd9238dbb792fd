"""The one place that knows where bsopt keeps things in an Optuna storage.

A trial's record and a study's description are user attributes; both carry a format version. Long values are
cut into pieces, because some databases hold 64 kB in a text column.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from bsopt.errors import StorageError
from bsopt.serialization import from_plain, to_plain
from bsopt.trial.objective import Direction, Objective, sign_of
from bsopt.trial.record import FORMAT_VERSION, Outcome, StudyInfo, Tick, TrialRecord

__all__ = [
    "BATCH_SIZE",
    "LR",
    "read_analyses",
    "read_info",
    "read_record",
    "read_records",
    "write_analysis",
    "write_info",
    "write_record",
]

BATCH_SIZE = "batch_size"
LR = "lr"
RECORD_KEY = "bsopt:record"
INFO_KEY = "bsopt:info"
RETRY_KEY = "bsopt:retry_of"
CONFIRM_KEY = "bsopt:confirms"
REPLICATE_KEY = "bsopt:replicate"
DESIGN_KEY = "bsopt:design"
ANALYSIS_KEY = "bsopt:analysis"
OWNER_KEY = "bsopt:owner"
ALIVE_KEY = "bsopt:alive"
STOP_KEY = "bsopt:stop"
BEST_VALUE_KEY = "bsopt:best_value"
BEST_STEP_KEY = "bsopt:best_step"
_PIECE = 40_000
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


def read_record(study: optuna.Study, trial: FrozenTrial) -> TrialRecord:
    """Return a trial's record, or for a trial that isn't ours what Optuna keeps of it."""
    outcome = _OUTCOMES[trial.state]
    stored = _read_long(trial.user_attrs, RECORD_KEY)
    value = _value(study, trial)
    if stored is not None:
        record = from_plain(TrialRecord, stored)
        return replace(
            record,
            number=trial.number,
            outcome=outcome,
            params=trial.params,
            value=_first(value, record.value),
            confirms=trial.user_attrs.get(CONFIRM_KEY),
            design_seed=trial.user_attrs.get(REPLICATE_KEY) if DESIGN_KEY in trial.user_attrs else None,
        )
    ticks = tuple(
        Tick(index=i, samples=float(step), step=step, epoch=math.nan, seconds=math.nan, value=value_)
        for i, (step, value_) in enumerate(sorted(trial.intermediate_values.items()), start=1)
    )
    best = _best_tick(ticks, _direction(study))
    size, lr = trial.params.get(BATCH_SIZE), trial.params.get(LR)
    started = trial.datetime_start.timestamp() if trial.datetime_start else None
    return TrialRecord(
        number=trial.number,
        outcome=outcome,
        batch_size=int(size) if isinstance(size, (int, float)) else None,
        lr=float(lr) if isinstance(lr, (int, float)) else None,
        params=trial.params,
        value=_first(value, best.value if best else None),
        best_tick=best.index if best else None,
        ticks=ticks,
        seconds=trial.duration.total_seconds() if trial.duration else None,
        started=started,
    )


def read_records(study: optuna.Study) -> list[TrialRecord]:
    """Return the records of all trials, oldest first."""
    return [read_record(study, trial) for trial in study.get_trials(deepcopy=False)]


def write_info(study: optuna.Study, info: StudyInfo) -> None:
    """Store what the study searches and how it trains."""
    _write_long(study, INFO_KEY, {"format": FORMAT_VERSION, **to_plain(info)})


def read_info(study: optuna.Study) -> StudyInfo:
    """Return what the study searches; for a study that isn't ours what its trials tell."""
    stored = _read_long(study.user_attrs, INFO_KEY)
    if stored is not None:
        return from_plain(StudyInfo, stored)
    sizes: list[float] = []
    rates: list[float] = []
    for trial in study.get_trials(deepcopy=False):
        sizes += _range(trial.distributions.get(BATCH_SIZE))
        rates += _range(trial.distributions.get(LR))
    names = study.metric_names or ["value"]
    return StudyInfo(
        name=study.study_name,
        objective=Objective(names[0], _direction(study)),
        batch_size_range=(int(min(sizes)), int(max(sizes))) if sizes else None,
        lr_range=(min(rates), max(rates)) if rates else None,
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
    """Return key -> what was stored by `write_analysis`; only what was computed with the settings, if any are given."""
    attributes = study.user_attrs
    found: dict[str, Mapping[str, Any]] = {}
    for name in attributes:
        if name.startswith(f"{ANALYSIS_KEY}:") and isinstance(attributes[name], int):
            stored = _read_long(attributes, name) or {}
            if settings is None or stored.get("settings") == settings:
                found[name.removeprefix(f"{ANALYSIS_KEY}:")] = stored["value"]
    return found


def is_ours(study: optuna.Study) -> bool:
    """Whether bsopt made the study."""
    return INFO_KEY in study.user_attrs or f"{INFO_KEY}:0" in study.user_attrs


def _write_long(target: _HasUserAttributes, key: str, value: Mapping[str, Any]) -> None:
    text = json.dumps(value, separators=(",", ":"), default=_plain)
    pieces = [text[i : i + _PIECE] for i in range(0, len(text), _PIECE)]
    for number, piece in enumerate(pieces):
        target.set_user_attr(f"{key}:{number}", piece)
    target.set_user_attr(key, len(pieces))


def _read_long(attributes: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    count = attributes.get(key)
    if not isinstance(count, int):
        return None
    value: dict[str, Any] = json.loads("".join(attributes[f"{key}:{number}"] for number in range(count)))
    if value.get("format", 0) > FORMAT_VERSION:
        raise StorageError(
            f"this study was written by a newer bsopt (format {value['format']}): upgrade bsopt to read it."
        )
    return value


def _plain(value: object) -> object:
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def _direction(study: optuna.Study) -> Direction:
    return "maximize" if study.directions[0] == StudyDirection.MAXIMIZE else "minimize"


def _value(study: optuna.Study, trial: FrozenTrial) -> float | None:
    return trial.values[0] if trial.state == TrialState.COMPLETE and trial.values else None


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _best_tick(ticks: tuple[Tick, ...], direction: Direction) -> Tick | None:
    finite = [tick for tick in ticks if math.isfinite(tick.value)]
    return min(finite, key=lambda tick: sign_of(direction) * tick.value, default=None)


def _range(distribution: object) -> list[float]:
    if isinstance(distribution, (IntDistribution, FloatDistribution)):
        return [distribution.low, distribution.high]
    if isinstance(distribution, CategoricalDistribution):
        return [float(c) for c in distribution.choices if isinstance(c, (int, float))]
    return []
