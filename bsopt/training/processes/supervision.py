"""How a trial is watched by who has started it: the same for a trial in this process and one in its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bsopt.trial.record import StopReason, Tick
from bsopt.trial.spec import StopDecision

__all__ = ["DirectChannel", "Supervision"]


@dataclass(frozen=True, slots=True)
class Supervision:
    """How a trial is watched; by default it isn't, and trains to its end.

    Attributes:
        on_tick: Receives each tick and returns whether the trial goes on.
        is_cancelled: Whether the trial should be ended now.
        on_idle: Called about twice a second while the trial runs.
        on_progress: Receives what a call that reports progress has done, and out of how much.
        grace_seconds: How long a cancelled trial in a process of its own may train on to its next validation, where its
            state is kept.
        stall_seconds: Longest time that no rank may say anything; then the trial is ended as failed.
    """

    on_tick: Callable[[Tick], StopDecision] = lambda tick: StopDecision()
    is_cancelled: Callable[[], bool] = lambda: False
    on_idle: Callable[[], None] = lambda: None
    on_progress: Callable[[int, int], None] = lambda done, total: None
    grace_seconds: float = 0.0
    stall_seconds: float = 1800.0

    def answer(self, tick: Tick) -> StopDecision:
        """Return whether the trial goes on after a tick, which it doesn't where it is cancelled."""
        answer = self.on_tick(tick)
        if not answer.is_stop and self.is_cancelled():
            return StopDecision(StopReason.INTERRUPTED, "interrupted")
        return answer


class DirectChannel:
    """The channel of a trial that runs in this process: whoever supervises it hears each word at once."""

    def __init__(self, supervision: Supervision) -> None:
        self._supervision = supervision

    def tick(self, tick: Tick) -> StopDecision:
        """Tell a tick and return the answer."""
        return self._supervision.answer(tick)

    def is_cancelled(self) -> bool:
        """Return whether the trial should end now."""
        self._supervision.on_idle()
        return self._supervision.is_cancelled()

    def progress(self, done: int, total: int) -> None:
        """Tell how far a call is that reports progress."""
        self._supervision.on_progress(done, total)
