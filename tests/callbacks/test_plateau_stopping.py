from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from linear_regression import LinearRegression, loader, quiet_trainer
from torch import Tensor
from torch.utils.data import DataLoader

from bsopt.callbacks import PlateauStopping
from bsopt.errors import ConfigError, MetricError


class _Scripted(LinearRegression):
    """Logs a given curve, one value per validation."""

    def __init__(self, curve: list[float]) -> None:
        super().__init__()
        self.curve = iter(curve)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", next(self.curve))


FALLING_THEN_FLAT = [1.0, 0.5, 0.25] + [0.25] * 50


def _fit(callback: PlateauStopping, curve: list[float], *, batch: int = 16, **settings: Any) -> Any:
    trainer = quiet_trainer(callbacks=[callback], max_epochs=50, num_sanity_val_steps=0, **settings)
    data = loader(num_samples=64, batch_size=batch)
    trainer.fit(_Scripted(curve), data, loader(num_samples=1, batch_size=1))
    return trainer


@pytest.mark.parametrize("batch", [8, 32])
def test_patience_counts_samples_at_any_batch_size(batch: int) -> None:
    callback = PlateauStopping("val_loss", patience=256)
    trainer = _fit(callback, FALLING_THEN_FLAT, batch=batch)
    assert trainer.current_epoch == 7  # best after 3 × 64 samples, 256 more without improvement
    assert callback.result is not None
    assert callback.result.best == pytest.approx(0.25)
    assert callback.reason is not None
    assert "has not improved on 0.25 (at 192 samples)" in callback.reason


def test_an_improving_run_is_left_alone() -> None:
    callback = PlateauStopping("val_loss", patience=128)
    assert _fit(callback, [1.0 - 0.01 * i for i in range(50)]).current_epoch == 50
    assert callback.reason is None


def test_maximize_reads_the_curve_the_other_way_up() -> None:
    callback = PlateauStopping("val_loss", patience=128, direction="maximize")
    assert _fit(callback, [0.01 * i for i in range(50)]).current_epoch == 50


def test_a_metric_that_is_not_finite_stops_the_run() -> None:
    callback = PlateauStopping("val_loss", patience=10_000)
    assert _fit(callback, [1.0, math.nan, 1.0]).current_epoch == 2
    assert callback.reason == "val_loss is nan"


def test_a_training_metric_is_read_where_nothing_is_validated() -> None:
    callback = PlateauStopping("train_loss", patience=128)
    trainer = quiet_trainer(callbacks=[callback], max_epochs=50, limit_val_batches=0)
    trainer.fit(LinearRegression(), loader(num_samples=64, batch_size=16))
    assert trainer.current_epoch == 3


@pytest.mark.filterwarnings("ignore:Total length of")
@pytest.mark.parametrize("validation", [[], DataLoader([])])  # type: ignore[arg-type, var-annotated]
def test_a_training_metric_is_read_where_the_validation_is_empty(validation: Any) -> None:
    callback = PlateauStopping("train_loss", patience=128)
    trainer = quiet_trainer(callbacks=[callback], max_epochs=10)
    trainer.fit(LinearRegression(), loader(num_samples=64, batch_size=16), validation)
    assert trainer.current_epoch == 3


def test_epochs_before_the_first_validation_are_waited_for() -> None:
    callback = PlateauStopping("val_loss", patience=10_000)
    _fit(callback, [1.0] * 25, check_val_every_n_epoch=2)
    assert callback.result is not None
    assert callback.result.best_step == 128


def test_two_of_them_may_follow_two_metrics(tmp_path: Path) -> None:
    callbacks = [PlateauStopping(name, patience=1000) for name in ("val_loss", "train_loss")]
    data = loader(num_samples=64, batch_size=16)
    trainer = quiet_trainer(callbacks=callbacks)
    trainer.fit(LinearRegression(), data, data)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    resumed = [PlateauStopping(name, patience=1000) for name in ("train_loss", "val_loss")]
    quiet_trainer(callbacks=resumed).fit(LinearRegression(), data, data, ckpt_path=str(tmp_path / "run.ckpt"))
    assert [r.result for r in reversed(resumed)] == [c.result for c in callbacks]
    assert callbacks[0].result != callbacks[1].result


def test_the_curve_survives_a_checkpoint(tmp_path: Path) -> None:
    first = quiet_trainer(callbacks=[PlateauStopping("val_loss", patience=256)], max_epochs=4, num_sanity_val_steps=0)
    data, validation = loader(num_samples=64, batch_size=16), loader(num_samples=1, batch_size=1)
    first.fit(_Scripted(FALLING_THEN_FLAT), data, validation)
    first.save_checkpoint(tmp_path / "run.ckpt")
    callback = PlateauStopping("val_loss", patience=256)
    second = quiet_trainer(callbacks=[callback], max_epochs=50, num_sanity_val_steps=0)
    second.fit(_Scripted([0.25] * 50), data, validation, ckpt_path=str(tmp_path / "run.ckpt"))
    assert second.current_epoch == 7


def test_a_metric_that_is_not_logged_is_named() -> None:
    with pytest.raises(MetricError, match="Did you mean 'val_loss'"):
        _fit(PlateauStopping("vall_loss", patience=64), [1.0, 1.0])


@pytest.mark.parametrize("arguments", [{"patience": 0}, {"patience": 1, "min_delta": -1.0}])
def test_wrong_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PlateauStopping("val_loss", **arguments)
