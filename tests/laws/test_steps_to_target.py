"""Critical batch sizes are recovered, and called unidentified or contradicted where the runs say so."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsopt.laws.estimate import FitStatus
from bsopt.laws.steps_to_target import (
    StepsToTargetFit,
    TargetRun,
    fit_steps_to_target,
    samples_to_target,
    steps_to_target,
)
from bsopt.serialization import from_plain, to_plain

SIZES = (16, 32, 64, 128, 256, 512, 1024)
# MLPerf reference convergence points of DeepCAM (Apache-2.0): median epochs to the target by global batch size.
DEEPCAM = {128: 7.0, 256: 9.0, 512: 11.0, 1024: 13.0, 2048: 22.5}


def runs(critical: float, *, noise: float = 0.03, seed: int = 0, sizes: tuple[int, ...] = SIZES) -> list[TargetRun]:
    rng = np.random.default_rng(seed)
    return [TargetRun(B, 1e5 * (1 + B / critical) * math.exp(noise * rng.standard_normal())) for B in sizes]


@given(st.floats(1, 1e5), st.floats(1, 1e5), st.floats(1, 1e6))
def test_samples_are_steps_times_batch_size(B: float, critical: float, min_steps: float) -> None:
    steps = steps_to_target(B, min_steps=min_steps, critical_batch_size=critical)
    samples = samples_to_target(B, min_samples=min_steps * critical, critical_batch_size=critical)
    assert samples == pytest.approx(B * steps)


def test_critical_batch_size_is_recovered_and_covered() -> None:
    covered = []
    for seed in range(30):
        fit = fit_steps_to_target(runs(200.0, seed=seed))
        assert fit.status is FitStatus.OK
        assert fit.critical_batch_size is not None
        assert 120 < fit.critical_batch_size.value < 330
        covered.append(200.0 in fit.critical_batch_size)
    assert np.mean(covered) >= 0.8


def test_published_points_give_the_published_critical_batch_size() -> None:
    fit = fit_steps_to_target([TargetRun(B, epochs) for B, epochs in DEEPCAM.items()], resolution_samples=1.0)
    assert fit.status is FitStatus.OK
    assert fit.critical_batch_size is not None
    assert 860 in fit.critical_batch_size  # computed from the same points by least squares, to 9 %
    found = fit.predict(1024)
    assert found is not None
    assert found.samples.value == pytest.approx(13.0, rel=0.15)


def test_larger_sizes_are_predicted_from_smaller_ones() -> None:
    found = fit_steps_to_target(runs(200.0, sizes=(64, 128, 256, 512))).predict(2048)
    assert found is not None
    assert found.is_extrapolated
    assert found.samples.value == pytest.approx(1e5 * (1 + 2048 / 200), rel=0.2)
    assert found.steps.value == pytest.approx(found.samples.value / 2048)


def test_regimes_run_from_perfect_scaling_to_flat() -> None:
    fit = fit_steps_to_target(runs(200.0))
    regimes = [prediction.regime for B in (16, 200, 4096) if (prediction := fit.predict(B))]
    assert regimes == ["perfect_scaling", "diminishing", "flat"]


def test_equal_samples_everywhere_bound_the_critical_size_from_below() -> None:
    fit = fit_steps_to_target(runs(1e7))
    assert fit.status is FitStatus.NOT_IDENTIFIED
    assert fit.critical_batch_size is not None
    assert fit.critical_batch_size.low > 1024
    assert math.isinf(fit.critical_batch_size.high)
    beyond = fit.predict(16384)
    assert beyond is None or 1e5 * (1 + 16384 / 1e7) in beyond.samples
    assert fit.predict(1e6) is None
    assert fit.predict(128) is not None
    assert "above" in fit.message


def test_equal_steps_everywhere_bound_it_from_above() -> None:
    fit = fit_steps_to_target(runs(0.05))
    assert fit.status is FitStatus.NOT_IDENTIFIED
    assert "below" in fit.message


def test_falling_samples_contradict_the_law() -> None:
    fit = fit_steps_to_target([TargetRun(8, 477.0), TargetRun(64, 30.0), TargetRun(256, 17.0), TargetRun(1024, 18.0)])
    assert fit.status is FitStatus.CONTRADICTORY
    assert "isn't tuned" in fit.message
    assert fit.predict(64) is None


def test_rising_steps_contradict_the_law() -> None:
    fit = fit_steps_to_target(
        [TargetRun(64, 30.0), TargetRun(256, 31.0), TargetRun(512, 120.0), TargetRun(1024, 480.0)]
    )
    assert fit.status is FitStatus.CONTRADICTORY


def test_one_slip_among_several_runs_does_no_harm() -> None:
    clean = [run for seed in range(5) for run in runs(200.0, seed=seed)]
    slipped = [*clean, TargetRun(64, clean[2].samples * 10)]
    a, b = fit_steps_to_target(clean).critical_batch_size, fit_steps_to_target(slipped).critical_batch_size
    assert a is not None
    assert b is not None
    assert b.value == pytest.approx(a.value, rel=0.1)


def test_run_that_never_reached_the_target_counts_as_a_bound() -> None:
    reached = runs(2e3, sizes=(16, 32, 64))
    free = fit_steps_to_target(reached).critical_batch_size
    bound = fit_steps_to_target([*reached, TargetRun(1024, math.nan, watched_samples=4e5)]).critical_batch_size
    assert free is not None
    assert bound is not None
    assert bound.value < free.value / 2


def test_two_batch_sizes_are_too_few() -> None:
    fit = fit_steps_to_target(runs(200.0, sizes=(16, 32)))
    assert fit.status is FitStatus.TOO_FEW
    assert fit.predict(16) is None


def test_fit_survives_storage_as_json() -> None:
    for critical in (200.0, 1e7):
        fit = fit_steps_to_target(runs(critical), target=0.5)
        assert from_plain(StepsToTargetFit, json.loads(json.dumps(to_plain(fit)))) == fit


def _runs(critical: float, *, first_tick: float, sizes: tuple[int, ...] = (8, 16, 32, 64, 128, 256)) -> list[TargetRun]:
    """Runs of a known law that validate every `first_tick` samples."""
    found = []
    for size in sizes:
        crossed = 1000.0 * (1.0 + size / critical)
        seen = math.ceil(crossed / first_tick) * first_tick
        found.append(TargetRun(size, seen, is_upper_bound=seen == first_tick, resolution_samples=first_tick))
    return found


def test_a_target_passed_at_the_first_validation_is_a_bound_and_no_point() -> None:
    runs = _runs(128.0, first_tick=1300.0, sizes=(8, 16, 32, 64, 128, 256, 512, 1024))
    assert sum(run.is_upper_bound for run in runs) == 3
    as_points = fit_steps_to_target([replace(run, is_upper_bound=False) for run in runs])
    fit = fit_steps_to_target(runs)
    assert fit.critical_batch_size is not None
    assert 128.0 in fit.critical_batch_size
    assert as_points.critical_batch_size is not None
    assert abs(fit.critical_batch_size.value - 128.0) < abs(as_points.critical_batch_size.value - 128.0)


def test_bounds_alone_give_no_critical_batch_size() -> None:
    fit = fit_steps_to_target(_runs(1e4, first_tick=2000.0))
    assert fit.status is FitStatus.TOO_FEW
    assert fit.critical_batch_size is None
    assert "at their first validation" in fit.message


def test_larger_sizes_are_told_where_the_interval_is_narrow_though_the_critical_size_is_not() -> None:
    fit = fit_steps_to_target([TargetRun(size, 1000.0 * (1 + size / 4000)) for size in (8, 16, 32, 64)])
    assert fit.status is FitStatus.NOT_IDENTIFIED
    found = fit.predict(128)
    assert found is not None
    assert found.samples.high < 4.0 * found.samples.low
    assert 1032.0 in found.samples
    assert fit.predict(64 * 4096) is None
