"""Addresses of storages: as they are opened, and as people may see them."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from bsopt.errors import StorageError

__all__ = ["file_of", "redacted", "shows_password", "study_url", "without_secrets"]

_SECRET_KEYS = r"[\w.-]*(?:pass(?!file)|pwd|secret|token|credential|odbc_connect)[\w.-]*"
_FILE = re.compile(r"(?:sqlite(?:\+\w+)?:///|journal://)([^?]+)")
_USERINFO = re.compile(r"^([^:@/?]*:/*[^:@/?]*):(.*)@", re.DOTALL)
_QUERY = re.compile(rf"([?&;]{_SECRET_KEYS}=)([^&]*)", re.IGNORECASE)


def study_url(url: str) -> str:
    """Return the address to open: `@FILE` read from that file, `${NAME}` replaced from the environment.

    So no password needs to stand in a study file, or on a command line that every user of the machine can list.

    Raises:
        StorageError: The file can't be read, or a variable isn't set.
    """
    if url.startswith("@"):
        path = Path(url[1:]).expanduser()
        try:
            url = path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it holds no text"
            raise StorageError(f"can't read the storage's address from the file {path}: {why}.") from error

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise StorageError(f"the storage URL names the environment variable {name}, which isn't set.")
        return os.environ[name]

    return re.sub(r"\$\{(\w+)\}", value, url)


def file_of(address: str) -> Path | None:
    """Return the file that an address opens; None for a server, or for a database in memory.

    >>> file_of("sqlite:///runs/study.db?timeout=5"), file_of("postgresql://host/db"), file_of("sqlite:///:memory:")
    (PosixPath('runs/study.db'), None, None)
    """
    found = _FILE.match(address)
    return Path(found.group(1)) if found is not None and found.group(1) != ":memory:" else None


def redacted(url: str) -> str:
    """Return the address with its passwords as `***`, for people and logs; also where it isn't well formed.

    >>> redacted("postgresql+psycopg://me:secret@host/db")
    'postgresql+psycopg://me:***@host/db'
    >>> redacted("postgresql+psycopg:/me:se@cret@host/db?sslpassword=too")
    'postgresql+psycopg:/me:***@host/db?sslpassword=***'
    """
    return _QUERY.sub(r"\1***", _USERINFO.sub(r"\1:***@", url))


def without_secrets(text: str, url: str) -> str:
    """Return a driver's message without what it may quote of an address's passwords, whole or in pieces.

    >>> without_secrets("no host 'word@host'", "postgresql://me:pass@word@host/db")
    "no host '***@host'"
    """
    with contextlib.suppress(StorageError):
        url = study_url(url)
    secrets = [match.group(2) for pattern in (_USERINFO, _QUERY) for match in pattern.finditer(url)]
    pieces = {piece for secret in secrets for piece in (secret, *re.split(r"[@:/?]", secret)) if len(piece) > 2}
    for piece in sorted(pieces, key=len, reverse=True):
        text = text.replace(piece, "***")
    return text


def shows_password(url: str) -> bool:
    """Whether an address holds a password in plain text.

    >>> shows_password("postgresql://me:secret@host/db"), shows_password("postgresql://me:${PASSWORD}@host/db")
    (True, False)
    """
    bare = re.sub(r"\$\{\w+\}", "", url)
    return redacted(bare) != bare and not re.search(r":@|=(?:&|$)", bare)
