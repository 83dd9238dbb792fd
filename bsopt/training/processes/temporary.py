"""The temporary folder that processes talk through: short enough for sockets, and removed also after a kill."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import time
from multiprocessing import process
from pathlib import Path

__all__ = ["leave_temporary_folder", "use_temporary_folder"]

_PREFIX = "bsopt-"
_LONGEST = 60
"""Characters: a socket's path may have 107, of which multiprocessing's own names take up to 40."""
_SECONDS_TO_LOCK = 10.0


def use_temporary_folder() -> Path:
    """Have this process and its children put their sockets into a folder of its own; remove those of dead processes.

    Returns:
        The folder; it is removed when this process ends, and after a kill by the next one that asks.

    Raises:
        OSError: No temporary folder can be written.
    """
    config = process.current_process()._config  # type: ignore[attr-defined]  # where multiprocessing looks
    known = config.get("tempdir")
    if known is not None and Path(known).is_dir():
        return Path(known)
    base = _short_base()
    _remove_abandoned(base)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    _is_locked(lock)  # as long as this process lives
    atexit.register(_remove_own, folder, os.getpid())
    config["tempdir"] = str(folder)
    return folder


def leave_temporary_folder() -> None:
    """Remove this process's folder, if it has one: for a process that will be killed, and starts no others before."""
    folder = process.current_process()._config.pop("tempdir", None)  # type: ignore[attr-defined]
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _short_base() -> Path:
    """Return the usual temporary folder, or one whose path is short."""
    usual = Path(tempfile.gettempdir())
    if len(os.fsencode(usual)) <= _LONGEST:
        return usual
    for place in ("/tmp", "/var/tmp", "/dev/shm"):
        if os.access(place, os.W_OK | os.X_OK):
            return Path(place)
    return usual


def _remove_abandoned(base: Path) -> None:
    """Remove the folders of this user's processes that are gone: nobody holds their locks."""
    for folder in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid != os.getuid() or time.time() - folder.stat().st_mtime < _SECONDS_TO_LOCK:
                continue
            lock = os.open(folder / "lock", os.O_RDWR)
            try:
                if _is_locked(lock):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _is_locked(lock: int) -> bool:
    """Take a lock without waiting, and return whether it was free."""
    try:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def _remove_own(folder: Path, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
