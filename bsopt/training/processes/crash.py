"""A trial that ended without a record: what is raised, and which of several ranks' failures it tells."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from enum import IntEnum

from bsopt import errors
from bsopt.errors import BsoptError
from bsopt.training.error_text import says_out_of_memory
from bsopt.training.processes.rank import Message
from bsopt.trial.record import StopReason

__all__ = ["Crash", "error_of", "is_echo", "named_error"]

_ECHOES = ("Connection closed by peer", "Connection reset by peer", "gloo", "NCCL", "ProcessGroup", "Broken pipe")
_OUTSIDE = {"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGXCPU"}
"""Signals that somebody sends; those that a program raises itself are its failure."""
_NO_WORD = 255
"""The exit code of a rank whose fork server was killed, and nobody is left who knows the true one."""
_LOSSES = ("SIGTERMException", "StaleStateError")
"""Errors of trials that are run again: Lightning's at SIGTERM, ours where a state can't be gone on from."""
_SIGNALS = {"SIGSEGV": "a segmentation fault", "SIGABRT": "an abort", "SIGBUS": "a bus error"}


class Crash(Exception):  # noqa: N818  (an event of the trial, not a mistake of the caller)
    """A trial ended without a record.

    Attributes:
        reason: failed, out_of_memory, interrupted, or lost where somebody killed it.
        message: Why, in a sentence.
        log_tail: The last lines of the trial's log.
        ends_study: Whether no further trial can be run, since ranks on other nodes are gone.
    """

    def __init__(self, reason: StopReason, message: str, *, log_tail: str = "", ends_study: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.log_tail = log_tail
        self.ends_study = ends_study

    @property
    def full_message(self) -> str:
        """The message with the last lines of the log."""
        return self.message + (f"\nthe last lines of its log:\n{self.log_tail}" if self.log_tail else "")


def error_of(
    failures: Mapping[int, Message],
    exit_codes: Mapping[int, int | None],
    *,
    log_tail: str = "",
    is_memory_short: bool = False,
) -> BsoptError | Crash:
    """Return the failure that made a trial's ranks end, and not one of those that only followed from it.

    When a rank ends, the others fail too, with errors of communication that say nothing of the cause, or abort.

    Args:
        failures: Rank -> its error, in the order in which they came; without the ranks that said none.
        exit_codes: Rank -> exit code, negative for a signal; None while it runs. All of the ranks, in order.
        log_tail: The last lines of the trial's log.
        is_memory_short: Whether there is evidence that memory ran out; a kill alone is none.
    """

    def name(rank: int) -> str:
        return "the training process" if len(exit_codes) == 1 else f"rank {rank}"

    def ended(cause: _Cause, reason: StopReason, message: str) -> tuple[_Cause, BsoptError | Crash]:
        return cause, Crash(reason, message, log_tail=log_tail)

    ends = [
        ended(*_silent_end(name(rank), code, is_memory_short=is_memory_short, log_tail=log_tail))
        for rank, code in exit_codes.items()
        if code and rank not in failures
    ]
    for message in failures.values():
        cause, reason = _told_end(message)
        mistake = named_error(message.error, message.text)
        ends.append((cause, mistake) if mistake else ended(cause, reason, message.text))
    ends.append(ended(_Cause.NONE, StopReason.FAILED, "the training process ended before the trial was over"))
    return min(ends, key=lambda end: end[0])[1]


class _Cause(IntEnum):
    """How a rank ended, from what causes the other ranks' ends to what only follows from them."""

    OUTSIDE = 0
    SIGNAL = 1
    ERROR = 2
    ABORT = 3
    EXIT = 4
    ECHO = 5
    NONE = 6


def _silent_end(who: str, code: int, *, is_memory_short: bool, log_tail: str) -> tuple[_Cause, StopReason, str]:
    """Return why a rank that said nothing ended: for want of memory, by somebody's hand, or by its own fault."""
    if code == _NO_WORD:
        return _Cause.OUTSIDE, StopReason.LOST, f"{who} is gone, and the server that started it with it"
    if code > 0:
        return _Cause.EXIT, StopReason.FAILED, f"{who} exited with code {code} before the trial was over"
    word = signal.Signals(-code).name
    says_short = says_out_of_memory("", log_tail) or "std::bad_alloc" in log_tail
    if (word == "SIGKILL" and is_memory_short) or (word in ("SIGKILL", "SIGABRT") and says_short):
        return _Cause.OUTSIDE, StopReason.OUT_OF_MEMORY, f"{who} was ended by the system when memory ran out"
    if word in _OUTSIDE:
        return _Cause.OUTSIDE, StopReason.LOST, f"{who} was killed ({word}), and nothing says that memory ran out"
    cause = _Cause.ABORT if word == "SIGABRT" else _Cause.SIGNAL
    return cause, StopReason.FAILED, f"{who} died of {_SIGNALS.get(word, word)}"


def _told_end(message: Message) -> tuple[_Cause, StopReason]:
    """Return why a rank that raised an error ended."""
    if message.error in _LOSSES:
        return _Cause.OUTSIDE, StopReason.LOST
    is_memory = says_out_of_memory(message.error, message.text)
    cause = _Cause.ECHO if is_echo(message.text) else _Cause.ERROR
    return cause, StopReason.OUT_OF_MEMORY if is_memory else StopReason.FAILED


def named_error(name: str, text: str) -> BsoptError | None:
    """Return one of bsopt's own errors, made again from its class's name and its text; None for another name."""
    kind = getattr(errors, name, None)
    return kind(text) if isinstance(kind, type) and issubclass(kind, BsoptError) else None


def is_echo(text: str) -> bool:
    """Return whether an error only says that another rank is gone."""
    return any(sign in text for sign in _ECHOES)
