"""The ladder's arithmetic, on trainings whose best learning rate is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsopt.laws.lr_ladder import LONG, NUM_RUNGS, SHORT, Rung, climb, first_rate, has_diverged, measured_lr, steps_for
from bsopt.laws.scaling import Reference
from bsopt.laws.surface_prior import ridge_prior


def pretended(best: float, *, diverges_above: float = math.inf) -> list[float]:
    """Return a trainer whose loss after any number of steps is a parabola around a rate's log2."""

    def try_rate(lr: float) -> Rung:
        if lr > diverges_above:
            return Rung(lr, (1.0, math.inf), has_diverged=True)
        end = 0.1 + 0.01 * (math.log2(lr) - best) ** 2
        return Rung(lr, (1.0, *[end] * 59))

    return try_rate


def measure(try_rate, *, steps: float = 60, num_steps: int = LONG, batch_size: int = 32, decays: bool = False):
    rungs = climb(try_rate, start=first_rate("sgd"))
    return measured_lr(
        rungs, batch_size=batch_size, num_steps=num_steps, training_steps=steps, decays_to_end=decays, seconds=1.0
    )


@given(st.floats(-20.0, 6.0))
def test_the_best_rate_is_found_between_the_rungs_wherever_it_is(best: float) -> None:
    found = measure(pretended(best))
    assert np.log2(found.lr) == pytest.approx(best + 0.3, abs=1e-6)


def test_the_ladder_grows_only_where_an_end_of_it_wins() -> None:
    assert len(climb(pretended(-5.0), start=2.0**-9)) == NUM_RUNGS
    lower = climb(pretended(-14.0), start=2.0**-9)
    assert lower[0].lr < 2.0**-14
    assert [r.lr for r in lower] == sorted(r.lr for r in lower)


def test_rates_above_two_that_diverged_are_not_tried() -> None:
    rungs = climb(pretended(-8.5, diverges_above=2.0**-6), start=2.0**-9)
    assert [rung.has_diverged for rung in rungs] == [False, False, False, True, True]


def test_where_no_rate_learns_nothing_is_measured() -> None:
    assert measure(lambda lr: Rung(lr, (1.0,) * 60)) is None
    assert measure(lambda lr: Rung(lr, (1.0, math.nan), has_diverged=True)) is None


def test_longer_trainings_want_lower_rates_and_constant_ones_more_so() -> None:
    at = {(steps, decays): np.log2(measure(pretended(-5.0), steps=steps, decays=decays).lr)
          for steps in (60, 960) for decays in (False, True)}  # fmt: skip
    assert at[60, False] == at[60, True]
    assert at[960, False] == pytest.approx(at[60, False] - 1.6)
    assert at[960, True] == pytest.approx(at[60, True] - 0.52)


def test_short_rungs_and_other_batch_sizes_are_less_sure() -> None:
    assert measure(pretended(-5.0)).sd == 1.25
    assert measure(pretended(-5.0), num_steps=SHORT).sd == 1.5
    assert measure(pretended(-5.0), batch_size=64).sd == 1.5


def test_a_ladder_never_takes_longer_than_a_training() -> None:
    assert [steps_for(t) for t in (None, 10_000, 360, 359, 120, 119)] == [60, 60, 60, 20, 20, 0]


def test_a_loss_that_rises_for_a_step_or_falls_has_not_diverged() -> None:
    assert not has_diverged([1.0, 50.0, 1.0, 0.9, 0.8, 0.7, 0.6])
    assert not has_diverged([-1.0, -20.0, -30.0, -40.0, -50.0, -60.0])
    assert has_diverged([1.0, math.inf])


def test_the_ridge_is_believed_as_closely_as_its_reference_was_measured() -> None:
    assert ridge_prior("sgd", None, Reference(32, 0.01)).centre_sd == 2.5
    assert ridge_prior("sgd", None, Reference(32, 0.01, 1.25)).centre_sd == 1.25
