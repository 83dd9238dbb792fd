"""Whether an error is the storage's, whether it may pass by itself, and what people are told of it."""

from __future__ import annotations

import errno
import os

import optuna

from bsopt.errors import DISK_ERRNOS, StorageFailedError
from bsopt.storage.addresses import file_of, redacted, without_secrets

__all__ = ["DamagedJournalError", "as_storage_failure", "is_passing", "last_line_of"]

_DRIVERS = ("sqlalchemy", "sqlite3", "psycopg", "pymysql", "MySQLdb", "mysql", "asyncpg", "grpc")
_PASSING_ERRNOS = DISK_ERRNOS | {errno.ETIMEDOUT}
_PASSING_CLASSES = {"OperationalError", "InterfaceError", "TimeoutError", "DisconnectionError", "InternalError"}
_PASSING_CODES = {"UNAVAILABLE", "UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED"}
_FILE_GONE = ("readonly database", "unable to open", "No such file")  # what SQLite and the system say of it
_USERS = ("password authentication failed", "access denied", "no such table", "no such column")


class DamagedJournalError(Exception):
    """A journal holds what Optuna can't read; the message names the line."""


def is_passing(error: BaseException) -> bool:
    """Return whether what a storage raised may pass: a server that restarts, a full disk, a lost connection."""
    cause = _cause_of(error)
    if isinstance(cause, OSError):
        return cause.errno in _PASSING_ERRNOS
    kind = type(cause)
    if kind.__module__.startswith("grpc"):
        return _grpc_code(cause) in _PASSING_CODES
    is_users = any(text in str(cause).lower() for text in _USERS)
    return _is_drivers(cause) and kind.__name__ in _PASSING_CLASSES and not is_users


def as_storage_failure(error: BaseException, storage: str, *, is_of_storage: bool = False) -> StorageFailedError | None:
    """Return what a storage raised as our own error; None where it isn't the storage's.

    Args:
        error: As it was caught.
        storage: The storage's address.
        is_of_storage: Whether it came from the storage, so that an error of the system, which says nothing of where
            it comes from, is its.
    """
    cause = _cause_of(error)
    is_internal = isinstance(error, (optuna.exceptions.StorageInternalError, DamagedJournalError))
    if not (_is_drivers(cause) or is_internal or (is_of_storage and isinstance(cause, OSError))):
        return None
    why = without_secrets(last_line_of(cause), storage)
    kept = "What was measured is kept; once the storage works again, run the same command again."
    file = file_of(storage)
    if file is not None and any(sign in why for sign in _FILE_GONE) and not os.path.exists(file):
        why, kept = "its file is gone", "Put it or a copy of it back, and run the same command again."
    failure = StorageFailedError(f"the storage {redacted(storage)} failed: {why}. {kept}")
    failure.__cause__ = error
    return failure


def last_line_of(error: BaseException) -> str:
    """Return what a driver's error says in a line, without SQLAlchemy's remarks and SQL."""
    if type(error).__module__.startswith("grpc") and callable(getattr(error, "details", None)):
        return f"gRPC {_grpc_code(error)}: {error.details()}"  # type: ignore[attr-defined]
    said = getattr(error, "orig", None) or error
    lines = [line.strip() for line in str(said).strip().splitlines() if line.strip()]
    return (lines[0] if lines else type(said).__name__).rstrip(".")


def _cause_of(error: BaseException) -> BaseException:
    """Return the driver's error under Optuna's."""
    is_optunas = isinstance(error, optuna.exceptions.StorageInternalError)
    return error.__cause__ if is_optunas and error.__cause__ is not None else error


def _is_drivers(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in _DRIVERS


def _grpc_code(error: BaseException) -> str:
    code = getattr(error, "code", None)
    return str(getattr(code(), "name", code())) if callable(code) else ""
