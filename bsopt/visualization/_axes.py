"""Axes, once: scales, ticks, titles, and what of the values is worth seeing."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import plotly.graph_objects as go

from bsopt.trial.record import StudyInfo
from bsopt.units import count_of, format_number
from bsopt.visualization._traces import Interval, wrapped

__all__ = [
    "LABEL_WIDTH",
    "Axis",
    "batch_size_axis",
    "beyond",
    "fitting_axis",
    "is_wide",
    "log_axis",
    "log_ticks",
    "lr_axis",
    "mean_axis",
    "share_x_axis",
    "value_axis",
    "value_label",
    "worth_seeing",
]

Axis: TypeAlias = dict[str, Any]
"""What `update_xaxes` and `update_yaxes` take."""

LABEL_WIDTH = 30
"""Characters of a line of an axis title."""
_NARROW = 1.2
"""Up to this ratio of the largest to the smallest value a logarithmic axis looks like a linear one."""
_WIDE = 10.0
"""From this ratio of the largest to the smallest value on, an axis is logarithmic."""


def log_axis(values: Collection[float], *, title: str | None = None, form: str = "g") -> Axis:
    """Return a log axis with round ticks; `form` is how Python formats them, where it needs no exponent for any.

    >>> log_axis([1e-5, 1e-3])["ticktext"]
    ['1e-5', '2e-5', '5e-5', '1e-4', '2e-4', '5e-4', '1e-3']
    >>> log_axis([1e-4, 1e-2])["ticktext"]
    ['0.0001', '0.0002', '0.0005', '0.001', '0.002', '0.005', '0.01']
    """
    ticks = log_ticks(values)
    texts = [format(tick, form) for tick in ticks]
    if any("e-" in text for text in texts):
        texts = [_with_exponent(tick) for tick in ticks]
    if len(set(texts)) < len(ticks):
        texts = [f"{tick:,.12g}" for tick in ticks]
    axis: Axis = {"type": "log", "tickvals": ticks, "ticktext": texts}
    return axis if title is None else {**axis, "title": {"text": title}}


def _with_exponent(tick: float) -> str:
    factor, power = f"{tick:.2e}".split("e")
    return f"{float(factor):g}" + (f"e{int(power)}" if int(power) else "")


def batch_size_axis(sizes: Sequence[float], *, title: str = "batch size [samples per update]") -> Axis:
    """Return a log axis for batch sizes in samples, with ticks at those that were run."""
    found = sorted({float(size) for size in sizes if size > 0})
    ticks = found
    if len(found) > 9 or any(b / a < 1.3 for a, b in pairwise(found)):
        low, high = (math.floor(math.log2(found[0])), math.ceil(math.log2(found[-1]))) if found else (3, 10)
        step = max(1, (high - low) // 8 + 1) if high - low > 9 else 1
        ticks = [2.0**k for k in range(low, high + 1, step)]
    return {
        "type": "log",
        "title": {"text": title},
        "tickvals": ticks,
        "ticktext": [f"{tick:.0f}" for tick in ticks],
        "minor": {"showgrid": False},
    }


def lr_axis(rates: Sequence[float]) -> Axis:
    """Return a log axis for learning rates."""
    return log_axis(rates, title="learning rate")


def share_x_axis(figure: go.Figure, axis: Axis, *, rows: int) -> None:
    """Give plots that stand above each other one x axis, whose title stands below the last."""
    figure.update_xaxes(**{key: value for key, value in axis.items() if key != "title"})
    figure.update_xaxes(title=axis["title"], row=rows, col=1)


def value_label(info: StudyInfo) -> str:
    """Return what a study's value is called on an axis, with its unit and direction, escaped."""
    objective = info.objective
    if objective.cost is not None:
        unit = {"seconds": "s", "samples": "samples", "steps": "updates", "energy": "J"}[objective.cost]
        target = format_number(objective.target, thousands=True)
        return wrapped(f"{objective.cost} to {objective.monitor} = {target} [{unit}]", LABEL_WIDTH)
    better = "lower" if objective.direction == "minimize" else "higher"
    return wrapped(f"{objective.monitor} ({better} is better)", LABEL_WIDTH)


def is_wide(values: Collection[float]) -> bool:
    """Whether values are positive and lie so far apart that they belong on a log axis, averaged as logarithms."""
    found = [value for value in values if math.isfinite(value)]
    return bool(found) and min(found) > 0 and max(found) > _WIDE * min(found)


