"""Of several ranks' failures, the one that caused the others is told."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from bsopt.errors import InjectionError, PlanError
from bsopt.training.processes.crash import Crash, error_of, named_error
from bsopt.training.processes.rank import Message
from bsopt.trial.record import StopReason

ECHO = Message("error", error="RuntimeError", text="RuntimeError: [gloo] Connection closed by peer")
OWN = Message("error", error="ValueError", text="ValueError: bad batch (model.py, line 7)")
MEMORY = Message("error", error="OutOfMemoryError", text="OutOfMemoryError: CUDA out of memory")

TERMINATED = Message("error", error="SIGTERMException", text="SIGTERMException: 0")


def _crash(failures: dict[int, Message], *exit_codes: int | None) -> tuple[StopReason, str]:
    error = error_of(failures, dict(enumerate(exit_codes)), log_tail="the end")
    assert isinstance(error, Crash)
    assert error.log_tail == "the end"
    return error.reason, error.message


def test_an_error_comes_before_those_that_only_followed_from_it() -> None:
    assert _crash({0: ECHO, 1: OWN}, 1, 1) == (StopReason.FAILED, OWN.text)
    assert _crash({0: ECHO, 2: ECHO, 1: OWN}, 1, 1, 1) == (StopReason.FAILED, OWN.text)


def test_of_two_errors_the_one_that_came_first_is_told() -> None:
    assert _crash({1: OWN, 0: MEMORY}, 1, 1) == (StopReason.FAILED, OWN.text)
    assert _crash({0: MEMORY, 1: OWN}, 1, 1) == (StopReason.OUT_OF_MEMORY, MEMORY.text)


def test_a_rank_that_a_signal_killed_comes_before_every_error() -> None:
    reason, message = _crash({0: ECHO, 1: OWN}, 1, 1, -signal.SIGSEGV)
    assert (reason, message) == (StopReason.FAILED, "rank 2 died of a segmentation fault")
    assert _crash({0: ECHO}, 1, -signal.SIGKILL)[0] is StopReason.LOST


def test_an_abort_that_followed_another_ranks_end_is_not_told() -> None:
    assert _crash({}, -signal.SIGABRT, -signal.SIGTERM)[0] is StopReason.LOST
    assert _crash({0: TERMINATED}, 1, -signal.SIGABRT)[0] is StopReason.LOST
    assert _crash({0: OWN}, 1, -signal.SIGABRT) == (StopReason.FAILED, OWN.text)
    assert _crash({0: ECHO}, 1, -signal.SIGABRT) == (StopReason.FAILED, "rank 1 died of an abort")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_rank_that_somebody_killed_is_lost_and_no_proof_of_too_little_memory(number: int) -> None:
    reason, message = _crash({}, -number)
    assert (reason, "nothing says that memory ran out" in message) == (StopReason.LOST, True)
    assert _crash({}, 255)[0] is StopReason.LOST  # with its fork server
    assert _crash({0: TERMINATED}, 1)[0] is StopReason.LOST


@pytest.mark.parametrize(
    ("number", "evidence", "reason"),
    [
        (signal.SIGKILL, {"is_memory_short": True}, StopReason.OUT_OF_MEMORY),
        (signal.SIGKILL, {"log_tail": "DefaultCPUAllocator: can't allocate memory"}, StopReason.OUT_OF_MEMORY),
        (signal.SIGABRT, {"log_tail": "terminate called after ... std::bad_alloc"}, StopReason.OUT_OF_MEMORY),
        (signal.SIGTERM, {"is_memory_short": True}, StopReason.LOST),
    ],
)
def test_evidence_makes_a_kill_one_for_memory(number: int, evidence: dict[str, Any], reason: StopReason) -> None:
    error = error_of({}, {0: -number}, **evidence)
    assert isinstance(error, Crash)
    assert error.reason is reason


def test_a_rank_that_has_spoken_is_not_told_as_killed() -> None:
    assert _crash({0: OWN, 1: ECHO}, -signal.SIGKILL, 1) == (StopReason.FAILED, OWN.text)


def test_a_rank_that_left_without_a_word_comes_before_errors_that_followed() -> None:
    reason, message = _crash({0: ECHO}, 1, 3)
    assert (reason, message) == (StopReason.FAILED, "rank 1 exited with code 3 before the trial was over")
    assert _crash({0: OWN}, 1, 3) == (StopReason.FAILED, OWN.text)


def test_where_all_only_followed_the_first_is_told() -> None:
    assert _crash({1: ECHO, 0: ECHO}, 1, 1) == (StopReason.FAILED, ECHO.text)


def test_a_single_process_has_no_rank_number() -> None:
    assert _crash({}, 2)[1] == "the training process exited with code 2 before the trial was over"
    assert _crash({}, 0)[1] == "the training process ended before the trial was over"
    assert _crash({}, -signal.SIGABRT)[1] == "the training process died of an abort"


def test_the_users_mistakes_are_raised_as_what_they_were() -> None:
    mistake = Message("error", error="InjectionError", text="asked for 0.1")
    error = error_of({0: ECHO, 1: mistake}, {0: 1, 1: 1})
    assert isinstance(error, InjectionError)
    assert str(error) == "asked for 0.1"


@pytest.mark.parametrize("name", ["ValueError", "nearest", "difflib", "no such name", "BaseException"])
def test_only_our_own_errors_are_made_again(name: str) -> None:
    assert named_error(name, "text") is None
    assert isinstance(named_error("PlanError", "text"), PlanError)
