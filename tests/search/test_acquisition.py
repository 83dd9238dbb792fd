"""What a point is worth trying for, and where none can be tried."""

from __future__ import annotations

import numpy as np
import pytest

from bsopt.search.acquisition import expected_improvement
from bsopt.search.feasibility import Feasibility


def test_expected_improvement_of_a_certain_gain_is_the_gain() -> None:
    assert expected_improvement(np.array(2.0), np.array(1e-9)) == pytest.approx(2.0)
    assert expected_improvement(np.array(-2.0), np.array(1e-3)) == pytest.approx(0.0, abs=1e-12)


def test_boundary_along_one_parameter_is_learned_with_a_margin() -> None:
    rng = np.random.default_rng(0)
    rows = rng.random((30, 2))
    model = Feasibility.of(rows, np.where(rows[:, 0] < 0.6, 1.0, -1.0))
    assert model.probability(np.array([[0.2, 0.5], [0.4, 0.1]])).min() > 0.8
    assert model.probability(np.array([[0.75, 0.5], [0.95, 0.1]])).max() < 0.1
    assert model.probability(np.array([[0.6, 0.5]]))[0] < 0.5
