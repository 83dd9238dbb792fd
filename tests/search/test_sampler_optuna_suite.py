"""Optuna's own suite for samplers, every case that applies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)

from bsopt.search.sampler import ScalingSampler

pytestmark = pytest.mark.slow


class TestScalingSampler(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: ScalingSampler(seed=0)


class TestScalingSamplerOfTheseNames(BasicSamplerTestCase, RelativeSamplerTestCase):
    """The same with the suite's parameters x and y as learning rate and batch size."""

    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: ScalingSampler(seed=0, lr="x", batch_size="y", lattice="any")
