from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from linear_regression import (
    DELTA,
    SQ_NORM,
    TRACE,
    Collector,
    LinearRegression,
    check_unbiased_and_covered,
    loader,
    quiet_trainer,
)
from torch import Tensor

from bsopt.callbacks import BatchSizeAdvisor, GradientNoiseScale
from bsopt.callbacks._overhead_budget import OverheadBudget
from bsopt.errors import ConfigError


def _fit(callback: GradientNoiseScale, *, seed: int = 0, steps: int = 40, accumulate: int = 1, batch: int = 32) -> None:
    trainer = quiet_trainer(callbacks=[callback], accumulate_grad_batches=accumulate)
    data = loader(num_samples=steps * batch, batch_size=batch // accumulate, seed=seed)
    trainer.fit(LinearRegression(), data)


@pytest.mark.slow
@pytest.mark.parametrize(("source", "accumulate"), [("samples", 1), ("accumulation", 4)])
def test_estimate_is_close_to_the_known_noise_scale(source: Any, accumulate: int) -> None:
    callback = GradientNoiseScale(source, every=1, decay=1.0)
    _fit(callback, steps=100, accumulate=accumulate)
    estimate = callback.estimate
    assert estimate is not None
    assert estimate.num_measurements == 100
    assert estimate.gradient_sq_norm == pytest.approx(SQ_NORM, rel=0.1)
    assert estimate.covariance_trace == pytest.approx(TRACE, rel=0.1)
    assert estimate.low < TRACE / SQ_NORM < estimate.high


@pytest.mark.slow
@pytest.mark.parametrize(("source", "accumulate"), [("samples", 1), ("accumulation", 2)])
def test_unbiased_and_covered_over_200_seeds(source: Any, accumulate: int) -> None:
    callback = GradientNoiseScale(source, every=1, decay=1.0, num_samples_per_measurement=4)
    collector = Collector(callback, measurements=20)
    trainer = quiet_trainer(callbacks=[callback, collector], accumulate_grad_batches=accumulate)
    trainer.fit(LinearRegression(), loader(num_samples=200 * 20 * 32, batch_size=32 // accumulate))
    check_unbiased_and_covered(collector.estimates)


@pytest.mark.slow
def test_sources_agree_on_the_same_weights() -> None:
    estimates = []
    for source, accumulate in (("samples", 1), ("accumulation", 2), ("accumulation", 8)):
        callback = GradientNoiseScale(source, every=1, decay=1.0)  # type: ignore[arg-type]
        _fit(callback, steps=80, accumulate=accumulate)
        estimates.append(callback.estimate)
    for one in estimates:
        for other in estimates:
            assert one is not None
            assert other is not None
            assert one.low < other.value < one.high


@pytest.mark.slow
def test_a_short_window_at_the_end_of_an_epoch_is_measured_without_bias() -> None:
    callback = GradientNoiseScale(every=1, decay=1.0)
    trainer = quiet_trainer(callbacks=[callback], accumulate_grad_batches=3, max_epochs=100)
    trainer.fit(
        LinearRegression(), loader(num_samples=5 * 16 + 7, batch_size=16)
    )  # windows of 3 and of 2 + a ragged one
    estimate = callback.estimate
    assert estimate is not None
    assert estimate.num_measurements == 200
    # one data set of 87 samples again and again: its own moments are the truth
    data = loader(num_samples=87, batch_size=87)
    x, y = next(iter(data))
    gradients = x * (x @ DELTA - y)[:, None]
    assert estimate.covariance_trace == pytest.approx(float(gradients.var(0).sum()), rel=0.15)


class _HasUnoptimized(LinearRegression):
    def __init__(self) -> None:
        super().__init__()
        self.probed = torch.nn.Parameter(DELTA.clone())

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) + (batch[0] @ self.probed).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.weight], lr=0.0)