def worth_seeing(
    values: Collection[float], sign: float, *, typical: float = 0.9, headroom: float = 1.0
) -> tuple[float, float] | None:
    """Return the range of a linear axis on which the good values are told apart; None without values.

    It reaches beyond the typical value as far as that lies from the best, or to the worst.

    Args:
        values: Finite.
        sign: 1 where smaller values are better, else −1.
        typical: Which quantile the typical value is, counted from the best.
        headroom: How many margins are left beyond the worst.
    """
    if not values:
        return None
    signed = [sign * value for value in values]
    best, middle, worst = min(signed), float(np.quantile(signed, typical, method="lower")), max(signed)
    end = min(worst, best + 2.0 * (middle - best)) if middle > best else worst
    margin = _margin(best, end)
    low, high = sorted((sign * (best - margin), sign * (end + headroom * margin)))
    return low, high


def value_axis(value_range: tuple[float, float] | None, *, is_log: bool) -> Axis:
    """Return the range and scale of an axis for values, whose range is in the values' own unit."""
    if value_range is None or not is_log:
        return {"range": value_range}
    return {**log_axis(value_range), "range": [math.log10(value) for value in value_range]}


def mean_axis(means: Collection[Interval], values: Collection[float], *, is_log: bool, from_zero: bool) -> Axis:
    """Return an axis for means and the values behind them; on a log axis bars far beyond the values are cut off."""
    found = [value for value in values if math.isfinite(value)]
    if not is_log:
        return {"rangemode": "tozero"} if from_zero else {}
    low, high = min(found), max(found)
    ends = [*(max(mean.low, low / 2.0) for mean in means), *(min(mean.high, 2.0 * high) for mean in means)]
    return value_axis((min([low, *ends]) / 1.1, max([high, *ends]) * 1.1), is_log=True)


def fitting_axis(values: Collection[float], *, is_log: bool) -> Axis:
    """Return an axis that just holds the finite ones of these values: what lies outside may not flatten them."""
    found = [value for value in values if math.isfinite(value)]
    if not found:
        return {}
    if is_log:
        return value_axis((min(found) / 1.15, max(found) * 1.15), is_log=True)
    margin = _margin(min(found), max(found))
    return {"range": (min(found) - margin, max(found) + margin)}


def beyond(values: Collection[float], axis: go.layout.YAxis, sign: float, *, noun: str = "worse trial") -> str | None:
    """Return how many values lie beyond a figure's axis, as a sentence; None where all are seen.

    Args:
        values: Finite, each drawn as a mark.
        axis: With its range.
        sign: 1 where smaller values are better, else −1.
        noun: What one mark is.
    """
    low, high = axis.range
    if axis.type == "log":
        low, high = 10.0**low, 10.0**high
    count = sum(not low <= value <= high for value in values)
    return f"{count_of(count, noun)} {'above' if sign > 0 else 'below'} the frame" if count else None


def log_ticks(values: Collection[float]) -> list[float]:
    """Return round numbers that cover positive values: decades, or steps within them where there are few decades.

    Around a single value they cover a decade to both sides, as plotly's axis does.

    >>> log_ticks([0.02, 0.07])
    [0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1]
    >>> log_ticks([10.0, 10.4])
    [10.0, 10.2, 10.4]
    """
    finite = [value for value in values if value > 0 and math.isfinite(value)]
    if not finite:
        return [1.0]
    if min(finite) == max(finite):
        finite = [finite[0] / 10.0, finite[0] * 10.0]
    if max(finite) <= _NARROW * min(finite):
        return _even_ticks(min(finite), max(finite))
    low, high = math.floor(math.log10(min(finite))), math.ceil(math.log10(max(finite)))
    steps: tuple[float, ...] = (1, 2, 5) if high - low <= 2 else ((1, 3) if high - low <= 3 else (1,))
    if max(finite) <= 5.0 * min(finite):
        steps = (1, 1.5, 2, 3, 5, 7)
    if max(finite) <= 3.0 * min(finite):
        steps = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    if max(finite) <= 2.0 * min(finite):
        steps = (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9)
    ticks = [float(f"{step}e{power}") for power in range(low, high + 1) for step in steps]
    return [tick for tick in ticks if tick <= 10.0**high * (1.0 + 1e-9)]


def _even_ticks(low: float, high: float) -> list[float]:
    """Return round numbers at equal distances that cover a range: three to eight of them."""
    power = math.floor(math.log10((high - low) / 2.0))
    step = max(step for step in (1.0, 2.0, 5.0) if step * 10.0**power <= (high - low) / 2.0) * 10.0**power
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def _margin(low: float, high: float) -> float:
    """How much an axis reaches beyond its values."""
    return 0.06 * abs(high - low) or 0.06 * abs(low) or 1.0
