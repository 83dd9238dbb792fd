"""The table of all trials: sorted, filtered and saved as CSV in the page itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from bsopt.report.boxes import framed
from bsopt.report.markup import Html, join, tag
from bsopt.trial.record import TrialRecord
from bsopt.units import count_of, digits_telling
from bsopt.visualization.study_data import StudyData, status_of

__all__ = ["trials_table"]


MOST_PARAMETERS = 3
"""Further parameters that have a column from the start; the others come with all columns."""


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the table.

    Attributes:
        title: Its heading.
        name: The same in a CSV file, as `bsopt study export` names it.
        cell: What people read; empty where there is nothing.
        key: What the column is sorted by and what a CSV file holds; None for the text itself.
        unit: Of the cells, in the heading.
        shown: "always", "wide" where a row has the room for it, or "all" with all columns.
        is_text: Whether it is read rather than compared.
    """

    title: str
    name: str
    cell: Callable[[TrialRecord], str]
    key: Callable[[TrialRecord], float | str | None] | None = None
    unit: str = ""
    shown: Literal["always", "wide", "all"] = "always"
    is_text: bool = False

    @property
    def classes(self) -> str | None:
        names = [] if self.shown == "always" else [self.shown]
        return " ".join([*names, "words" if self.is_text else "number"])


def trials_table(data: StudyData, *, table_id: str) -> Html:
    """Return every trial as a row, best first, with what filters them; columns that no trial fills are left out."""
    records = sorted(data.records, key=lambda record: _rank(record, data.sign))
    columns = [column for column in _columns(data) if any(column.cell(record) for record in records)]
    value_name = data.info.objective.cost or data.info.objective.monitor
    head = tag("tr", *(_head(column, is_sorted=column.title == value_name) for column in columns))
    best = data.best
    rows = [_row(record, columns, is_best=best is not None and record.number == best.number) for record in records]
    file = f"{data.info.folder.name}-trials.csv"
    table = tag("table", tag("thead", head), tag("tbody", *rows), id=table_id, class_="trials sortable", data_file=file)
    filters = _filters(records, table_id, has_more=any(column.shown != "always" for column in columns))
    return join(filters, framed(table, label="Every trial", class_="tall"))


def _filters(records: Sequence[TrialRecord], table_id: str, *, has_more: bool) -> Html:
    """Return the controls above the table; without JavaScript they aren't shown."""
    endings = Counter(record.ending for record in records)
    sizes = Counter(record.batch_size for record in records if record.batch_size)
    more = tag("label", tag("input", type="checkbox", data_all=True), " all columns")
    return tag(
        "div",
        tag("label", "search ", tag("input", type="search", data_search=True, placeholder="reason, number")),
        _select("ended", "ending", [(name, f"{name} ({count})") for name, count in endings.most_common()]),
        _select("batch size", "size", [(str(size), f"{size:,} ({sizes[size]})") for size in sorted(sizes)]),
        more if has_more else None,
        tag("button", "Download CSV", type="button", class_="plain", data_csv=True),
        tag("output", count_of(len(records), "trial"), aria_live="polite"),
        class_="filters",
        data_for=table_id,
        role="search",
        aria_label="Which trials to show",
    )


def _select(title: str, name: str, choices: Sequence[tuple[str, str]]) -> Html:
    options = [tag("option", "any", value=""), *(tag("option", words, value=value) for value, words in choices)]
    return tag("label", f"{title} ", tag("select", *options, data_by=name))


def _rank(record: TrialRecord, sign: float) -> tuple[bool, float, int]:
    value = record.value if record.value is not None and math.isfinite(record.value) else math.inf * sign
    return record.outcome != "complete", sign * value, record.number


