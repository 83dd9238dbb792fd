"""A run's events as JSON, one object a line, for programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bsopt.cli.terminal.formatting import json_text
from bsopt.serialization import to_plain
from bsopt.trial.events import Listener, RunSummary, TrialStart
from bsopt.trial.record import StudyInfo, Tick, TrialRecord

__all__ = ["JsonLines"]


class JsonLines(Listener):
    """Writes an object with the key `event` for everything that happens; numbers that aren't finite are null.

    Args:
        write: Takes one line without its end.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def study_started(self, info: StudyInfo, *, done: int, total: int) -> None:
        self._event("study_started", study=info, done=done, total=total)

    def trial_started(self, start: TrialStart) -> None:
        self._event("trial_started", **to_plain(start))

    def ticked(self, number: int, tick: Tick) -> None:
        self._event("tick", number=number, **to_plain(tick))

    def trial_ended(self, record: TrialRecord) -> None:
        fields = to_plain(record)
        del fields["ticks"]  # they were told one by one
        self._event("trial_ended", **fields)

    def note(self, message: str) -> None:
        self._event("note", message=message)

    def study_ended(self, summary: RunSummary) -> None:
        self._event("study_ended", **to_plain(summary))

    def _event(self, event: str, **fields: Any) -> None:
        self._write(json_text({"event": event, **fields}, indent=None))
