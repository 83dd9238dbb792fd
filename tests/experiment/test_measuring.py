"""What a run measured: the same places for every run, computed by hand beside."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from bsopt.experiment.measuring import Common, common_of, contour_rise, line_rises, measured, sharpness_of
from bsopt.trial.record import StopReason, Tick, TrialRecord


def run(
    train: Sequence[float],
    *,
    val: Sequence[float] | None = None,
    batch_size: int = 32,
    reason: StopReason = StopReason.CONVERGED,
    epochs: Sequence[float] = (),
) -> TrialRecord:
    """A run with a tick an epoch."""
    values = list(val or [2 * loss for loss in train])
    ticks = tuple(
        Tick(i, 100.0 * i, 10 * i, float(i), float(i), value, metrics={"val_loss": value, "train_loss": loss})
        for i, (loss, value) in enumerate(zip(train, values, strict=True), start=1)
    )
    best = values.index(min(values)) + 1
    return TrialRecord(
        0,
        "complete",
        batch_size=batch_size,
        lr=0.1,
        stop_reason=reason,
        ticks=ticks,
        best_tick=best,
        peak_memory_bytes=1000,
        samples_per_second=50.0,
        measurements={"WeightDistance": {"epochs": list(epochs), "from_start": [float(i) for i in range(len(train))]}},
    )


def test_all_runs_have_the_shortest_s_epochs_and_half_of_the_slowest_s_way_in_common() -> None:
    fast, slow = run([1.0, 0.1, 0.01, 0.001]), run([1.0, 0.5, 0.04], batch_size=256)
    lost = run([1.0, 9.0], reason=StopReason.DIVERGED)
    common = common_of([fast, slow, lost], "val_loss")
    assert common.num_epochs == 3
    assert common.train_loss == pytest.approx(math.sqrt(1.0 * 0.04))


def test_one_run_that_learned_nothing_does_not_move_where_all_are_compared() -> None:
    sound = [run([1.0, 0.1, 0.01]) for _ in range(4)]
    assert common_of([*sound, run([1.0, 1.0, 1.0])], "val_loss") == common_of(sound, "val_loss")


def test_runs_without_a_training_loss_have_none_in_common() -> None:
    assert common_of([], "val_loss") == Common(0, None)


def test_epochs_to_a_training_loss_lie_between_two_epochs() -> None:
    found = measured(run([1.0, 0.1, 0.01]), "val_loss", Common(3, 10**-1.5))
    assert found["epochs_to_train_loss"] == pytest.approx(2.5)
    assert measured(run([1.0, 0.1]), "val_loss", Common(2, 1.0))["epochs_to_train_loss"] == 1.0
    assert "epochs_to_train_loss" not in measured(run([1.0, 0.1]), "val_loss", Common(2, 0.01))


def test_the_validation_loss_is_taken_where_the_training_loss_is_the_same() -> None:
    found = measured(run([1.0] * 5 + [0.1] * 5, val=[3.0] * 5 + [0.5] * 5), "val_loss", Common(10, 0.1))
    assert found["val_loss_at_train_loss"] == pytest.approx((3.0**2 * 0.5**3) ** 0.2)


def test_overfitting_is_validation_over_training_loss_after_equally_many_epochs() -> None:
    long = run([1.0] * 6 + [0.001], val=[2.0] * 7)
    assert measured(long, "val_loss", Common(6, None))["overfitting"] == pytest.approx(2.0)


def test_epoch_distances_are_compared_over_the_epochs_that_all_runs_have() -> None:
    found = measured(run([1.0] * 8, epochs=[4.0, 4.0, 2.0, 2.0, 1.0, 1.0, 99.0, 99.0]), "val_loss", Common(6, None))
    assert found["epoch_distance"] == pytest.approx(2.0)
    assert found["epoch_distance_growth"] == pytest.approx(0.25)


def test_a_run_that_diverged_has_its_best_losses_alone() -> None:
    lost = run([1.0, 0.5, 7.0], reason=StopReason.DIVERGED)
    assert set(measured(lost, "val_loss", Common(3, 0.7))) == {"best_val_loss", "best_train_loss"}


def test_the_line_s_rise_is_the_range_around_each_end() -> None:
    alphas = [round(-1 + 0.1 * k, 6) for k in range(31)]
    line = {"alphas": alphas, "train_losses": [a**2 if a < 0.5 else 4 * (a - 1) ** 2 for a in alphas]}
    first, second = line_rises(line)
    assert first == pytest.approx(0.09)
    assert second == pytest.approx(0.36)
    assert line_rises({"alphas": alphas, "train_losses": [math.inf] * 31}) == (None, None)


def test_the_contours_rise_is_the_mean_over_a_disc() -> None:
    axis = [-1.0, -0.5, 0.0, 0.5, 1.0]
    bowl = {
        "alphas": axis,
        "betas": axis,
        "losses": [[1.0 + a**2 + b**2 for a in axis] for b in axis],
        "center_loss": 1.0,
    }
    assert contour_rise(bowl) == pytest.approx(0.25)
    assert contour_rise({**bowl, "losses": [[math.inf] * 5] * 5}) is None


def test_curvature_times_the_rate_stands_beside_the_measures_of_sharpness() -> None:
    stored = {"full": {"value": 3.0, "loss": 0.05}, "curvature": {"value": 15.0}}
    assert sharpness_of(stored, 0.1) == {
        "sharpness": 3.0,
        "top_curvature": 15.0,
        "curvature_times_lr": pytest.approx(1.5),
        "examined_loss": 0.05,
    }
    assert sharpness_of({}, 0.1) == {}
