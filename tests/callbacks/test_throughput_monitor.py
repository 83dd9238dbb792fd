from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from linear_regression import DIMENSION, LinearRegression, quiet_trainer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from bsopt.callbacks import ThroughputMonitor
from bsopt.callbacks._batches import num_samples
from bsopt.callbacks._energy import EnergyMeter
from bsopt.errors import ConfigError
from bsopt.serialization import to_plain


class _Clock:
    """Time that passes only where the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class _SlowData(IterableDataset[tuple[Tensor, Tensor]]):
    def __init__(self, clock: _Clock) -> None:
        self.clock = clock

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(20):
            self.clock.now += 0.010
            yield torch.zeros(16, DIMENSION), torch.zeros(16)


class _SlowModel(LinearRegression):
    def __init__(self, clock: _Clock) -> None:
        super().__init__()
        self.clock = clock

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.clock.now += 0.030
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.clock.now += 5.0


def _fit(callback: ThroughputMonitor, clock: _Clock, *, epochs: int = 2, **settings: Any) -> Any:
    trainer = quiet_trainer(callbacks=[callback], max_epochs=epochs, num_sanity_val_steps=0, **settings)
    data = DataLoader(_SlowData(clock), batch_size=None)
    validation = DataLoader([(torch.zeros(1, DIMENSION), torch.zeros(1))], batch_size=None)  # type: ignore[arg-type]
    trainer.fit(_SlowModel(clock), data, validation)
    return trainer


@pytest.mark.parametrize("accumulate", [1, 2])
def test_steps_epochs_and_waiting_are_told_apart_and_validation_is_left_out(accumulate: int) -> None:
    clock = _Clock()
    callback = ThroughputMonitor(clock=clock)
    trainer = _fit(callback, clock, accumulate_grad_batches=accumulate)
    summary = callback.summary
    assert summary is not None
    assert summary.seconds_per_step == pytest.approx(0.040 * accumulate)
    assert summary.seconds_per_epoch == pytest.approx((0.8, 0.8), abs=0.011)  # a loader fetches one batch ahead
    assert summary.samples_per_second == pytest.approx(16 / 0.040, rel=0.02)
    assert summary.data_share == pytest.approx(0.25, abs=0.01)
    assert summary.num_steps == 40 // accumulate
    assert summary.num_samples == 2 * 20 * 16
    assert summary.peak_memory_bytes is not None
    assert summary.peak_memory_bytes > 10_000_000
    assert summary.memory_kind == "process"
    assert float(trainer.callback_metrics["bsopt/data_share"]) == pytest.approx(0.25, abs=0.01)
    json.dumps(to_plain(summary), allow_nan=False)


def test_validations_outside_a_fit_are_not_training_time() -> None:
    clock = _Clock()
    clock.now = 1e6  # a monotonic clock starts anywhere
    callback, model = ThroughputMonitor(clock=clock), _SlowModel(clock)
    validation = DataLoader([(torch.zeros(1, DIMENSION), torch.zeros(1))], batch_size=None)  # type: ignore[arg-type]
    trainer = quiet_trainer(callbacks=[callback])
    trainer.validate(model, validation, verbose=False)
    trainer.fit(model, DataLoader(_SlowData(clock), batch_size=None))
    clock.now += 1000.0
    trainer.validate(model, validation, verbose=False)
    assert callback.summary is not None
    assert callback.summary.train_seconds == pytest.approx(0.8, abs=0.011)
    assert callback.summary.data_share == pytest.approx(0.25, abs=0.01)


def test_a_batch_of_the_user_s_own_class_holds_what_the_loader_was_asked_for() -> None:
    class Own:
        pass

    assert num_samples(Own(), otherwise=4) == 4
    assert num_samples(torch.ones(3, 2), otherwise=4) == 3
    with pytest.raises(ConfigError, match="a batch of type Own"):
        num_samples(Own())


def test_state_survives_a_checkpoint(tmp_path: Path) -> None:
    clock = _Clock()
    _fit(ThroughputMonitor(clock=clock), clock, epochs=1).save_checkpoint(tmp_path / "run.ckpt")
    resumed = ThroughputMonitor(clock=clock)
    trainer = quiet_trainer(callbacks=[resumed], max_epochs=2, limit_val_batches=0)
    data = DataLoader(_SlowData(clock), batch_size=None)
    trainer.fit(_SlowModel(clock), data, ckpt_path=str(tmp_path / "run.ckpt"))
    assert resumed.summary is not None
    assert resumed.summary.num_steps == 40
    assert len(resumed.summary.seconds_per_epoch) == 2


def _rapl(folder: Path, microjoules: int) -> None:
    package = folder / "intel-rapl:0"
    package.mkdir(exist_ok=True)
    (package / "max_energy_range_uj").write_text("1000000000\n")
    (package / "energy_uj").write_text(f"{microjoules}\n")


def test_rapl_energy_counts_on_through_a_wrap(tmp_path: Path) -> None:
    _rapl(tmp_path, 900_000_000)
    meter = EnergyMeter(torch.device("cpu"), rapl_root=tmp_path)
    assert meter.source == "rapl"
    _rapl(tmp_path, 950_000_000)
    assert meter.joules() == pytest.approx(50.0)
    _rapl(tmp_path, 20_000_000)
    assert meter.joules() == pytest.approx(120.0)


def test_no_energy_is_claimed_without_a_counter(tmp_path: Path) -> None:
    meter = EnergyMeter(torch.device("cpu"), rapl_root=tmp_path)
    assert meter.source is None
    assert meter.joules() is None
