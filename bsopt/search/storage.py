"""The one place that knows where bsopt keeps things in an Optuna storage.

A trial's record and a study's description are user attributes; both carry a format version. Long values are
cut into pieces, because some databases hold 64 kB in a text column.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from bsopt.errors import StorageError
from bsopt.records import FORMAT_VERSION, Direction, Outcome, StudyInfo, Tick, TrialRecord

__all__ = [
    "BATCH_SIZE",
    "LR",
    "open_storage",
    "read_analyses",
    "read_info",
    "read_record",
    "read_records",
    "redacted",
    "study_url",
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
_PIECE = 40_000
_ATTEMPTS = 4
_SECONDS_BETWEEN_ATTEMPTS = 0.5
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


def open_storage(url: str) -> BaseStorage:
    """Open an Optuna storage by its address.

    Args:
        url: Any SQLAlchemy URL (`sqlite:///file.db`, `postgresql+psycopg://…`), `journal:///path/to/file.log`,
            `grpc://host:port`, or `memory://` for one that ends with the process. `${NAME}` is replaced by the
            environment variable; the password is never printed or stored.

    Raises:
        StorageError: It can't be opened; the message says what to do.
    """
    address = study_url(url)
    if address == "memory://":
        return optuna.storages.InMemoryStorage()
    try:
        if address.startswith("journal://"):
            from optuna.storages.journal import JournalFileBackend

            path = Path(address.removeprefix("journal://"))
            path.parent.mkdir(parents=True, exist_ok=True)
            return optuna.storages.JournalStorage(JournalFileBackend(str(path)))
        if address.startswith("grpc://"):
            host, _, port = address.removeprefix("grpc://").rstrip("/").partition(":")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.storages.GrpcStorageProxy(host=host, port=int(port or 13000))
        return _open_database(address)
    except StorageError:
        raise
    except ImportError as error:
        raise StorageError(
            f"the storage {redacted(url)} needs a driver that isn't installed ({error}). "
            "Install it, e.g. pip install 'bsopt[postgresql]', 'bsopt[mysql]' or 'bsopt[grpc]'."
        ) from error
    except Exception as error:
        raise StorageError(f"can't open the storage {redacted(url)}: {_first_line(error)}") from error


def study_url(url: str) -> str:
    """Return the address with `${NAME}` replaced from the environment.

    Raises:
        StorageError: A variable isn't set.
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise StorageError(f"the storage URL names the environment variable {name}, which isn't set.")
        return os.environ[name]

    return re.sub(r"\$\{(\w+)\}", value, url)


def redacted(url: str) -> str:
    """Return the address with its password as `***`, for people and logs.

    >>> redacted("postgresql+psycopg://me:secret@host/db")
    'postgresql+psycopg://me:***@host/db'
    """
    hidden = re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)
    return re.sub(r"([?&](?:password|passwd|pwd|token|secret)=)[^&]*", r"\1***", hidden, flags=re.IGNORECASE)


def write_record(trial: optuna.Trial, record: TrialRecord) -> None:
    """Store a trial's record; must come before the trial is told, since a finished one can't be written."""
    _write_long(trial, RECORD_KEY, {"format": FORMAT_VERSION, **record.as_dict()})


def read_record(study: optuna.Study, trial: FrozenTrial) -> TrialRecord:
    """Return a trial's record, or for a trial that isn't ours what Optuna keeps of it."""
    outcome = _OUTCOMES[trial.state]
    stored = _read_long(trial.user_attrs, RECORD_KEY)
    value = _value(study, trial)
    if stored is not None:
        record = TrialRecord.from_dict(stored)
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
    _write_long(study, INFO_KEY, {"format": FORMAT_VERSION, **info.as_dict()})


def read_info(study: optuna.Study) -> StudyInfo:
    """Return what the study searches; for a study that isn't ours what its trials tell."""
    stored = _read_long(study.user_attrs, INFO_KEY)
    if stored is not None:
        return StudyInfo.from_dict(stored)
    sizes: list[float] = []
    rates: list[float] = []
    for trial in study.get_trials(deepcopy=False):
        sizes += _range(trial.distributions.get(BATCH_SIZE))
        rates += _range(trial.distributions.get(LR))
    names = study.metric_names or ["value"]
    return StudyInfo(
        name=study.study_name,
        monitor=names[0],
        direction=_direction(study),
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


def _open_database(address: str) -> BaseStorage:
    from sqlalchemy import event

    is_sqlite = address.startswith("sqlite")
    if is_sqlite and address not in ("sqlite://", "sqlite:///:memory:"):
        path = Path(address.split("///", 1)[1].split("?")[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not os.access(path, os.W_OK):
            raise StorageError(f"the storage {path} is read-only: make it writable or choose another with --storage.")
        if not path.exists() and not os.access(path.parent, os.W_OK):
            raise StorageError(f"the folder {path.parent} is read-only: make it writable or choose another --storage.")
    options = {"connect_args": {"timeout": 60}} if is_sqlite else {"pool_pre_ping": True}
    storage = _with_tables(address, options)
    if is_sqlite:
        # pysqlite begins a transaction lazily and without a write lock, so two processes may read the same
        # waiting trial and both run it; BEGIN IMMEDIATE takes the lock first (SQLAlchemy: SQLite, "Serializable").
        @event.listens_for(storage.engine, "connect")
        def _no_implicit_begin(connection: Any, record: object) -> None:
            connection.isolation_level = None

        @event.listens_for(storage.engine, "begin")
        def _begin_immediate(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        storage.engine.dispose()
    return storage


def _with_tables(address: str, options: Mapping[str, Any]) -> optuna.storages.RDBStorage:
    """Open a database, making Optuna's tables where it is empty.

    When several hosts do so at once, all but one fail on a table that has just appeared, and find it the next time.
    """
    from sqlalchemy import exc

    for _ in range(_ATTEMPTS - 1):
        with contextlib.suppress(exc.IntegrityError, exc.ProgrammingError, exc.OperationalError):
            return optuna.storages.RDBStorage(address, engine_kwargs=dict(options))
        time.sleep(_SECONDS_BETWEEN_ATTEMPTS)
    return optuna.storages.RDBStorage(address, engine_kwargs=dict(options))


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
    sign = 1.0 if direction == "minimize" else -1.0
    return min(finite, key=lambda tick: sign * tick.value, default=None)


def _range(distribution: object) -> list[float]:
    if isinstance(distribution, (IntDistribution, FloatDistribution)):
        return [distribution.low, distribution.high]
    if isinstance(distribution, CategoricalDistribution):
        return [float(c) for c in distribution.choices if isinstance(c, (int, float))]
    return []


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