def _columns(data: StudyData) -> list[_Column]:
    value_name = data.info.objective.cost or data.info.objective.monitor
    digits = _value_digits(data)
    others = sorted({name for record in data.records for name in record.further})
    return [
        _Column("trial", "number", lambda r: str(r.number), lambda r: r.number),
        _Column("ended", "stop_reason", lambda r: r.ending, _stop_reason, is_text=True),
        _Column("batch size", "batch_size", lambda r: _whole(r.batch_size), lambda r: r.batch_size),
        _Column("learning rate", "lr", lambda r: _short(r.lr), lambda r: r.lr),
        *[_parameter_column(name, shown="wide" if i < MOST_PARAMETERS else "all") for i, name in enumerate(others)],
        _Column(value_name, "value", lambda r: _short(r.value, digits), lambda r: r.value),
        _Column("epochs", "epochs", lambda r: _short(_epochs(r), 3), _epochs, shown="wide"),
        _Column("time", "seconds", lambda r: _short(r.seconds, 3), lambda r: r.seconds, "s", "wide"),
        _Column("why", "message", _why, is_text=True),
        _Column("realised as", "plan", _plan, shown="all", is_text=True),
        _Column("best after", "best.samples", lambda r: _whole(_best_samples(r)), _best_samples, "samples", "all"),
        _Column("updates", "num_steps", lambda r: _whole(r.num_steps), lambda r: r.num_steps, "", "all"),
        _Column("per epoch", "seconds_per_epoch", lambda r: _short(r.seconds_per_epoch), lambda r: r.seconds_per_epoch,
                "s", "all"),
        _Column("throughput", "samples_per_second", lambda r: _whole(r.samples_per_second),
                lambda r: r.samples_per_second, "samples/s", "all"),
        _Column("memory", "peak_memory_bytes", lambda r: _megabytes(r.peak_memory_bytes),
                lambda r: r.peak_memory_bytes, "MB", "all"),
        _Column("energy", "energy_joules", lambda r: _short(r.energy_joules, 3), lambda r: r.energy_joules, "J", "all"),
        _Column("device", "device", lambda r: r.device or "", shown="all", is_text=True),
        _Column("seed", "seed", lambda r: str(r.seed) if r.seed is not None else "", lambda r: r.seed, "", "all"),
    ]  # fmt: skip


def _value_digits(data: StudyData) -> int:
    """Return the digits that tell the better half of the values apart."""
    values = sorted(data.rank(record) for record in data.records if record.has_value)
    return digits_telling(values[0], median(values), digits=5) if values else 5


def _parameter_column(name: str, *, shown: Literal["wide", "all"]) -> _Column:
    return _Column(name, f"params.{name}", lambda r: _parameter(r, name), lambda r: _key(r, name), shown=shown)


def _head(column: _Column, *, is_sorted: bool) -> Html:
    unit = tag("small", f" [{column.unit}]") if column.unit else None
    return tag(
        "th",
        tag("button", column.title, unit, type="button"),
        scope="col",
        aria_sort="ascending" if is_sorted else None,
        class_=column.classes,
        data_name=column.name,
    )


def _row(record: TrialRecord, columns: list[_Column], *, is_best: bool) -> Html:
    cells = []
    for column in columns:
        key = _sortable(column.key(record)) if column.key else None
        text = column.cell(record)
        cells.append(tag("td", text or "–", class_=column.classes, data_v=key, data_label=column.title))
    status = status_of(record).value.replace(" ", "-")
    return tag(
        "tr",
        join(*cells),
        class_=f"{status} best" if is_best else status,
        data_outcome=record.outcome,
        data_ending=record.ending,
        data_size=record.batch_size,
    )


def _sortable(key: float | str | None) -> str | None:
    if isinstance(key, (int, float)):
        return f"{key:.9g}" if math.isfinite(key) else None
    return key


def _stop_reason(record: TrialRecord) -> str:
    return record.stop_reason.value if record.stop_reason else record.outcome


def _why(record: TrialRecord) -> str:
    return " ".join(filter(None, [record.message, *record.warnings]))


def _plan(record: TrialRecord) -> str:
    plan = record.plan
    if plan is None or plan.accumulate_grad_batches * plan.world_size == 1:
        return ""
    return str(plan)


def _best_samples(record: TrialRecord) -> float | None:
    return record.best.samples if record.best else None


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
