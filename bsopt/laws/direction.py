"""Which way a value gets better."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from bsopt.errors import ConfigError, nearest

__all__ = ["DIRECTIONS", "Direction", "best_possible", "possible_range", "sign_of"]

Direction: TypeAlias = Literal["minimize", "maximize"]
DIRECTIONS: tuple[Direction, ...] = ("minimize", "maximize")


def sign_of(direction: Direction) -> float:
    """Return 1 where a smaller value is better and −1 where a larger one is: sign · value is to be minimised.

    Raises:
        ConfigError: It is neither "minimize" nor "maximize".

    >>> sign_of("minimize"), sign_of("maximize")
    (1.0, -1.0)
    """
    if direction not in DIRECTIONS:
        allowed = " or ".join(map(repr, DIRECTIONS))
        raise ConfigError(f"direction must be {allowed}, got {direction!r}." + nearest(str(direction), DIRECTIONS))
    return 1.0 if direction == "minimize" else -1.0


def best_possible(lowest: float, highest: float, *, sign: float) -> float | None:
    """Return the value that none can beat, as far as a range of values tells; None where it doesn't.

    Args:
        lowest, highest: Of the values, times `sign`: smaller is better.
        sign: 1 where a smaller value is better, −1 where a larger one is.

    Returns:
        0 where all are above it, as losses are; minus the perfect score, 1 or 100, where all could be accuracies.

    >>> best_possible(0.2, 2.3, sign=1.0), best_possible(-0.98, -0.1, sign=-1.0), best_possible(-3.0, 2.0, sign=1.0)
    (0.0, -1.0, None)
    """
    if lowest > 0.0:
        return 0.0
    if sign < 0.0 and highest <= 0.0 and (lowest >= -1.0 or -100.0 <= lowest <= -20.0):
        return -1.0 if lowest >= -1.0 else -100.0
    return None


def possible_range(perfect: float | None, highest: float, *, sign: float) -> tuple[float, float]:
    """Return the least and the most that a value can be, as far as the best possible one tells.

    A loss that is above 0 in all trials doesn't fall below, and an accuracy doesn't pass 1 or 100. A score of which all
    are below 0 may pass it, as R² does: there the law has to stay on that side.

    Args:
        perfect: The value that none can beat, by `best_possible`; None where there is none.
        highest: The largest value that the law says.
        sign: 1 where a smaller value is better, −1 where a larger one is.

    >>> possible_range(0.0, 0.3, sign=1.0), possible_range(1.0, 1.004, sign=-1.0), possible_range(0.0, 0.1, sign=-1.0)
    ((0.0, inf), (-inf, 1.0), (-inf, inf))
    """
    if perfect is not None and sign > 0.0:
        return perfect, math.inf
    if perfect is not None and (perfect > 0.0 or perfect >= highest):
        return -math.inf, perfect
    return -math.inf, math.inf
