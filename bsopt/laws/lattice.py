"""Which batch sizes are proposed: powers of two, multiples of a number, or any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from bsopt.errors import ConfigError

__all__ = ["Lattice", "check_lattice", "lattice_sizes", "nearest_in_ratio"]

Lattice: TypeAlias = Literal["pow2", "any"] | Mapping[Literal["multiple_of"], int]
"""Powers of two, any whole number, or `{"multiple_of": n}`."""


def check_lattice(lattice: Lattice) -> Lattice:
    """Return the lattice.

    Raises:
        ConfigError: It is none of those allowed.
    """
    if lattice in ("pow2", "any"):
        return lattice
    if isinstance(lattice, Mapping) and set(lattice) == {"multiple_of"}:
        step = lattice["multiple_of"]
        if isinstance(step, int) and step >= 1:
            return {"multiple_of": step}
    raise ConfigError(f"lattice must be 'pow2', 'any' or {{'multiple_of': n}} with n >= 1, got {lattice!r}.")


def lattice_sizes(lattice: Lattice, low: int, high: int) -> Sequence[int]:
    """Return the batch sizes of a lattice within [low, high], in increasing order; empty where there is none.

    Args:
        lattice: Which.
        low: At least 1, in samples.
        high: In samples.

    Raises:
        ConfigError: It is no lattice.

    >>> lattice_sizes("pow2", 12, 100), list(lattice_sizes({"multiple_of": 24}, 12, 100))
    ((16, 32, 64), [24, 48, 72, 96])
    """
    lattice = check_lattice(lattice)
    if lattice == "pow2":
        return tuple(2**k for k in range(high.bit_length()) if low <= 2**k <= high)
    step = lattice["multiple_of"] if isinstance(lattice, Mapping) else 1
    return range(-(-low // step) * step, high + 1, step)


def nearest_in_ratio(size: float, sizes: Sequence[int]) -> int:
    """Return the batch size nearest in ratio to a positive one; of two as near the smaller, if they increase.

    >>> nearest_in_ratio(90, [64, 128])
    64
    """
    return min(sizes, key=lambda other: max(other / size, size / other))
