"""Values as people read them in a terminal, and as programs read them in JSON."""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
from collections.abc import Sequence

from bsopt.serialization import to_json

__all__ = ["flowing", "json_text", "sparkline"]

_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], *, width: int = 20) -> str:
    """Return a curve in one line, the last `width` values of it; `×` where a value isn't finite.

    Positive values that span more than a factor of 20 are drawn on a log scale, as a loss that starts high
    would leave nothing to see.

    >>> sparkline([4.0, 3.0, 2.0, 1.0])
    '█▆▃▁'
    """
    shown = list(values)[-width:]
    finite = [value for value in shown if math.isfinite(value)]
    if not finite:
        return "×" * len(shown)
    low, high = min(finite), max(finite)
    is_log = low > 0 and high / low > 20
    scaled = [math.log(v) if is_log and math.isfinite(v) else v for v in shown]
    bottom, top = (math.log(low), math.log(high)) if is_log else (low, high)
    steps = len(_BARS) - 1
    return "".join(
        "×" if not math.isfinite(v) else _BARS[round((v - bottom) / (top - bottom) * steps) if top > bottom else 0]
        for v in scaled
    )


def flowing(text: str, *, indent: str = "") -> str:
    """Return a sentence broken at words to the width of the terminal, and as it is where output isn't one.

    Args:
        text: Without line ends.
        indent: Before its first line, and as many spaces before the others.
    """
    if not sys.stdout.isatty():
        return indent + text
    return textwrap.fill(
        text,
        max(40, shutil.get_terminal_size().columns),
        initial_indent=indent,
        subsequent_indent=" " * len(indent),
        break_long_words=False,
        break_on_hyphens=False,
    )


def json_text(value: object, *, indent: int | None = 2) -> str:
    """Return a value as strict JSON; numbers that aren't finite are null.

    >>> json_text({"lr": float("nan"), "sizes": (8, 16)}, indent=None)
    '{"lr": null, "sizes": [8, 16]}'
    """
    text: str = json.dumps(to_json(value), indent=indent, ensure_ascii=False)
    return text
