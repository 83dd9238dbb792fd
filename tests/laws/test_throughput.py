"""Where a run's time goes, told to a meter by a clock of our own."""

from __future__ import annotations

import pytest

from bsopt.laws.throughput import ResourceUse, Throughput, ThroughputMeter


class _Run:
    """Batches of 10 ms of work after 2 ms of waiting, 4 samples each."""

    def __init__(self) -> None:
        self.now = 0.0
        self.meter = ThroughputMeter(lambda: self.now)

    def train(self, batches: int, *, start: int = 0, accumulate: int = 1) -> None:
        for index in range(start, start + batches):
            self.now += 0.002
            self.meter.start_batch(4, is_first=index == 0)
            self.now += 0.010
            self.meter.end_batch(ends_step=(index + 1) % accumulate == 0)

    def summary(self) -> Throughput:
        summary = self.meter.summary()
        assert summary is not None
        return summary


@pytest.fixture
def run() -> _Run:
    run = _Run()
    run.meter.start_fit()
    return run


def test_nothing_is_said_before_the_first_step(run: _Run) -> None:
    assert run.meter.summary() is None


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_step_is_all_its_batches_with_their_waiting(run: _Run, accumulate: int) -> None:
    run.train(40, accumulate=accumulate)
    summary = run.summary()
    assert summary.seconds_per_step == pytest.approx(0.012 * accumulate)
    assert summary.samples_per_second == pytest.approx(4 / 0.012)
    assert summary.data_share == pytest.approx(1 / 6)
    assert (summary.num_steps, summary.num_samples) == (40 // accumulate, 160)


def test_the_first_five_steps_of_a_fit_warm_up(run: _Run) -> None:
    run.train(5)
    assert run.summary().seconds_per_step is None
    run.now += 1.0
    run.train(1, start=5)
    assert run.summary().seconds_per_step == pytest.approx(1.012)


def test_what_lies_between_pause_and_resume_is_no_training(run: _Run) -> None:
    run.train(10)
    run.meter.pause()
    run.now += 100.0
    run.meter.resume()
    run.train(10, start=10)
    assert run.summary().train_seconds == pytest.approx(20 * 0.012)


def test_only_whole_epochs_are_timed(run: _Run) -> None:
    run.train(3, start=2)  # a run that resumes inside an epoch
    run.meter.end_epoch()
    run.meter.start_epoch()
    run.train(5)
    run.meter.end_epoch()
    assert run.summary().seconds_per_epoch == pytest.approx((5 * 0.012,))


def test_resources_are_passed_on_and_state_goes_on(run: _Run) -> None:
    run.train(10)
    again = _Run()
    again.meter.load(run.meter.state())
    assert again.meter.summary() == run.meter.summary()
    used = ResourceUse(5, "device", 2.0, "nvml")
    summary = again.meter.summary(used)
    assert summary is not None
    assert (summary.peak_memory_bytes, summary.memory_kind, summary.energy_joules) == (5, "device", 2.0)


def test_processes_with_different_batches_settle_on_their_sum() -> None:
    run = _Run()
    run.meter.start_fit(num_processes=2)
    run.train(10)
    assert run.summary().num_samples == 2 * 40  # the other's count for as many
    assert run.meter.unsettled() == (40, 20)
    run.meter.settle(60, 30)
    run.meter.settle(0, 0)
    assert run.summary().num_samples == 60
    assert run.summary().samples_per_second == pytest.approx(6 / 0.012)
