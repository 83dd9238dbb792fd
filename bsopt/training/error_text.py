"""An error of user code as one text: what it says, and the user's line that raised it."""

from __future__ import annotations

import traceback
from pathlib import Path

from bsopt.units import printable

__all__ = ["describe_error"]

_BSOPT = Path(__file__).parents[1]


def describe_error(error: BaseException, *, whole_text: bool = False) -> str:
    """Return the error's class, what it says, and the last line of the traceback that isn't of a library.

    Args:
        error: As it was caught.
        whole_text: Whether all lines of its text are given; else the first one.
    """
    said = printable(str(error))
    text = said if whole_text else "".join(said.strip().splitlines()[:1])
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(frame.filename)]
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"


def _is_own(file: str) -> bool:
    is_library = "site-packages" in file or "importlib" in file
    return not is_library and _BSOPT not in Path(file).parents
