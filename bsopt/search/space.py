"""Between Optuna's parameters and the coordinates in which a basin is simple.

Notation, one row per trial or candidate (n rows):

    b       (n,)    log2 of the global batch size in samples
    x       (n,)    log2 of the effective learning rate, lr·(1 − 0.9)/(1 − momentum) where momentum is searched
    numbers (n, p)  further numeric parameters, each scaled to [0, 1] over its range
    choices (n, q)  further categorical parameters, as indices

`rows` are (n, d) and a `row` is (d,): one coordinate for each of the space's d columns, in their order. `coordinates`
are (n,) of one column.

Where weight decay is searched its own coordinate is log2(lr·weight_decay), scaled by its range: what decays the
weights in one update is their product. A further parameter is known by its last dotted part, so that
`model.weight_decay` counts as `weight_decay`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from bsopt.laws.lattice import Lattice, lattice_sizes
from bsopt.laws.surface_prior import Coordinates, Domain
from bsopt.storage.parameter_names import exponent_base, unreadable

__all__ = ["Column", "Space", "batch_sizes_on"]

Array: TypeAlias = NDArray[np.float64]

USUAL_MOMENTUM = 0.9
"""Published references for SGD are given at this momentum."""

MOST_BATCH_SIZES = 33
"""A lattice with more sizes than this is thinned evenly in log2: a quarter of an octave over eight octaves."""

LEAST_COVERED = 0.75
"""Share of a range's octaves that powers of two must span to be enough."""

FROM_ZERO = 2.0**-10
"""A linear range of learning rates that starts at 0 is looked at from this share of its upper end."""

MANY_BATCH_SIZES = 100_000
"""A lattice with more sizes than this is thinned before they are listed."""


@dataclass(frozen=True, slots=True)
class Column:
    """One searched parameter and its coordinate: log2 for batch size, learning rate and log ranges.

    Attributes:
        is_log: Whether the coordinate is log2 of the parameter's value.
        octaves: Otherwise the coordinate of the value 1: log2 of the base where values are exponents, else 1.
        values: The allowed coordinates in increasing order, or None for a continuous one.
    """

    name: str
    role: Literal["batch_size", "lr", "momentum", "weight_decay", "number", "choice"]
    distribution: BaseDistribution
    low: float
    high: float
    is_log: bool
    values: Array | None = None
    octaves: float = 1.0

    def encode(self, value: Any) -> float:
        """Return the coordinate of a parameter's value."""
        if self.role == "choice":
            return float(self.distribution.to_internal_repr(value))
        if not self.is_log:
            return self.octaves * float(value)
        # A foreign trial may lie anywhere, even at 0; ten octaves outside are far enough.
        return float(np.clip(np.log2(max(float(value), 1e-300)), self.low - 10, self.high + 10))

    def snap(self, coordinates: Array) -> Array:
        """Return the nearest coordinates that the parameter can take."""
        clipped = np.clip(coordinates, self.low, self.high)
        if self.values is not None:
            middle = (self.values[1:] + self.values[:-1]) / 2
            return self.values[np.searchsorted(middle, clipped)]
        grid = _step(self.distribution)
        if grid is None:
            return clipped
        low, step = grid
        natural = 2.0**clipped if self.is_log else clipped / self.octaves
        rounded = low + step * np.round((natural - low) / step)
        if self.is_log:
            rounded = np.log2(np.maximum(rounded, 2.0**self.low))
        else:
            rounded = rounded * self.octaves
        return np.clip(rounded, self.low, self.high)

    def decode(self, coordinate: float) -> Any:
        """Return the parameter's value at a coordinate, as a plain Python value inside the distribution."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            if self.role == "choice":
                return distribution.choices[round(coordinate)]
            return min(distribution.choices, key=lambda choice: abs(self.encode(choice) - coordinate))
        natural = self.value_at(coordinate)
        assert isinstance(distribution, (FloatDistribution, IntDistribution))
        grid = _step(distribution)
        if grid is not None:
            natural = grid[0] + grid[1] * round((natural - grid[0]) / grid[1])
        natural = min(max(natural, distribution.low), distribution.high)
        return round(natural) if isinstance(distribution, IntDistribution) else natural

    def value_at(self, coordinate: float) -> float:
        """Return the numeric parameter's value at a coordinate, whether or not it can take it."""
        return float(2.0**coordinate) if self.is_log else float(coordinate) / self.octaves


