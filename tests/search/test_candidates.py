"""The points that are scored, without a sampler around them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from bsopt.search.candidates import best_row
from bsopt.search.space import Space

PLANE: dict[str, BaseDistribution] = {
    "batch_size": IntDistribution(8, 1024, log=True),
    "lr": FloatDistribution(1e-4, 1.0, log=True),
}
WIDER: dict[str, BaseDistribution] = {
    **PLANE,
    "dropout": FloatDistribution(0.0, 0.5),
    "activation": CategoricalDistribution(["relu", "gelu", "tanh"]),
}
Score = Callable[[np.ndarray], np.ndarray]


def space_of(distributions: dict[str, BaseDistribution]) -> Space:
    return Space.of(distributions, batch_size="batch_size", lr="lr")


def peak_at(*place: float) -> Score:
    return lambda rows: -((rows - np.array(place)) ** 2).sum(axis=1)


def search(space: Space, score: Score, *, around: np.ndarray | None = None, seed: int = 0, **options) -> np.ndarray:
    rows = np.zeros((0, len(space.columns))) if around is None else around
    rng = np.random.default_rng(seed)
    return best_row(space, score, quick_score=options.get("quick_score", score), around=rows, rng=rng)


def test_peak_over_batch_size_and_learning_rate_is_found_between_the_grids_points() -> None:
    space = space_of(PLANE)
    found = search(space, peak_at(6.0, -4.321))
    assert found[0] == 6.0
    assert found[1] == pytest.approx(-4.321, abs=0.05)


def test_every_scored_row_is_one_that_the_parameters_can_take() -> None:
    space, seen = space_of({**PLANE, "batch_size": IntDistribution(10, 1000, log=True)}), []

    def score(rows: np.ndarray) -> np.ndarray:
        seen.append(rows)
        return peak_at(20.0, 5.0)(rows)

    search(space, score)
    rows = np.concatenate(seen)
    assert rows == pytest.approx(space.snap(rows))
    assert set(2.0 ** rows[:, 0]) <= {16, 32, 64, 128, 256, 512}


def test_steps_from_good_rows_come_closer_than_spread_points_alone() -> None:
    space, score = space_of(WIDER), peak_at(6.0, -4.3, 0.21, 1.0)
    near = np.array([[6.0, -4.5, 0.25, 1.0]])
    with_steps = np.mean([score(search(space, score, around=near, seed=s)[None])[0] for s in range(5)])
    alone = np.mean([score(search(space, score, seed=s)[None])[0] for s in range(5)])
    assert with_steps > -0.02
    assert with_steps > alone


def test_quick_score_picks_where_the_score_itself_is_asked() -> None:
    space, asked = space_of(PLANE), []

    def score(rows: np.ndarray) -> np.ndarray:
        asked.append(rows)
        return peak_at(3.0, -13.0)(rows)

    found = search(space, score, quick_score=peak_at(8.0, -4.0))
    rows = np.concatenate(asked)
    assert np.abs(rows[:, 0] - 8.0).max() <= 2.0
    assert score(found[None])[0] == score(rows).max()


def test_held_parameters_stay_where_they_are() -> None:
    space = space_of(WIDER).restricted({"batch_size": 64, "activation": "tanh"})
    found = space.decode(search(space, peak_at(9.0, -4.0, 0.1, 0.0)))
    assert (found["batch_size"], found["activation"]) == (64, "tanh")


def test_same_generator_gives_the_same_row() -> None:
    space, score = space_of(WIDER), peak_at(6.0, -4.3, 0.21, 1.0)
    assert search(space, score, seed=3).tolist() == search(space, score, seed=3).tolist()
