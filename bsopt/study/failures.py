"""What ends a run and is no trial's fault, as one of bsopt's own errors: the storage's or the machine's."""

from __future__ import annotations

import os
from pathlib import Path

from bsopt.errors import BsoptError, MachineError, StorageFailedError
from bsopt.storage.failures import as_storage_failure
from bsopt.training.error_text import machine_failed

__all__ = ["as_failure", "missing_folder"]


def as_failure(error: Exception, storage: str) -> Exception:
    """Return what was raised in the midst of a run as an error whose message says what to do, where one is known.

    Args:
        error: As it was caught; one of bsopt's own, or of someone else's code, is returned as it is.
        storage: The storage's address.
    """
    error = _behind_assertion(error)
    if isinstance(error, BsoptError):
        return error
    failure: BsoptError | None = as_storage_failure(error, storage)
    if failure is None and isinstance(error, OSError):
        failure = missing_folder(None) or MachineError(machine_failed(error))
    if failure is None:
        return error
    failure.__cause__ = error
    return failure


def missing_folder(output: Path | None) -> MachineError | None:
    """Return the error of a run whose working folder or output folder was deleted; None where both are there.

    Args:
        output: The output folder, absolute; None where it needn't be there.
    """
    if not _has_working_folder():
        what = "the working folder"
    elif output is not None and not output.is_dir():
        what = f"the output folder {output}"
    else:
        return None
    return MachineError(f"{what} is gone. What was measured is kept; run the same command again.")


def _behind_assertion(error: Exception) -> Exception:
    """Return the storage's failure behind Optuna's own surprise that a trial is still running after it was told."""
    found: BaseException | None = error
    while isinstance(error, AssertionError) and found is not None:
        if isinstance(found, StorageFailedError):
            return found
        found = found.__cause__ or found.__context__
    return error


def _has_working_folder() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True
