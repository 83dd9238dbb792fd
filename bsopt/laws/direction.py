"""Which way a value gets better."""

from __future__ import annotations

from typing import Literal, TypeAlias

from bsopt.errors import ConfigError, nearest

__all__ = ["DIRECTIONS", "Direction", "sign_of"]

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