@dataclass(frozen=True, slots=True)
class Space:
    """The searched parameters as columns; a row of coordinates is a point."""

    columns: tuple[Column, ...]

    @classmethod
    def of(
        cls, distributions: Mapping[str, BaseDistribution], *, batch_size: str, lr: str, lattice: Lattice = "pow2"
    ) -> Space:
        """Return the space of Optuna's distributions, given the names of the two parameters."""
        columns = []
        for name, distribution in distributions.items():
            if name == batch_size and not unreadable(name, distribution):
                columns.append(_batch_size_column(name, distribution, lattice))
            elif name == lr and not unreadable(name, distribution):
                columns.append(_exponents(name, "lr", distribution) or _log_column(name, "lr", distribution))
            else:
                columns.append(_further_column(name, distribution))
        return cls(tuple(columns))

    def column(self, role: str) -> Column | None:
        """Return the first column of a role, or None."""
        return next((column for column in self.columns if column.role == role), None)

    def index(self, role: str) -> int | None:
        """Return the position of the first column of a role, or None."""
        return next((i for i, column in enumerate(self.columns) if column.role == role), None)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, in the columns' order."""
        return tuple(column.name for column in self.columns)

    @property
    def domain(self) -> Domain:
        """The ranges of the coordinates; the effective learning rate's at the middle of a searched momentum range."""
        size, rate, momentum = (self.column(role) for role in ("batch_size", "lr", "momentum"))
        shift = 0.0
        if momentum is not None:
            shift = float(_momentum_shift(np.array([(momentum.low + momentum.high) / 2]))[0])
        return Domain(
            None if size is None else (size.low, size.high),
            None if rate is None else (rate.low + shift, rate.high + shift),
            sum(column.role in ("momentum", "weight_decay", "number") for column in self.columns),
        )

    def encode(self, params: Sequence[Mapping[str, Any]]) -> Array:
        """Return the rows, shape (n, number of columns), of parameter dictionaries that hold every name."""
        rows = [[column.encode(row[column.name]) for column in self.columns] for row in params]
        return np.array(rows, dtype=float).reshape(len(rows), len(self.columns))

    def decode(self, row: Array) -> dict[str, Any]:
        """Return the parameters of one row."""
        return {column.name: column.decode(float(at)) for column, at in zip(self.columns, row, strict=True)}

    def snap(self, rows: Array) -> Array:
        """Return the nearest rows that the parameters can take."""
        return np.stack([column.snap(rows[:, i]) for i, column in enumerate(self.columns)], axis=1)

    def coordinates(self, rows: Array) -> Coordinates:
        """Return the surrogate's coordinates of rows."""
        size, rate = self.index("batch_size"), self.index("lr")
        b = rows[:, size] if size is not None else np.zeros(len(rows))
        x: Array = np.array(rows[:, rate] if rate is not None else np.zeros(len(rows)))
        numbers, choices = [], []
        for i, column in enumerate(self.columns):
            if column.role == "choice":
                choices.append(rows[:, i])
            elif column.role in ("momentum", "weight_decay", "number"):
                at, width = np.asarray(rows[:, i]), max(column.high - column.low, 1e-12)
                if column.role == "weight_decay" and rate is not None:
                    at = at + rows[:, rate] - (self.columns[rate].low + self.columns[rate].high) / 2
                numbers.append((at - column.low) / width)
                if column.role == "momentum" and rate is not None:
                    x = x + _momentum_shift(rows[:, i])
        empty = np.zeros((len(rows), 0))
        return Coordinates(
            b, x, np.stack(numbers, axis=1) if numbers else empty, np.stack(choices, axis=1) if choices else empty
        )

    def unit(self, rows: Array) -> Array:
        """Return rows with every range scaled to [0, 1]."""
        low = np.array([column.low for column in self.columns])
        high = np.array([column.high for column in self.columns])
        return np.asarray((rows - low) / np.maximum(high - low, 1e-12))

    def restricted(self, fixed: Mapping[str, Any]) -> Space:
        """Return the space with some parameters held at a value."""
        columns = []
        for column in self.columns:
            if column.name in fixed:
                at = column.encode(fixed[column.name])
                column = replace(column, low=at, high=at, values=np.array([at]))
            columns.append(column)
        return Space(tuple(columns))


def batch_sizes_on(lattice: Lattice, distribution: BaseDistribution) -> Array:
    """Return the batch sizes that may be proposed, in increasing order, at most `MOST_BATCH_SIZES`.

    All inside the distribution and on its step. Where powers of two cover little of a range (50 to 200), those
    three times as large come in between. A lattice with no size in the range gives way to `any`.
    """
    if isinstance(distribution, CategoricalDistribution):
        choices = np.unique(np.array(distribution.choices, dtype=float))
        return np.asarray(choices[choices > 0])
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    low, high = max(float(distribution.low), min(1.0, float(distribution.high))), float(distribution.high)
    grid = _step(distribution)
    if lattice == "any" and grid is None:
        return np.geomspace(low, high, MOST_BATCH_SIZES)
    sizes = lattice_sizes(lattice, math.ceil(low), math.floor(high))
    if lattice == "pow2" and sizes and sizes[-1] / sizes[0] < (high / low) ** LEAST_COVERED:
        between = [3 * size for size in lattice_sizes("pow2", 1, math.floor(high / 3)) if low <= 3 * size <= high]
        sizes = sorted({*sizes, *between})
    on_lattice = np.array(sizes if len(sizes) <= MANY_BATCH_SIZES else _spread(sizes), dtype=float)
    kept = on_lattice[_on_step(on_lattice, distribution)]
    if not len(kept) and grid is None:
        return batch_sizes_on("any", distribution)
    if not len(kept) and grid is not None:
        kept = grid[0] + grid[1] * np.arange(np.floor((high - grid[0]) / grid[1]) + 1)
        kept = kept[kept > 0]
    if len(kept) <= MOST_BATCH_SIZES:
        return kept
    wanted = np.geomspace(kept[0], kept[-1], MOST_BATCH_SIZES)
    nearest = np.abs(np.log2(kept)[:, None] - np.log2(wanted)[None, :]).argmin(axis=0)
    return np.asarray(kept[np.unique(nearest)])


