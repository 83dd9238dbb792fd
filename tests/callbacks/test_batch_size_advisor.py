from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from linear_regression import LinearRegression, loader, quiet_trainer

from bsopt.callbacks import BatchSizeAdvisor
from bsopt.callbacks._advice_figure import plot_advice
from bsopt.laws.batch_size_advice import advise
from bsopt.laws.noise_scale import NoiseScale
from bsopt.serialization import to_json


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


def test_nothing_measured_is_said_and_drawn() -> None:
    advice = advise(None, batch_size=32)
    assert advice.verdict == "unknown"
    assert "can't be judged" in advice.text
    assert plot_advice(advice).layout.annotations[0].text == advice.certainty
    unbounded = NoiseScale(math.inf, 10.0, math.inf, -1.0, 5.0, 10)
    assert "above 10 samples" in advise(unbounded, batch_size=32).text


def test_a_fit_ends_with_one_paragraph(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    advisor = BatchSizeAdvisor(every=1)
    trainer = quiet_trainer(callbacks=[advisor])
    with caplog.at_level("INFO"):
        trainer.fit(LinearRegression(lr=0.001), loader(num_samples=2 * 60, batch_size=2))
    advice = advisor.advice
    assert advice is not None
    assert advice.batch_size == 2
    assert advice.verdict == "too small"
    assert advice.text in caplog.text
    assert "ms now" in advice.text
    json.dumps(to_json(advice), allow_nan=False)
    figure = advisor.figure()
    assert figure is not None
    assert {"steps", "samples", "time, range"} <= {trace.name for trace in figure.data}

    trainer.save_checkpoint(tmp_path / "run.ckpt")
    resumed = BatchSizeAdvisor(every=1)
    second = quiet_trainer(callbacks=[resumed], max_epochs=2)
    second.fit(LinearRegression(lr=0.001), loader(num_samples=120, batch_size=2), ckpt_path=str(tmp_path / "run.ckpt"))
    assert resumed.advice is not None
    assert resumed.advice.noise_scale is not None
    assert resumed.advice.noise_scale.num_measurements == 120


def test_there_is_no_advice_before_the_first_update() -> None:
    assert BatchSizeAdvisor().advice is None
    assert BatchSizeAdvisor().figure() is None
