"""Amounts as people write them ("3 epochs", "30 min", "2 GiB"), and every number and text as people read it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bsopt.errors import ConfigError, nearest

__all__ = [
    "Amount",
    "Unit",
    "count_of",
    "digits_telling",
    "format_bytes",
    "format_chance",
    "format_device_time",
    "format_duration",
    "format_number",
    "in_samples",
    "in_words",
    "parse_amount",
    "parse_bytes",
    "printable",
]

Unit = Literal["epochs", "samples", "steps", "seconds"]

_UNITS: dict[str, tuple[Unit, float]] = {
    **dict.fromkeys(("epoch", "epochs"), ("epochs", 1.0)),
    **dict.fromkeys(("sample", "samples"), ("samples", 1.0)),
    **dict.fromkeys(("step", "steps", "update", "updates"), ("steps", 1.0)),
    **dict.fromkeys(("s", "sec", "second", "seconds"), ("seconds", 1.0)),
    **dict.fromkeys(("min", "minute", "minutes"), ("seconds", 60.0)),
    **dict.fromkeys(("h", "hour", "hours"), ("seconds", 3600.0)),
}
_MOST = 1e15
"""Of an amount in any unit."""
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x07|\x1b\\|$)|[ -/]*[0-~])", re.DOTALL)
"""Sequences of ECMA-48: CSI, strings such as a window's title, and the two-character ones."""
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")
"""All but tab and newline, and the marks that turn the direction of writing."""
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True, slots=True)
class Amount:
    """A number with its unit: epochs, samples, steps (optimizer updates) or seconds."""

    value: float
    unit: Unit

    def __str__(self) -> str:
        if self.unit == "seconds":
            for size, name in ((3600.0, "h"), (60.0, "min")):
                if self.value >= size and self.value % size == 0:
                    return f"{self.value / size:g} {name}"
            return f"{self.value:g} s"
        return f"{self.value:g} {self.unit if self.value != 1 else self.unit[:-1]}"


def parse_amount(text: object, *, default: Unit | None = None, allowed: Iterable[Unit] = ()) -> Amount:
    """Read "1 epoch", "20000 samples", "200 steps" or "30 min".

    Args:
        text: The text; a bare number where `default` names its unit.
        default: Unit of a bare number.
        allowed: Units that make sense here; all where empty.

    Raises:
        ConfigError: It can't be read, isn't positive, is beyond all bounds, or has a unit that makes no sense here.

    >>> parse_amount("30 min")
    Amount(value=1800.0, unit='seconds')
    """
    if isinstance(text, Amount):
        amount = text
    elif isinstance(text, (int, float)) and not isinstance(text, bool):
        if default is None:
            raise ConfigError(
                f"{text} needs a unit, e.g. '{text} epochs', '{text} samples', '{text} steps' or '{text} min'."
            )
        amount = Amount(float(text), default)
    else:
        match = re.fullmatch(r"\s*([\d_]*\.?\d+(?:[eE][+-]?\d+)?)\s*([a-zA-Z]*)\s*", str(text))
        if match is None:
            raise ConfigError(f"{text!r} is no amount; write e.g. '1 epoch', '20000 samples' or '30 min'.")
        number, unit = float(match.group(1).replace("_", "")), match.group(2).lower()
        if not unit:
            return parse_amount(number, default=default, allowed=allowed)
        if unit not in _UNITS:
            raise ConfigError(
                f"unknown unit {unit!r} in {text!r}; use epochs, samples, steps, s, min or h." + nearest(unit, _UNITS)
            )
        name, size = _UNITS[unit]
        amount = Amount(number * size, name)
    if not 0 < amount.value <= _MOST:
        raise ConfigError(f"{text!r} must be positive, and at most {_MOST:g}.")
    units = tuple(allowed)
    if units and amount.unit not in units:
        raise ConfigError(f"{text!r} is in {amount.unit}; here it must be in {in_words(units, last='or')}.")
    return amount


