"""What a noise scale says about a batch size."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bsopt.laws.batch_size_advice import advise
from bsopt.laws.noise_scale import NoiseScale


def _noise(value: float, *, spread: float = 1.2) -> NoiseScale:
    return NoiseScale(
        value=value,
        low=value / spread,
        high=value * spread,
        gradient_sq_norm=1.0,
        covariance_trace=value,
        num_measurements=200,
    )


@pytest.mark.parametrize(
    ("batch_size", "verdict", "suggested"),
    [(32, "too small", 256), (512, "about right", None), (8192, "past the critical size", 1024)],
)
def test_verdict_and_suggestion_follow_the_noise_scale(batch_size: int, verdict: str, suggested: int | None) -> None:
    advice = advise(_noise(512), batch_size=batch_size, lr=0.1)
    assert advice.verdict == verdict
    assert (advice.suggestion.batch_size if advice.suggestion else None) == suggested
    assert f"{batch_size} is {verdict}" in advice.text


def test_options_state_steps_samples_time_and_learning_rate() -> None:
    option = next(o for o in advise(_noise(100), batch_size=100, lr=0.1).options if o.batch_size == 200)
    assert option.steps == pytest.approx(0.75)
    assert option.samples == pytest.approx(1.5)
    assert (option.time_low, option.time_high) == pytest.approx((0.75, 1.5))
    assert option.steps_low <= option.steps <= option.steps_high
    assert option.lr == pytest.approx(0.1 * 2 / 1.5)


def test_adaptive_optimizers_get_the_square_root_of_the_learning_rate_factor() -> None:
    option = next(
        o for o in advise(_noise(100), batch_size=100, lr=0.1, optimizer="AdamW").options if o.batch_size > 100
    )
    assert option.lr == pytest.approx(0.1 * (2 / 1.5) ** 0.5)


def test_a_wide_interval_is_said_to_be_unsure() -> None:
    assert "not very" in advise(_noise(512, spread=5), batch_size=32).certainty
    assert "factor of 1.4" in advise(_noise(512), batch_size=32).certainty


def test_nothing_measured_is_said() -> None:
    advice = advise(None, batch_size=32)
    assert advice.verdict == "unknown"
    assert "can't tell yet" in advice.text
    unbounded = NoiseScale(math.inf, 10.0, math.inf, -1.0, 5.0, 10)
    assert "above 10 samples" in advise(unbounded, batch_size=32).text


def test_a_run_that_accumulates_already_is_not_told_to() -> None:
    unbounded = replace(_noise(64), low=0.0, high=math.inf)
    for noise in (unbounded, _noise(512, spread=5)):
        assert "accumulate two or more" in advise(noise, batch_size=32).next_step
        assert "accumulate" not in advise(noise, batch_size=32, num_parts=2).next_step
    assert "above 0 samples" not in advise(unbounded, batch_size=32).text


@pytest.mark.parametrize("num_measurements", [1, 4])
def test_a_few_measurements_give_no_verdict(num_measurements: int) -> None:
    advice = advise(replace(_noise(64), num_measurements=num_measurements), batch_size=64, lr=0.1)
    assert advice.verdict == "unknown"
    assert advice.suggestion is None
    assert "can't tell yet whether 64 is right" in advice.text


def test_an_interval_that_reaches_far_from_the_batch_size_gives_no_verdict() -> None:
    advice = advise(_noise(64, spread=30), batch_size=64)
    assert advice.verdict == "unknown"
    assert "too wide" in advice.text


def test_a_scaling_callbacks_factor_is_taken_out_of_what_to_write() -> None:
    advice = advise(_noise(512), batch_size=32, lr=0.04, lr_factor=lambda size: size / 8, num_parts=4)
    assert advice.suggestion is not None
    option = advice.suggestion
    assert option.lr is not None
    assert option.lr > 0.04
    assert option.lr_written == pytest.approx(option.lr / (option.batch_size / 8))
    assert f"write lr={option.lr_written:.3g}" in advice.text
    assert "batch_size=64 in the DataLoader, of which 4 make an update" in advice.text