class _LeavesBatchesOut(LinearRegression):
    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        return None if batch_idx % 4 == 2 else super().training_step(batch, batch_idx)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_parameters_that_no_optimizer_holds_do_not_count(accumulate: int) -> None:
    estimates = []
    for model in (LinearRegression(), _HasUnoptimized()):
        callback = GradientNoiseScale(every=1)
        trainer = quiet_trainer(callbacks=[callback], accumulate_grad_batches=accumulate)
        trainer.fit(model, loader(num_samples=320, batch_size=16))
        estimates.append(callback.estimate)
    assert estimates[0] == estimates[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.training_step. returned .None.")
def test_a_micro_batch_without_a_loss_does_not_count() -> None:
    callback = GradientNoiseScale(every=1, decay=1.0)
    trainer = quiet_trainer(callbacks=[callback], accumulate_grad_batches=4)
    trainer.fit(_LeavesBatchesOut(), loader(num_samples=4000, batch_size=8))
    estimate = callback.estimate
    assert estimate is not None
    assert estimate.num_measurements == 125
    assert estimate.low < TRACE / SQ_NORM < estimate.high
    assert estimate.covariance_trace == pytest.approx(TRACE, rel=0.15)


@pytest.mark.parametrize(("scheduling", "size"), [({0: 4}, 32), ({0: 1, 1: 4}, 32), ({0: 4, 1: 1}, 8)])
def test_the_batch_size_in_use_follows_a_change_of_accumulation(scheduling: dict[int, int], size: int) -> None:
    callback, advisor = GradientNoiseScale(every=1), BatchSizeAdvisor(every=1)
    scheduler = pl.callbacks.GradientAccumulationScheduler(scheduling)
    trainer = quiet_trainer(callbacks=[scheduler, callback, advisor], max_epochs=2)
    trainer.fit(LinearRegression(), loader(num_samples=84, batch_size=8))
    assert callback.global_batch_size == size
    assert callback.num_parts == size // 8
    assert advisor.advice is not None
    assert advisor.advice.batch_size == size


def test_accumulation_that_a_scheduler_starts_and_ends_is_measured_while_it_lasts() -> None:
    callback = GradientNoiseScale("accumulation", every=1)
    scheduler = pl.callbacks.GradientAccumulationScheduler({0: 4, 1: 1})
    trainer = quiet_trainer(callbacks=[scheduler, callback], max_epochs=2)
    trainer.fit(LinearRegression(), loader(num_samples=80, batch_size=10))
    assert callback.estimate is not None
    assert callback.estimate.num_measurements == 2


def test_a_second_fit_has_its_own_batch_size() -> None:
    callback = GradientNoiseScale(every=1)
    for size in (64, 16):
        quiet_trainer(callbacks=[callback]).fit(LinearRegression(), loader(num_samples=128, batch_size=size))
        assert callback.global_batch_size == size


def test_clipping_changes_nothing() -> None:
    values = []
    for clip in (None, 0.01):
        callback = GradientNoiseScale(every=1)
        trainer = quiet_trainer(callbacks=[callback], accumulate_grad_batches=2, gradient_clip_val=clip)
        trainer.fit(LinearRegression(), loader(num_samples=320, batch_size=16))
        values.append(callback.estimate)
    assert values[0] == values[1]


class _LossScale(pl.plugins.precision.MixedPrecision):
    """Scaled gradients on the CPU, as 16-mixed has them on a GPU."""

    def __init__(self, scale: float) -> None:
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10_000)
        super().__init__(precision="16-mixed", device="cpu", scaler=scaler)

    def autocast_context_manager(self) -> torch.autocast:
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=False)


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_amp_loss_scale_is_divided_out(accumulate: int) -> None:
    estimates = []
    for plugins in ([], [_LossScale(2.0**12)]):
        callback = GradientNoiseScale(every=1)
        trainer = quiet_trainer(callbacks=[callback], accumulate_grad_batches=accumulate, plugins=plugins)
        trainer.fit(LinearRegression(), loader(num_samples=640, batch_size=16))
        assert callback.estimate is not None
        estimates.append(callback.estimate)
    assert estimates[1].value == pytest.approx(estimates[0].value, rel=1e-3)
    assert estimates[1].covariance_trace == pytest.approx(estimates[0].covariance_trace, rel=1e-3)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_non_finite_steps_are_left_out(accumulate: int) -> None:
    class Spoilt(LinearRegression):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return super().training_step(batch, batch_idx) * (math.inf if batch_idx == 2 else 1.0)

    callback = GradientNoiseScale(every=1)
    trainer = quiet_trainer(callbacks=[callback], accumulate_grad_batches=accumulate)
    trainer.fit(Spoilt(lr=0.0), loader(num_samples=160, batch_size=16))
    assert callback.num_skipped >= 1


