"""When ticks fall and how many samples were seen, by arithmetic alone."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsopt.errors import ConfigError
from bsopt.training.tick_schedule import Schedule, exact_samples
from bsopt.units import Amount


def test_schedule_turns_epochs_into_samples() -> None:
    schedule = Schedule.of(Amount(0.5, "epochs"), Amount(3, "epochs"), num_train_samples=1000)
    assert (schedule.every, schedule.end, schedule.num_ticks) == (500, 3000, 6)


def test_epochs_of_unknown_data_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"budget\.validate_every is in epochs"):
        Schedule.of(Amount(1, "epochs"), None, num_train_samples=None)


def test_the_budgets_end_is_a_tick_even_between_two() -> None:
    schedule = Schedule(every=100, end=250)
    assert [schedule.due(s) for s in (99, 100, 249, 250)] == [0, 1, 2, 3]
    assert schedule.samples_at(3) == 250


@given(
    n=st.integers(10, 5000),
    batch=st.integers(1, 600),
    epochs=st.integers(1, 8),
    per_epoch=st.integers(1, 4),
)
def test_every_tick_falls_once_at_the_first_boundary_after_its_samples(
    n: int, batch: int, epochs: int, per_epoch: int
) -> None:
    every = n / per_epoch
    schedule = Schedule(every=every, end=float(n * epochs))
    batches = -(-n // min(batch, n))
    told = 0
    for done in range(1, epochs * batches + 1):
        samples = Fraction(n * done, batches)
        due = schedule.due(float(samples))
        exact = samples / Fraction(n, per_epoch)
        assert due == exact.numerator // exact.denominator or float(samples) >= n * epochs * (1 - 1e-9)
        told = max(told, due)
    assert told == schedule.num_ticks == epochs * per_epoch


@pytest.mark.parametrize(
    ("num_batches", "drop_last", "expected"),
    [(0, False, 0), (3, False, 96), (4, False, 100), (5, False, 132), (8, False, 200), (3, True, 96), (7, True, 224)],
)
def test_ragged_ends_and_dropped_ones_are_counted(num_batches: int, drop_last: bool, expected: int) -> None:
    per_epoch = 3 if drop_last else 4
    found = exact_samples(num_batches, samples_per_batch=32, batches_per_epoch=per_epoch, num_train_samples=100)
    assert found == expected


@pytest.mark.parametrize(("batches_per_epoch", "num_train_samples"), [(math.inf, None), (4, None), (math.inf, 100)])
def test_data_of_unknown_length_count_full_batches(batches_per_epoch: float, num_train_samples: int | None) -> None:
    assert (
        exact_samples(5, samples_per_batch=32, batches_per_epoch=batches_per_epoch, num_train_samples=num_train_samples)
        == 160
    )


@given(n=st.integers(1, 500), batch=st.integers(1, 64), epochs=st.integers(0, 5))
def test_whole_epochs_see_each_sample_once(n: int, batch: int, epochs: int) -> None:
    batches = -(-n // batch)
    found = exact_samples(epochs * batches, samples_per_batch=batch, batches_per_epoch=batches, num_train_samples=n)
    assert found == epochs * n


def test_geometric_ticks_come_before_the_regular_ones() -> None:
    schedule = Schedule.of(Amount(1, "epochs"), Amount(3, "epochs"), num_train_samples=1600, is_geometric=True)
    assert schedule.num_ticks == 7
    assert [schedule.samples_at(i) for i in range(1, 8)] == [100, 200, 400, 800, 1600, 3200, 4800]
    assert [schedule.due(s) for s in (0, 99, 100, 399, 512, 1600, 4800)] == [0, 0, 1, 2, 3, 5, 7]


def test_geometric_ticks_beyond_a_short_budget_are_left_out() -> None:
    schedule = Schedule.of(Amount(1, "epochs"), Amount(0.2, "epochs"), num_train_samples=1600, is_geometric=True)
    assert [schedule.samples_at(i) for i in range(1, (schedule.num_ticks or 0) + 1)] == [100, 200, 320]