def parse_bytes(value: object) -> int:
    """Read an amount of memory in bytes: "2 GiB", "500 MB" or a whole number.

    Raises:
        ConfigError: It can't be read, or isn't positive.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return _checked_bytes(value, value)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmMgG]i?[bB]|[bB])\s*", str(value))
    if match is None:
        raise ConfigError(f"{value!r} is no amount of memory; write e.g. '2 GiB' or '500 MB'.")
    return _checked_bytes(int(float(match.group(1)) * _BYTES[match.group(2).lower()]), value)


def _checked_bytes(count: int, value: object) -> int:
    if not 0 < count < 2**60:
        raise ConfigError(f"{value!r} must be an amount of memory above 0.")
    return count


def in_samples(amount: Amount, num_train_samples: int | None, what: str) -> float:
    """Return an amount in nominal samples.

    Raises:
        ConfigError: It is in epochs and the data's length isn't known.
    """
    if amount.unit == "samples":
        return amount.value
    if num_train_samples is None:
        raise ConfigError(f"{what} is in epochs but the training data have no known length: give it in samples.")
    return amount.value * num_train_samples


def format_number(value: float | None, *, digits: int = 4, thousands: bool = False) -> str:
    """Return a number with that many significant digits; a dash for None.

    Args:
        value: The number.
        digits: Significant digits of what isn't whole.
        thousands: Whether digits are grouped, and whole numbers written out.

    >>> format_number(0.012346), format_number(1024), format_number(None)
    ('0.01235', '1024', '–')
    >>> format_number(12800, thousands=True), format_number(float("inf"), thousands=True)
    ('12,800', '∞')
    """
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if not thousands:
        return f"{value:.{digits}g}"
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.{digits - 1}g}"
    return f"{value:.{digits}g}"


def digits_telling(low: float, high: float, *, digits: int = 4) -> int:
    """Return the significant digits with which an interval's ends, and a value between, can be told apart.

    Args:
        low: The lower end.
        high: The upper end; of the interval's width at least two significant digits are seen.
        digits: The fewest; all that are needed where an end isn't finite.

    >>> digits_telling(0.678, 0.698), digits_telling(10229.93, 10230.31), digits_telling(1.0, math.inf)
    (4, 7, 4)
    """
    width, largest = high - low, max(abs(low), abs(high))
    if not math.isfinite(width) or width <= 0:
        return digits
    first, first_of_width = (math.floor(math.log10(size)) for size in (largest, width))
    whole = first + 1 if first < 6 else digits  # 10230 and not 1.023e+04
    return min(15, max(digits, whole, first - first_of_width + 2))


def format_duration(seconds: float | None) -> str:
    """Return a time span in the two units that matter.

    >>> format_duration(0.42), format_duration(80), format_duration(7500)
    ('0.4 s', '1 min 20 s', '2 h 05 min')
    """
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def format_device_time(hours: float | None) -> str:
    """Return a time of all devices together, in the unit that suits it; a dash for None.

    >>> format_device_time(12.34), format_device_time(0.0001)
    ('12.3 device-hours', '0.4 s')
    """
    if hours is None or not math.isfinite(hours):
        return "–"
    return f"{hours:.3g} device-hours" if hours >= 1.0 else format_duration(3600.0 * hours)


def format_bytes(count: float | None) -> str:
    """Return an amount of memory; a dash for None.

    >>> format_bytes(3 * 2**30), format_bytes(300 * 2**20), format_bytes(120_000)
    ('3.00 GiB', '300 MiB', '117 KiB')
    """
    if count is None:
        return "–"
    if count >= 2**30:
        return f"{count / 2**30:.2f} GiB"
    return f"{count / 2**20:,.0f} MiB" if count >= 2**20 else f"{count / 2**10:,.0f} KiB"


def format_chance(chance: float) -> str:
    """Return a probability in percent; "unknown" for NaN.

    >>> format_chance(0.423), format_chance(0.002)
    ('42 %', 'below 1 %')
    """
    if math.isnan(chance):
        return "unknown"
    return f"{100 * chance:.0f} %" if chance >= 0.01 else "below 1 %"


def count_of(count: int, noun: str, *, plural: str | None = None) -> str:
    """Return a number with its noun.

    Args:
        count: The number.
        noun: The noun of one.
        plural: The noun of several, where it isn't `noun` with an s.

    >>> count_of(1, "trial"), count_of(1200, "trial"), count_of(2, "study", plural="studies")
    ('1 trial', '1,200 trials', '2 studies')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def printable(text: str) -> str:
    r"""Return a text of unknown origin without what would steer a terminal: escape sequences and control characters.

    Bytes of a file's name that are no text, which Python keeps as surrogates, are spelled out: no file takes them.

    >>> printable("\x1b[31mred\x1b[0m, a bell\x07 and a title\x1b]0;mine\x07")
    'red, a bell and a title'
    >>> print(printable("caf\udce9.csv"))
    caf\udce9.csv
    """
    plain = _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))
    return plain.encode(errors="backslashreplace").decode()


def in_words(items: Iterable[object], *, last: str = "and") -> str:
    """Return things as a sentence lists them.

    >>> in_words([8, 16, 32]), in_words(["a"])
    ('8, 16 and 32', 'a')
    """
    words = [str(item) for item in items]
    return f" {last} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