def test_state_survives_a_checkpoint(tmp_path: Path) -> None:
    data = loader(num_samples=640, batch_size=16)
    whole = GradientNoiseScale(every=1)
    quiet_trainer(callbacks=[whole], max_epochs=2, accumulate_grad_batches=2).fit(LinearRegression(), data)

    first = quiet_trainer(callbacks=[GradientNoiseScale(every=1)], max_epochs=1, accumulate_grad_batches=2)
    first.fit(LinearRegression(), data)
    first.save_checkpoint(tmp_path / "run.ckpt")
    resumed = GradientNoiseScale(every=1)
    second = quiet_trainer(callbacks=[resumed], max_epochs=2, accumulate_grad_batches=2)
    second.fit(LinearRegression(), data, ckpt_path=str(tmp_path / "run.ckpt"))
    assert resumed.estimate == whole.estimate
    assert resumed.history == whole.history
    assert resumed.history[-1].samples_seen == 1280


@pytest.mark.slow
def test_the_noise_scale_is_seen_to_grow_as_the_loss_falls() -> None:
    callback = GradientNoiseScale(every=1, decay=1.0)
    trainer = quiet_trainer(callbacks=[callback], accumulate_grad_batches=4)
    trainer.fit(LinearRegression(lr=0.01), loader(num_samples=32 * 200, batch_size=8))
    assert callback.trend is not None
    assert callback.trend.is_growing
    assert len(callback.history) <= 32
    assert "It grew" in callback.describe()


def test_estimate_is_logged() -> None:
    callback = GradientNoiseScale(every=1)
    trainer = quiet_trainer(callbacks=[callback], accumulate_grad_batches=2)
    trainer.fit(LinearRegression(), loader(num_samples=640, batch_size=16))
    assert callback.estimate is not None
    assert float(trainer.callback_metrics["bsopt/noise_scale"]) == pytest.approx(callback.estimate.value, rel=1e-5)
    assert callback.global_batch_size == 32


def test_manual_optimization_is_refused() -> None:
    class Manual(LinearRegression):
        automatic_optimization = property(lambda self: False, lambda self, value: None)  # type: ignore[assignment]

    with pytest.raises(ConfigError, match="manual optimization"):
        quiet_trainer(callbacks=[GradientNoiseScale()]).fit(Manual(), loader(num_samples=32, batch_size=16))


@pytest.mark.parametrize("source", ["ranks", "accumulation"])
def test_a_source_that_is_not_there_is_refused(source: Any) -> None:
    with pytest.raises(ConfigError, match="use source='auto'"):
        quiet_trainer(callbacks=[GradientNoiseScale(source)]).fit(
            LinearRegression(), loader(num_samples=32, batch_size=16)
        )


@pytest.mark.parametrize(
    "arguments",
    [{"source": "rank"}, {"every": 0}, {"overhead": 0.0}, {"decay": 1.5}, {"num_samples_per_measurement": 0}],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        GradientNoiseScale(**arguments)


def test_cadence_holds_the_overhead() -> None:
    now = 0.0
    cadence = OverheadBudget(None, overhead=0.02, clock=lambda: now)
    measured = 0
    for _ in range(2000):
        now += 0.020
        if cadence.is_due:
            now += 0.004
            cadence.add_cost(0.004)
            measured += 1
        cadence.end_update()
    assert measured * 0.004 / (2000 * 0.020) == pytest.approx(0.02, rel=0.1)
