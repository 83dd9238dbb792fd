"""Everything that bsopt raises on purpose.

Catch `BsoptError` to catch them all. Each message names what was received, what is allowed and what to do
next; the command line prints it without a traceback and exits with the error's `exit_code`: 2 for the user's
mistake, 3 where the storage or the machine failed.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from typing import ClassVar

__all__ = [
    "DISK_ERRNOS",
    "BsoptError",
    "ConfigError",
    "InjectionError",
    "MachineError",
    "MetricError",
    "MissingExtraError",
    "PlanError",
    "StorageError",
    "StorageFailedError",
    "StudyError",
    "TaskError",
    "nearest",
    "nearest_or_all",
]

DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN})
"""Of a disk that is full, over its quota, read-only by now, broken or gone: whoever writes next meets it, too."""
_TELLING = 3
"""Letters from which on a name's beginning tells which one is meant."""


class BsoptError(Exception):
    """The root of bsopt's errors: a mistake that the user can put right, or a failure that isn't theirs."""

    exit_code: ClassVar[int] = 2


class ConfigError(BsoptError, ValueError):
    """A study file, an override or an argument has a wrong value."""


class TaskError(BsoptError):
    """The user's module, data or entry point can't be built or doesn't fit together."""


class InjectionError(TaskError):
    """The learning rate or the batch size asked for is not the one in use."""


class MetricError(TaskError):
    """The monitored metric was never logged."""


class PlanError(BsoptError, ValueError):
    """A global batch size can't be realised on the devices at hand.

    Attributes:
        nearest: The nearest global batch sizes that can, in samples, smallest first.
    """

    def __init__(self, message: str, *, nearest: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.nearest = nearest

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_plan_error, (str(self), self.nearest)


class StorageError(BsoptError):
    """The storage can't be opened, read or written."""


class StorageFailedError(StorageError):
    """The storage stopped answering or is damaged; what was measured is kept, and the same command goes on."""

    exit_code = 3


class MachineError(BsoptError):
    """The machine failed: its disk is full, a folder is gone, or bsopt itself met what it didn't expect."""

    exit_code = 3


class StudyError(BsoptError):
    """The study doesn't exist, or exists with something else in it."""


class MissingExtraError(BsoptError, ImportError):
    """An optional package is needed; the message says how to install it."""

    @classmethod
    def of_training(cls, what: str, package: str) -> MissingExtraError:
        """Return the error of what needs PyTorch and Lightning where one of their packages is missing."""
        return cls(
            f"{what} needs PyTorch and Lightning, and {package} isn't installed: pip install torch pytorch-lightning."
        )


def nearest(wrong: str, allowed: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the closest allowed name, or an empty string when none is close.

    The closest is the shortest that starts with the wrong one, as "val_loss/dataloader_idx_0" does with "val_loss";
    without any the most similar.
    """
    names = list(allowed)
    starting = [name for name in names if name.startswith(wrong)] if len(wrong) >= _TELLING else []
    close = sorted(starting, key=len)[:1] or difflib.get_close_matches(wrong, names, n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def nearest_or_all(wrong: str, allowed: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?`, or ` There are: a, b.` when none is close."""
    names = list(allowed)
    return nearest(wrong, names) or f" There are: {', '.join(names)}."


def _rebuild_plan_error(message: str, sizes: tuple[int, ...]) -> PlanError:
    return PlanError(message, nearest=sizes)
