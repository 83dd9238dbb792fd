"""The points among which the next trial is chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bsopt.search.space import Space

__all__ = ["best_row"]

Array: TypeAlias = NDArray[np.float64]

GRID_POINTS = 40
"""Learning rates per batch size in the first look; a second one refines around the best."""

SPREAD_POINTS, NEAR_POINTS = 1000, 160
"""In more than two dimensions: points spread over everything, and points near the best ones."""


def best_row(
    space: Space,
    score: Callable[[Array], Array],
    *,
    quick_score: Callable[[Array], Array],
    around: Array,
    rng: np.random.Generator,
) -> Array:
    """Return the row of the space with the highest score.

    Batch size and learning rate alone are searched on a grid; more parameters by spread points and by steps from
    good ones. The quick score picks out the points around which the score itself looks closer. Everything is
    snapped to what the parameters can take before it is scored.

    Args:
        space: Its restricted columns are held.
        score: From rows (m, columns) to (m,).
        quick_score: A cheaper approximation of it.
        around: Rows of good trials, to step from.
        rng: For the spread.
    """
    is_plane = all(column.role in ("batch_size", "lr") for column in space.columns)
    rows = _grid(space) if is_plane else np.concatenate([_spread(space, rng), _steps(space, around, rng)])
    rows, scores = _scored(space, rows, quick_score)
    top = rows[np.argsort(-scores, kind="stable")[:12]]
    rows, scores = _scored(space, top, score)
    for shrink in (1.0,) if is_plane else (1.0, 0.3):
        top = rows[np.argsort(-scores, kind="stable")[:6]]
        near = _between(space, top) if is_plane else _steps(space, top, rng, shrink=shrink)
        more, more_scores = _scored(space, near, score)
        rows, scores = np.concatenate([rows, more]), np.concatenate([scores, more_scores])
    return np.asarray(rows[int(np.argmax(scores))])


def _scored(space: Space, rows: Array, score: Callable[[Array], Array]) -> tuple[Array, Array]:
    rows = np.unique(space.snap(rows), axis=0)
    return rows, score(rows)


def _grid(space: Space) -> Array:
    axes = [
        column.values if column.values is not None else np.linspace(column.low, column.high, GRID_POINTS)
        for column in space.columns
    ]
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)


def _between(space: Space, top: Array) -> Array:
    """Return points within one grid step of the top rows, along the continuous columns."""
    rows = [top]
    for i, column in enumerate(space.columns):
        if column.values is None:
            for part in np.linspace(-0.9, 0.9, 9):
                moved = top.copy()
                moved[:, i] += part * (column.high - column.low) / (GRID_POINTS - 1)
                rows.append(moved)
    return np.concatenate(rows)


def _spread(space: Space, rng: np.random.Generator) -> Array:
    columns = []
    for column in space.columns:
        if column.values is not None:
            columns.append(rng.choice(column.values, SPREAD_POINTS))
        else:
            places = (rng.permutation(SPREAD_POINTS) + rng.random(SPREAD_POINTS)) / SPREAD_POINTS
            columns.append(column.low + places * (column.high - column.low))
    return np.stack(columns, axis=1)


def _steps(space: Space, around: Array, rng: np.random.Generator, *, shrink: float = 1.0) -> Array:
    """Return points a few coordinates away from the given rows, near and far."""
    if not len(around):
        return np.zeros((0, len(space.columns)))
    rows = around[rng.integers(len(around), size=NEAR_POINTS)].copy()
    moves = rng.random(rows.shape) < 0.5
    size = shrink * 0.3 * 10.0 ** rng.uniform(-1.5, 0.0, (NEAR_POINTS, 1))
    for i, column in enumerate(space.columns):
        step = size[:, 0] * (column.high - column.low) * rng.standard_normal(NEAR_POINTS)
        if column.role == "choice":
            assert column.values is not None
            rows[:, i] = np.where(moves[:, i], rng.choice(column.values, NEAR_POINTS), rows[:, i])
        else:
            rows[:, i] += np.where(moves[:, i], step, 0.0)
    return rows
