"""Values on the scale that the surface is fitted on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bsopt.laws.value_transform import ValueTransform


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20), maximize=st.booleans())
@settings(deadline=None)
def test_squash_is_monotone_and_follows_the_direction(values: list[float], maximize: bool) -> None:
    transform = ValueTransform.of(values, maximize=maximize)
    ordered = transform(np.sort(values))
    steps = np.diff(ordered)
    assert np.isfinite(ordered).all()
    assert (steps <= 1e-9).all() if maximize else (steps >= -1e-9).all()


@given(values=st.lists(st.floats(0.1, 10), min_size=3, max_size=12), scale=st.floats(1e-3, 1e3), shift=st.floats(-5, 5))
@settings(deadline=None)
def test_squash_does_not_depend_on_the_unit(values: list[float], scale: float, shift: float) -> None:
    v = np.round(np.array(values), 3)
    plain, other = ValueTransform.of(v), ValueTransform.of(scale * (v + shift))
    assert other(scale * (v + shift)) == pytest.approx(plain(v), abs=1e-5)


def test_diverged_and_missing_values_count_as_the_cap() -> None:
    transform = ValueTransform.of([1.0, 2.0, 3.0, np.inf, np.nan])
    assert transform(np.inf) == transform(np.nan) == transform(1e30) > transform(3.0)
    assert transform(-np.inf) == transform(1.0)


def test_squash_inverts_below_its_cap() -> None:
    transform = ValueTransform.of([0.3, 0.4, 0.9, 5.0], maximize=True)
    assert transform.inverse(transform([5.5, 5.0, 0.4])) == pytest.approx([5.5, 5.0, 0.4])


def test_slope_is_the_derivative_of_the_squash() -> None:
    transform = ValueTransform.of([1.0, 1.5, 2.0, 4.0])
    step = 1e-6
    assert transform.slope(2.5) == pytest.approx((transform(2.5 + step) - transform(2.5 - step)) / (2 * step), rel=1e-4)
