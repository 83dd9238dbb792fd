"""Optuna's storages by their address: opened, checked, and named without passwords."""

from __future__ import annotations

import contextlib
import logging
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage

from bsopt.errors import BsoptError, StorageError, StorageFailedError
from bsopt.storage.addresses import file_of, redacted, study_url, without_secrets
from bsopt.storage.failures import DamagedJournalError, is_passing, last_line_of
from bsopt.storage.journal import Journal
from bsopt.storage.optuna_internals import with_cache
from bsopt.storage.patience import patient, wait_seconds

__all__ = ["open_storage", "redacted", "study_url"]

_log = logging.getLogger(__name__)
_ATTEMPTS = 4
_SECONDS_BETWEEN_ATTEMPTS = 0.5
_SECONDS_TO_CONNECT = 10
_SOON_READY = (  # what a server says that is there, but not for us yet
    "starting up",
    "shutting down",
    "recovery mode",
    "accepting connections",
    "too many clients",
    "too many connections",
    "connection slots",
)
_NO_ANSWER = ("refused", "timeout", "timed out", "closed the connection", "unreachable", *_SOON_READY)
_DAMAGED = ("malformed", "is not a database")
_DISK_FAILS = "disk I/O error"


def open_storage(url: str) -> BaseStorage:
    """Open an Optuna storage by its address.

    A server that is starting is waited for. What passes by itself later on (a database that restarts, a full disk) is
    waited out: see `bsopt.storage.patience`.

    Args:
        url: Any SQLAlchemy URL (`sqlite:///file.db`, `postgresql+psycopg://…`), `journal:///path/to/file.log`,
            `grpc://host:port`, or `memory://` for one that ends with the process. `${NAME}` is replaced by the
            environment variable, and `@FILE` stands for what that file says; the password is never printed or stored.

    Raises:
        StorageError: It can't be opened; the message says what to do.
        StorageFailedError: It doesn't answer, or is damaged.
        ConfigError: `BSOPT_STORAGE_WAIT` is no number of seconds.
    """
    address = study_url(url)
    if address == "memory://":
        return optuna.storages.InMemoryStorage()
    try:
        return patient(_opened_once_ready(address, url), url)
    except BsoptError:
        raise
    except ImportError as error:
        raise StorageError(
            f"the storage {redacted(url)} needs a driver that isn't installed ({error.__cause__ or error}). "
            "Install it, e.g. pip install 'bsopt[postgresql]', 'bsopt[mysql]' or 'bsopt[grpc]'."
        ) from error
    except Exception as error:
        raise _as_told(error, url) from error


def _opened_once_ready(address: str, url: str) -> BaseStorage:
    """Open a storage, and wait for a server that says that it is starting or has too many clients."""
    until, is_told = time.monotonic() + wait_seconds(), False
    while True:
        try:
            return _opened(address)
        except Exception as error:
            why = without_secrets(last_line_of(error), url)
            if time.monotonic() > until or not any(sign in why.lower() for sign in _SOON_READY):
                raise
            if not is_told:
                _log.warning("the storage %s isn't ready (%s); waiting for it", redacted(url), why)
            is_told = True
        time.sleep(_SECONDS_BETWEEN_ATTEMPTS)


def _opened(address: str) -> BaseStorage:
    path = file_of(address)
    if address.startswith("journal://") and path is not None:
        _refuse_folder(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return optuna.storages.JournalStorage(Journal(path))
    if address.startswith("grpc://"):
        host, _, port = address.removeprefix("grpc://").rstrip("/").partition(":")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            proxy = optuna.storages.GrpcStorageProxy(host=host, port=int(port or 13000))
        proxy.wait_server_ready(_SECONDS_TO_CONNECT)
        return proxy
    return with_cache(_open_database(address))


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise StorageError(f"the storage {path} is a folder: name a file in it, e.g. {path / 'study.db'}.")


def _as_told(error: Exception, url: str) -> StorageError:
    """Return why a storage can't be opened; never with the text of an error that quotes pieces of the address."""
    if isinstance(error, DamagedJournalError):
        return StorageFailedError(f"the storage {redacted(url)} is damaged: {error}.")
    text = without_secrets(last_line_of(error), url)
    if type(error).__name__ in ("ArgumentError", "ValueError", "NoSuchModuleError"):
        text = (
            "that is no address of a storage; write e.g. sqlite:///file.db or postgresql+psycopg://user@host/database"
        )
    message = f"can't open the storage {redacted(url)}: {text}"
    is_silent = is_passing(error) or isinstance(error, ConnectionError)
    if is_silent and any(sign in text.lower() for sign in _NO_ANSWER):
        return StorageFailedError(f"{message}. Once it answers, run the same command again.")
    if any(sign in text for sign in _DAMAGED):
        return StorageFailedError(f"{message}. Restore it from a copy, or choose another with --storage.")
    return StorageFailedError(message) if _DISK_FAILS in text else StorageError(message)


def _open_database(address: str) -> optuna.storages.RDBStorage:
    from sqlalchemy import event

    is_sqlite = address.startswith("sqlite")
    if (path := file_of(address)) is not None:
        _refuse_folder(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not os.access(path, os.W_OK):
            raise StorageError(f"the storage {path} is read-only: make it writable or choose another with --storage.")
        if not path.exists() and not os.access(path.parent, os.W_OK):
            raise StorageError(f"the folder {path.parent} is read-only: make it writable or choose another --storage.")
    options: dict[str, Any] = {"connect_args": {"timeout": 60}} if is_sqlite else {"pool_pre_ping": True}
    if address.startswith("postgresql") and "connect_timeout" not in address:
        options["connect_args"] = {"connect_timeout": _SECONDS_TO_CONNECT}  # a silent host would take minutes
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

    began = time.monotonic()
    for _ in range(_ATTEMPTS - 1):
        if time.monotonic() - began > _SECONDS_TO_CONNECT:
            break  # nobody answers
        with contextlib.suppress(exc.IntegrityError, exc.ProgrammingError, exc.OperationalError):
            return optuna.storages.RDBStorage(address, engine_kwargs=dict(options))
        time.sleep(_SECONDS_BETWEEN_ATTEMPTS)
    return optuna.storages.RDBStorage(address, engine_kwargs=dict(options))
