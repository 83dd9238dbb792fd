"""The table of all trials."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from bsopt.report.markup import Html, join, tag
from bsopt.trial.record import TrialRecord
from bsopt.visualization.study_data import StudyData, status_of

__all__ = ["trials_table"]


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    unit: str
    cell: Callable[[TrialRecord], str]
    key: Callable[[TrialRecord], float | str | None] | None = None


def trials_table(data: StudyData, *, table_id: str) -> Html:
    """Return every trial as a row, best first; columns that no trial fills are left out."""
    records = sorted(data.records, key=lambda record: _rank(record, data.sign))
    columns = [column for column in _columns(data) if any(column.cell(record) for record in records)]
    head = tag("tr", *(_head(column, is_sorted=column.title == data.info.objective.monitor) for column in columns))
    best = data.best
    rows = [_row(record, columns, is_best=best is not None and record.number == best.number) for record in records]
    table = tag("table", tag("thead", head), tag("tbody", *rows), id=table_id, class_="trials sortable")
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label="Trials")


def _rank(record: TrialRecord, sign: float) -> tuple[bool, float, int]:
    value = record.value if record.value is not None and math.isfinite(record.value) else math.inf * sign
    return record.outcome != "complete", sign * value, record.number


def _columns(data: StudyData) -> list[_Column]:
    value_name = data.info.objective.cost or data.info.objective.monitor
    others = sorted({name for record in data.records for name in record.params} - {"batch_size", "lr"})
    return [
        _Column("trial", "", lambda r: str(r.number), lambda r: r.number),
        _Column("ended", "", lambda r: r.ending),
        _Column("batch size", "samples", lambda r: _whole(r.batch_size), lambda r: r.batch_size),
        _Column("realised as", "", _plan),
        _Column("learning rate", "", lambda r: _short(r.lr), lambda r: r.lr),
        *[_Column(name, "", lambda r, n=name: _parameter(r, n), lambda r, n=name: _key(r, n)) for name in others],  # type: ignore[misc]
        _Column(value_name, "", lambda r: _short(r.value, 5), lambda r: r.value),
        _Column("best after", "samples", _best_after, lambda r: r.best.samples if r.best else None),
        _Column("epochs", "", lambda r: _short(_epochs(r), 3), _epochs),
        _Column("updates", "", lambda r: _whole(r.num_steps), lambda r: r.num_steps),
        _Column("time", "s", lambda r: _short(r.seconds, 3), lambda r: r.seconds),
        _Column("per epoch", "s", lambda r: _short(r.seconds_per_epoch, 3), lambda r: r.seconds_per_epoch),
        _Column("throughput", "samples/s", lambda r: _whole(r.samples_per_second), lambda r: r.samples_per_second),
        _Column("memory", "MB", lambda r: _megabytes(r.peak_memory_bytes), lambda r: r.peak_memory_bytes),
        _Column("energy", "J", lambda r: _short(r.energy_joules, 3), lambda r: r.energy_joules),
        _Column("device", "", lambda r: r.device or ""),
        _Column("seed", "", lambda r: str(r.seed) if r.seed is not None else "", lambda r: r.seed),
        _Column("why it ended, and warnings", "", lambda r: " ".join(filter(None, [r.message, *r.warnings]))),
    ]


def _head(column: _Column, *, is_sorted: bool) -> Html:
    unit = tag("small", f" [{column.unit}]") if column.unit else None
    return tag(
        "th",
        tag("button", column.title, unit, type="button"),
        scope="col",
        aria_sort="ascending" if is_sorted else None,
        class_="number" if column.key else None,
    )


def _row(record: TrialRecord, columns: list[_Column], *, is_best: bool) -> Html:
    cells = []
    for column in columns:
        key = column.key(record) if column.key else None
        text = column.cell(record)
        cells.append(tag("td", text or "–", class_="number" if column.key else None, data_v=_sortable(key)))
    status = status_of(record).value.replace(" ", "-")
    return tag("tr", join(*cells), class_=f"{status} best" if is_best else status)


def _sortable(key: float | str | None) -> str | None:
    if isinstance(key, (int, float)):
        return f"{key:.9g}" if math.isfinite(key) else None
    return key


def _plan(record: TrialRecord) -> str:
    plan = record.plan
    if plan is None or plan.accumulate_grad_batches * plan.world_size == 1:
        return ""
    return str(plan)


def _best_after(record: TrialRecord) -> str:
    return _whole(record.best.samples) if record.best else ""


def _epochs(record: TrialRecord) -> float | None:
    return record.ticks[-1].epoch if record.ticks else None


def _parameter(record: TrialRecord, name: str) -> str:
    value = record.params.get(name)
    return "" if value is None else (_short(value) if isinstance(value, float) else str(value))


def _key(record: TrialRecord, name: str) -> float | str | None:
    value = record.params.get(name)
    return value if isinstance(value, (int, float)) else (None if value is None else str(value))


def _whole(value: float | None) -> str:
    return f"{value:,.0f}" if value is not None and math.isfinite(value) else ""


def _short(value: float | None, digits: int = 3) -> str:
    if value is None:
        return ""
    return f"{value:.{digits}g}" if math.isfinite(value) else ("NaN" if math.isnan(value) else f"{value}")


def _megabytes(value: float | None) -> str:
    return f"{value / 1e6:,.0f}" if value is not None else ""
