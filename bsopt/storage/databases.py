"""Optuna's storages by their address: opened, checked, and named without passwords."""

from __future__ import annotations

import contextlib
import os
import re
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage

from bsopt.errors import StorageError

__all__ = ["open_storage", "redacted", "study_url"]

_ATTEMPTS = 4
_SECONDS_BETWEEN_ATTEMPTS = 0.5


def open_storage(url: str) -> BaseStorage:
    """Open an Optuna storage by its address.

    Args:
        url: Any SQLAlchemy URL (`sqlite:///file.db`, `postgresql+psycopg://…`), `journal:///path/to/file.log`,
            `grpc://host:port`, or `memory://` for one that ends with the process. `${NAME}` is replaced by the
            environment variable; the password is never printed or stored.

    Raises:
        StorageError: It can't be opened; the message says what to do.
    """
    address = study_url(url)
    if address == "memory://":
        return optuna.storages.InMemoryStorage()
    try:
        if address.startswith("journal://"):
            from optuna.storages.journal import JournalFileBackend

            path = Path(address.removeprefix("journal://"))
            path.parent.mkdir(parents=True, exist_ok=True)
            return optuna.storages.JournalStorage(JournalFileBackend(str(path)))
        if address.startswith("grpc://"):
            host, _, port = address.removeprefix("grpc://").rstrip("/").partition(":")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.storages.GrpcStorageProxy(host=host, port=int(port or 13000))
        return _open_database(address)
    except StorageError:
        raise
    except ImportError as error:
        raise StorageError(
            f"the storage {redacted(url)} needs a driver that isn't installed ({error}). "
            "Install it, e.g. pip install 'bsopt[postgresql]', 'bsopt[mysql]' or 'bsopt[grpc]'."
        ) from error
    except Exception as error:
        raise StorageError(f"can't open the storage {redacted(url)}: {_first_line(error)}") from error


def study_url(url: str) -> str:
    """Return the address with `${NAME}` replaced from the environment.

    Raises:
        StorageError: A variable isn't set.
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise StorageError(f"the storage URL names the environment variable {name}, which isn't set.")
        return os.environ[name]

    return re.sub(r"\$\{(\w+)\}", value, url)


def redacted(url: str) -> str:
    """Return the address with its password as `***`, for people and logs.

    >>> redacted("postgresql+psycopg://me:secret@host/db")
    'postgresql+psycopg://me:***@host/db'
    """
    hidden = re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)
    return re.sub(r"([?&](?:password|passwd|pwd|token|secret)=)[^&]*", r"\1***", hidden, flags=re.IGNORECASE)


def _open_database(address: str) -> BaseStorage:
    from sqlalchemy import event

    is_sqlite = address.startswith("sqlite")
    if is_sqlite and address not in ("sqlite://", "sqlite:///:memory:"):
        path = Path(address.split("///", 1)[1].split("?")[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not os.access(path, os.W_OK):
            raise StorageError(f"the storage {path} is read-only: make it writable or choose another with --storage.")
        if not path.exists() and not os.access(path.parent, os.W_OK):
            raise StorageError(f"the folder {path.parent} is read-only: make it writable or choose another --storage.")
    options = {"connect_args": {"timeout": 60}} if is_sqlite else {"pool_pre_ping": True}
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

    for _ in range(_ATTEMPTS - 1):
        with contextlib.suppress(exc.IntegrityError, exc.ProgrammingError, exc.OperationalError):
            return optuna.storages.RDBStorage(address, engine_kwargs=dict(options))
        time.sleep(_SECONDS_BETWEEN_ATTEMPTS)
    return optuna.storages.RDBStorage(address, engine_kwargs=dict(options))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
