"""An error of user code as one text: what it says, the user's line that raised it, and whether memory ran out."""

from __future__ import annotations

import traceback
from pathlib import Path

from bsopt.errors import DISK_ERRNOS
from bsopt.units import printable

__all__ = ["describe_error", "is_of_machine", "machine_failed", "says_out_of_memory"]

_PHRASES = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed", "cudnn_status_alloc_failed")
_OF_DISK = ("no space left on device", "disk quota exceeded", "pytorchstreamwriter failed writing file")
"""`DISK_ERRNOS` in words, for errors that have lost their number: PyTorch's, and those of a DataLoader's worker."""
_MOST = 4000
"""Characters of what an error says that are told; some quote a whole array."""
_BSOPT = Path(__file__).parents[1]


def describe_error(error: BaseException, *, whole_text: bool = False) -> str:
    """Return the error's class, what it says, and the last line of the traceback that isn't of a library.

    Args:
        error: As it was caught.
        whole_text: Whether all lines of its text are given; else the first one.
    """
    said = _words_of(error)
    text = said if whole_text else "".join(said.strip().splitlines()[:1])
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(frame.filename)]
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"


def is_of_machine(error: BaseException) -> bool:
    """Return whether an error says that a disk failed, which is no trial's fault."""
    return (isinstance(error, OSError) and error.errno in DISK_ERRNOS) or bool(_lines_of_disk(error))


def machine_failed(error: BaseException, path: object = None) -> str:
    """Return the message of a `MachineError`: what failed, on which file, and what to do.

    Args:
        error: As it was caught.
        path: The file; None for the one that the error names.

    >>> machine_failed(OSError(28, "No space left on device"), "runs/last.ckpt")[:40]
    'No space left on device: runs/last.ckpt.'
    """
    if isinstance(error, OSError) and error.strerror:
        what, file = error.strerror, path or error.filename2 or error.filename
    else:
        what, file = [*_lines_of_disk(error), _said_by(error) or type(error).__name__][0], path
    told = printable(f"{what}{f': {file}' if file else ''}")
    return f"{told.rstrip('.')}. What was measured is kept; once that is put right, run the same command again."


def says_out_of_memory(name: str, text: str) -> bool:
    """Return whether an error, of which only its class's name and its text are known, says that memory ran out.

    >>> says_out_of_memory("RuntimeError", "CUDA error: out of memory")
    True
    """
    return name.endswith("MemoryError") or any(phrase in text.lower() for phrase in _PHRASES)


def _words_of(error: BaseException) -> str:
    """Return what an error says, shortened."""
    said = _said_by(error)
    return printable(said if len(said) <= _MOST else f"{said[:_MOST]}…")


def _said_by(error: BaseException) -> str:
    """Return what an error says; nothing where saying it fails in turn."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001  (it is the project's)
        return ""


def _lines_of_disk(error: BaseException) -> list[str]:
    """Return the lines of an error that say that a disk is full."""
    return [line for line in _said_by(error).splitlines() if any(phrase in line.lower() for phrase in _OF_DISK)]


def _is_own(file: str) -> bool:
    is_library = "site-packages" in file or "importlib" in file
    return not is_library and _BSOPT not in Path(file).parents
