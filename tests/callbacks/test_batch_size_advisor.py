from __future__ import annotations

import json
from pathlib import Path

import pytest
from linear_regression import LinearRegression, loader, quiet_trainer

from bsopt.callbacks import BatchSizeAdvisor, GradientNoiseScale, LearningRateScaling, ThroughputMonitor
from bsopt.callbacks._advice_figure import plot_advice
from bsopt.errors import ConfigError
from bsopt.laws.batch_size_advice import advise
from bsopt.serialization import to_json


def test_nothing_measured_is_drawn_as_said() -> None:
    advice = advise(None, batch_size=32)
    assert plot_advice(advice).layout.annotations[0].text == advice.certainty


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


def test_the_rate_is_the_one_in_use_beside_a_learning_rate_scaling() -> None:
    advisor, scaling = BatchSizeAdvisor(every=1), LearningRateScaling(16, rule="linear")
    trainer = quiet_trainer(callbacks=[advisor, scaling])
    trainer.fit(LinearRegression(lr=0.001), loader(num_samples=160, batch_size=32))
    assert scaling.factor_at(32, "SGD") == 2.0
    assert advisor.advice is not None
    expected = advise(advisor.advice.noise_scale, batch_size=32, lr=0.002, optimizer="SGD").options
    assert [option.lr for option in advisor.advice.options] == pytest.approx([option.lr for option in expected])


def test_there_is_no_advice_before_the_first_update() -> None:
    assert BatchSizeAdvisor().advice is None
    assert BatchSizeAdvisor().figure() is None


def test_the_rate_in_use_counts_a_scaling_callback_beside_it() -> None:
    advisor, scaling = BatchSizeAdvisor(every=1), LearningRateScaling(1, rule="linear")
    trainer = quiet_trainer(callbacks=[advisor, scaling])
    trainer.fit(LinearRegression(lr=0.0005), loader(num_samples=2 * 60, batch_size=2))
    advice = advisor.advice
    assert advice is not None
    assert "In use is a learning rate of 0.001;" in advice.text
    assert "which LearningRateScaling multiplies by" in advice.text
    larger = [option for option in advice.options if option.batch_size > 2]
    assert all(option.lr is not None and option.lr > 0.001 for option in larger)


@pytest.mark.parametrize("comes_first", [True, False])
def test_measurements_beside_it_are_taken_and_not_made_twice(comes_first: bool) -> None:
    advisor, noise, times = BatchSizeAdvisor(every=7), GradientNoiseScale(every=1), ThroughputMonitor()
    callbacks = [advisor, noise, times] if comes_first else [noise, times, advisor]
    data = loader(num_samples=160, batch_size=16)
    quiet_trainer(callbacks=callbacks).fit(LinearRegression(lr=0.001), data)
    assert noise.estimate is not None
    assert noise.estimate.num_measurements == 10
    assert advisor.advice is not None
    assert advisor.advice.noise_scale == noise.estimate
    assert advisor.advice.throughput == times.summary
    # a Trainer without them: it measures itself again
    quiet_trainer(callbacks=[advisor]).fit(LinearRegression(lr=0.001), data)
    assert noise.estimate.num_measurements == 10
    assert advisor.advice.noise_scale is not None
    assert advisor.advice.noise_scale.num_measurements < 10


def test_it_refuses_manual_optimization_in_its_own_name() -> None:
    class Manual(LinearRegression):
        automatic_optimization = property(lambda self: False, lambda self, value: None)  # type: ignore[assignment]

    with pytest.raises(ConfigError, match="BatchSizeAdvisor can't tell with manual optimization"):
        quiet_trainer(callbacks=[BatchSizeAdvisor()]).fit(Manual(), loader(num_samples=32, batch_size=16))
