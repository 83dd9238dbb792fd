"""Trials as flat rows, out to CSV and back in."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from bsopt.errors import ConfigError, nearest
from bsopt.serialization import to_plain
from bsopt.trial.record import TrialRecord

__all__ = ["Columns", "PastTrial", "PastTrials", "curve_rows", "read_past_trials", "trial_rows", "write_csv"]

_NOT_IN_ROWS = {"params", "ticks", "best_tick", "plan", "warnings", "measurements"}
"""Fields of a record that aren't one value, or stand in columns of their own."""
_UNFINISHED = {"pruned", "fail", "failed", "running", "waiting", "crashed", "killed", "preempted"}
"""What a column `state` says of a run whose value isn't that of a whole training: Optuna's words and W&B's."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a table hold what.

    Attributes:
        batch_size: Column of the global batch size.
        lr: Column of the learning rate.
        value: Column of the value.
        params: Column -> parameter name, for further parameters.
    """

    batch_size: str = "batch_size"
    lr: str = "lr"
    value: str = "value"
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PastTrial:
    """A run that was made elsewhere.

    Attributes:
        params: `batch_size`, `lr` and further parameters.
        value: What came out.
    """

    params: Mapping[str, int | float | str]
    value: float


@dataclass(frozen=True, slots=True)
class PastTrials:
    """A table that was read.

    Attributes:
        trials: One for each usable row.
        skipped: For each other row, its line number and why.
    """

    trials: tuple[PastTrial, ...]
    skipped: tuple[str, ...]


def trial_rows(records: Iterable[TrialRecord]) -> list[dict[str, Any]]:
    """Return one flat row per trial: the record's fields, `params.*`, `plan.*`, and `best.*` for its best tick."""
    rows = []
    for record in records:
        row = {f.name: to_plain(getattr(record, f.name)) for f in fields(record) if f.name not in _NOT_IN_ROWS}
        row.update({f"params.{name}": value for name, value in record.further.items()})
        if record.plan is not None:
            row.update({f"plan.{name}": value for name, value in to_plain(record.plan).items()})
        if record.best is not None:
            row.update({f"best.{name}": getattr(record.best, name) for name in ("index", "epoch", "samples", "step")})
        rows.append(row)
    return rows


def curve_rows(records: Iterable[TrialRecord]) -> list[dict[str, Any]]:
    """Return one flat row per validation of each trial, with every metric as `metrics.*`."""
    return [
        {
            "number": record.number,
            "batch_size": record.batch_size,
            "trial_lr": record.lr,
            **{name: getattr(tick, name) for name in ("index", "samples", "step", "epoch", "seconds", "value", "lr")},
            **{f"metrics.{name}": value for name, value in tick.metrics.items()},
        }
        for record in records
        for tick in record.ticks
    ]


def write_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV with a header of every key, in order of first appearance."""
    header = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
    return text.getvalue()


def read_past_trials(text: str, columns: Columns) -> PastTrials:
    """Read a table of runs.

    Rows without a finite value are left out, and so are those that aren't complete, where a column `outcome` as
    `bsopt study export` writes it or a column `state` as Optuna's `trials_dataframe` does says so.

    Args:
        text: CSV with a header; a semicolon or a tab may stand for the comma.
        columns: Which columns hold what.

    Raises:
        ConfigError: There is no such column, or a row holds what can't be.
    """
    reader = csv.DictReader(io.StringIO(text), delimiter=_delimiter(text), skipinitialspace=True)
    header = list(reader.fieldnames or ())
    for column in (columns.batch_size, columns.lr, columns.value, *columns.params):
        if column not in header:
            raise ConfigError(
                f"the table has no column {column!r}; it has {', '.join(header) or 'none'}.{nearest(column, header)}"
            )
    trials, skipped = [], []
    for row in reader:
        line = reader.line_num
        outcome = _outcome(row)
        value = _number(row[columns.value], column=columns.value, line=line, empty=math.nan)
        if outcome != "complete":
            skipped.append(f"line {line}: it is {outcome}")
        elif not math.isfinite(value):
            skipped.append(f"line {line}: no finite {columns.value}")
        else:
            trials.append(PastTrial(_params(row, columns, line), value))
    return PastTrials(tuple(trials), tuple(skipped))


def _outcome(row: Mapping[str, str | None]) -> str:
    """Return how a run ended, in small letters; "complete" where the row doesn't say otherwise."""
    told = {str(name).strip().lower(): str(text or "").strip().lower() for name, text in row.items()}
    state = told.get("state", "").rpartition(".")[-1]  # "TrialState.PRUNED", as some programs write it
    return told.get("outcome") or (state if state in _UNFINISHED else "complete")


def _params(row: Mapping[str, str | None], columns: Columns, line: int) -> dict[str, int | float | str]:
    size = _number(row[columns.batch_size], column=columns.batch_size, line=line)
    lr = _number(row[columns.lr], column=columns.lr, line=line)
    if size < 1 or size != int(size):
        raise ConfigError(f"line {line}: {columns.batch_size} must be a whole number of at least 1, got {size:g}.")
    if not (lr > 0 and math.isfinite(lr)):
        raise ConfigError(f"line {line}: {columns.lr} must be positive, got {lr:g}.")
    params: dict[str, int | float | str] = {"batch_size": int(size), "lr": lr}
    for column, name in columns.params.items():
        text = (row[column] or "").strip()
        if text:
            params[name] = _literal(text)
    return params


def _number(text: str | None, *, column: str, line: int, empty: float | None = None) -> float:
    stripped = (text or "").strip()
    if not stripped and empty is not None:
        return empty
    try:
        return float(stripped)
    except ValueError as error:
        raise ConfigError(f"line {line}: {column} must be a number, got {stripped!r}.") from error


def _literal(text: str) -> int | float | str:
    if re.fullmatch(r"[-+]?\d+", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text


def _delimiter(text: str) -> Literal[",", ";", "\t"]:
    header = text.split("\n", 1)[0]
    if "\t" in header:
        return "\t"
    return ";" if ";" in header and "," not in header else ","
