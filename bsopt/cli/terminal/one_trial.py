"""One trial in full, and why trials failed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone

from bsopt.cli.terminal.formatting import sparkline
from bsopt.trial.record import StopReason, StudyInfo, TrialRecord
from bsopt.units import count_of, format_bytes, format_duration, format_number

__all__ = ["facts_of", "failures"]

CURVE_WIDTH = 40
_LOST = (StopReason.FAILED, StopReason.DIVERGED, StopReason.OUT_OF_MEMORY)


def facts_of(record: TrialRecord, info: StudyInfo, *, log: str | None = None) -> list[tuple[str, str]]:
    """Return all that is known of a trial, a name and a value each; what wasn't measured is left out.

    Args:
        record: The trial.
        info: Its study.
        log: Path of its log, where there is one.
    """
    best, last = record.best, record.ticks[-1] if record.ticks else None
    plan = f"{record.plan}{f': {record.plan.reason}' if record.plan.reason else ''}" if record.plan else None
    plan = None if plan == str(record.batch_size) else plan  # one pass on one device
    monitor = info.objective.monitor
    trained = last and (f"{format_number(last.epoch, digits=3, thousands=True)} epochs" if last.epoch else last.where)
    found = [
        ("ended", record.ending),
        ("why", record.message),
        *(("warning", warning) for warning in record.warnings),
        ("batch size", str(record.batch_size) if record.batch_size is not None else None),
        ("realised as", plan),
        ("learning rate", format_number(record.lr) if record.lr is not None else None),
        *((name, format_number(v) if isinstance(v, float) else str(v)) for name, v in record.further.items()),
        ("repeats", f"trial {record.confirms}" if record.confirms is not None else None),
        (info.objective.value_name, format_number(record.value, digits=5) if record.value is not None else None),
        (f"best {monitor}", f"{best.value:.5g} at {best.where}, update {best.step:,}" if best else None),
        ("curve", sparkline([tick.value for tick in record.ticks], width=CURVE_WIDTH)),
        *_other_metrics(record, monitor),
        ("trained", f"{trained}, {count_of(record.num_steps or last.step, 'update')}" if last else None),
        ("time", format_duration(record.seconds) if record.seconds is not None else None),
        ("per epoch", format_duration(record.seconds_per_epoch) if record.seconds_per_epoch is not None else None),
        ("throughput", f"{record.samples_per_second:,.0f} samples/s" if record.samples_per_second else None),
        ("memory", format_bytes(record.peak_memory_bytes) if record.peak_memory_bytes is not None else None),
        ("energy", f"{record.energy_joules:,.0f} J" if record.energy_joules is not None else None),
        ("device", record.device),
        ("precision", record.precision),
        ("seed", str(record.seed) if record.seed is not None else None),
        ("started", _when(record.started) if record.started is not None else None),
        ("measured", ", ".join(record.measurements)),
        ("log", log),
    ]
    return [(name, value) for name, value in found if value]


def failures(records: Iterable[TrialRecord]) -> list[tuple[str, list[int]]]:
    """Return why trials failed, diverged or ran out of memory: each reason with the trials that it ended."""
    found: dict[str, list[int]] = {}
    for record in records:
        if record.outcome == "fail" or record.stop_reason in _LOST:
            reason = f"{record.ending}: {record.message}" if record.message else record.ending
            found.setdefault(reason, []).append(record.number)
    return list(found.items())


def _other_metrics(record: TrialRecord, monitor: str) -> list[tuple[str, str]]:
    """Return what the module logged beside the metric, at the best validation."""
    best = record.best
    if best is None:
        return []
    return [(name, f"{format_number(value)} at the best") for name, value in best.metrics.items() if name != monitor]


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