def _spread(sizes: Sequence[int]) -> Array:
    """Return some of very many equally spaced sizes, spread evenly in log2."""
    step = sizes[1] - sizes[0]
    return np.asarray(step * np.unique(np.round(np.geomspace(sizes[0], sizes[-1], 10_000) / step)))


def _batch_size_column(name: str, distribution: BaseDistribution, lattice: Lattice) -> Column:
    if (exponents := _exponents(name, "batch_size", distribution)) is not None:
        if exponents.values is not None:
            return exponents
        natural = FloatDistribution(2.0**exponents.low, 2.0**exponents.high)
        sizes = np.clip(np.log2(batch_sizes_on(lattice, natural)), exponents.low, exponents.high)
        return replace(exponents, low=float(sizes[0]), high=float(sizes[-1]), values=sizes)
    sizes = np.log2(batch_sizes_on(lattice, distribution))
    return Column(name, "batch_size", distribution, float(sizes[0]), float(sizes[-1]), is_log=True, values=sizes)


def _exponents(name: str, role: Literal["batch_size", "lr"], distribution: BaseDistribution) -> Column | None:
    """Return the column of a parameter whose values are exponents; None where they aren't.

    Its `values` are None for a continuous one, and where a learning rate's are on a step.
    """
    base = exponent_base(name, distribution)
    if base is None:
        return None
    octaves = math.log2(base)
    values: Array | None = None
    if isinstance(distribution, CategoricalDistribution):
        values = np.unique(np.array(distribution.choices, dtype=float)) * octaves
        low, high = float(values[0]), float(values[-1])
    else:
        assert isinstance(distribution, (FloatDistribution, IntDistribution))
        low, high = distribution.low * octaves, distribution.high * octaves
        grid = _step(distribution)
        if role == "batch_size" and grid is not None:
            values = np.asarray(
                (grid[0] + grid[1] * np.arange(round((distribution.high - grid[0]) / grid[1]) + 1)) * octaves
            )
    return Column(name, role, distribution, low, high, is_log=False, values=values, octaves=octaves)


def _log_column(name: str, role: Literal["lr", "weight_decay"], distribution: BaseDistribution) -> Column:
    if isinstance(distribution, CategoricalDistribution):
        choices = np.array(distribution.choices, dtype=float)
        rates = np.unique(np.log2(choices[choices > 0]))
        return Column(name, role, distribution, float(rates[0]), float(rates[-1]), is_log=True, values=rates)
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    least = distribution.low if distribution.low > 0 else distribution.step or distribution.high * FROM_ZERO
    return Column(name, role, distribution, float(np.log2(least)), float(np.log2(distribution.high)), is_log=True)


def _further_column(name: str, distribution: BaseDistribution) -> Column:
    if isinstance(distribution, CategoricalDistribution):
        values = np.arange(len(distribution.choices), dtype=float)
        return Column(name, "choice", distribution, 0.0, float(values[-1]), is_log=False, values=values)
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    kind = name.rsplit(".", 1)[-1]
    if kind == "weight_decay" and distribution.log:
        return _log_column(name, "weight_decay", distribution)
    is_momentum = kind == "momentum" and 0 <= distribution.low <= distribution.high < 1 and not distribution.log
    low, high = float(distribution.low), float(distribution.high)
    if distribution.log:
        low, high = float(np.log2(low)), float(np.log2(high))
    return Column(name, "momentum" if is_momentum else "number", distribution, low, high, is_log=distribution.log)


def _momentum_shift(momentum: Array) -> Array:
    return np.asarray(np.log2((1.0 - USUAL_MOMENTUM) / np.maximum(1.0 - momentum, 1e-3)))


def _step(distribution: BaseDistribution) -> tuple[float, float] | None:
    """Return (low, step) of a stepped distribution, or None for a continuous one."""
    if not isinstance(distribution, (FloatDistribution, IntDistribution)) or distribution.step is None:
        return None
    return float(distribution.low), float(distribution.step)


def _on_step(sizes: Array, distribution: FloatDistribution | IntDistribution) -> NDArray[np.bool_]:
    inside = (sizes >= distribution.low) & (sizes <= distribution.high)
    grid = _step(distribution)
    if grid is not None:
        steps = (sizes - grid[0]) / grid[1]
        inside &= np.abs(steps - np.round(steps)) < 1e-9
    return np.asarray(inside)
