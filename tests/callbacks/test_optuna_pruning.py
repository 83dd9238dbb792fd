from __future__ import annotations

from typing import Any

import optuna
import pytest
import torch
from linear_regression import LinearRegression, loader, quiet_trainer
from optuna.trial import TrialState
from torch import Tensor

from bsopt.callbacks import OptunaPruning
from bsopt.errors import ConfigError, MetricError
from bsopt.storage.attributes import read_record
from bsopt.trial.record import StopReason
from bsopt.trial.spec import StopDecision


class _Scripted(LinearRegression):
    def __init__(self, curve: list[float]) -> None:
        super().__init__()
        self.curve = iter(curve)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", next(self.curve))


def _fit(callback: OptunaPruning, curve: list[float], **settings: Any) -> Any:
    settings = {"max_epochs": len(curve), "num_sanity_val_steps": 0, **settings}
    trainer = quiet_trainer(callbacks=[callback], **settings)
    trainer.fit(_Scripted(curve), loader(num_samples=64, batch_size=16), loader(num_samples=1, batch_size=1))
    return trainer


def test_a_pruned_trial_raises_and_keeps_its_best_value() -> None:
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=2.0))

    def objective(trial: optuna.Trial) -> float:
        callback = OptunaPruning(trial, "val_loss")
        _fit(callback, [1.0, 0.5, 3.0, 0.1])
        assert callback.best_value is not None
        return callback.best_value

    study.optimize(objective, n_trials=1)
    trial = study.trials[0]
    assert trial.state == TrialState.PRUNED
    assert trial.intermediate_values == pytest.approx({64: 1.0, 128: 0.5, 192: 3.0})
    assert trial.user_attrs == pytest.approx({"bsopt:best_value": 0.5, "bsopt:best_step": 128})


@pytest.mark.parametrize(("axis", "steps"), [("samples", [64, 128]), ("epoch", [0, 1]), ("step", [4, 8])])
def test_reports_lie_on_the_chosen_axis(axis: Any, steps: list[int]) -> None:
    study = optuna.create_study(pruner=optuna.pruners.NopPruner())
    trial = study.ask()
    _fit(OptunaPruning(trial, "val_loss", axis=axis), [1.0, 0.5])
    assert list(study.trials[0].intermediate_values) == steps


@pytest.mark.parametrize("axis", ["samples", "epoch"])
def test_a_callback_that_is_given_another_trial_starts_anew(axis: Any) -> None:
    study = optuna.create_study(pruner=optuna.pruners.NopPruner())
    callback = OptunaPruning(None, "val_loss", axis=axis)
    for curve in ([1.0, 0.2], [0.9, 0.5]):
        callback.trial = study.ask()
        _fit(callback, curve)
    first, second = study.trials
    assert second.intermediate_values == pytest.approx(dict(zip(first.intermediate_values, [0.9, 0.5], strict=True)))
    assert callback.best_value == pytest.approx(0.5)


def test_the_best_of_several_validations_in_an_epoch_is_kept() -> None:
    study = optuna.create_study(pruner=optuna.pruners.NopPruner())
    callback = OptunaPruning(study.ask(), "val_loss", axis="epoch")
    _fit(callback, [1.0, 0.75, 0.5, 0.25], max_epochs=2, val_check_interval=0.5)
    assert study.trials[0].intermediate_values == pytest.approx({0: 1.0, 1: 0.5})
    assert (callback.best_value, callback.best_step) == (0.25, 1)


def test_a_maximised_metric_keeps_its_highest_value() -> None:
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.NopPruner())
    callback = OptunaPruning(study.ask(), "val_loss")
    _fit(callback, [0.5, 0.75, 0.25])
    assert (callback.best_value, callback.best_step) == (0.75, 128)


def test_a_converged_trial_ends_normally_with_its_best_value() -> None:
    from bsopt import PlateauPruner

    study = optuna.create_study(pruner=PlateauPruner(patience=256))
    callback = OptunaPruning(study.ask(), "val_loss")
    trainer = _fit(callback, [1.0, 0.5, 0.25] + [0.25] * 40)
    assert trainer.current_epoch < 20
    assert callback.best_value == pytest.approx(0.25)
    assert callback.reason


def test_the_pruners_reason_is_stored_with_the_trial() -> None:
    from bsopt import PlateauPruner

    study = optuna.create_study(pruner=PlateauPruner(patience=256))
    trial = study.ask()
    callback = OptunaPruning(trial, "val_loss")
    _fit(callback, [1.0, 0.5, 0.25] + [0.25] * 40)
    assert callback.best_value is not None
    study.tell(trial, callback.best_value)
    record = read_record(study, study.trials[0])
    assert record.stop_reason is StopReason.CONVERGED
    assert record.message == callback.reason
    assert "1 trial converged before the end" in study.pruner.explain(study)


class _Annealed(_Scripted):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)]


class _ByHand(_Scripted):
    def __init__(self, curve: list[float]) -> None:
        super().__init__(curve)
        self.automatic_optimization = False


def _decision_about(module: _Scripted) -> bool | None:
    """Return what the pruner is told of the learning rate's decay."""
    told: list[bool | None] = []

    class Asked(optuna.pruners.NopPruner):
        def decide(self, study: Any, trial: Any, *, decay_remaining: bool | None = None) -> StopDecision:
            told.append(decay_remaining)
            return StopDecision()

    callback = OptunaPruning(optuna.create_study(pruner=Asked()).ask(), "val_loss")
    trainer = quiet_trainer(callbacks=[callback], max_epochs=1, num_sanity_val_steps=0)
    trainer.fit(module, loader(num_samples=64, batch_size=16), loader(num_samples=1, batch_size=1))
    return told[0]


def test_the_pruner_is_told_what_the_optimizers_schedule_says() -> None:
    assert _decision_about(_Annealed([1.0])) is True
    assert _decision_about(_Scripted([1.0])) is False
    assert _decision_about(_ByHand([1.0])) is None


def test_an_annealed_trial_does_not_converge_at_a_plateau() -> None:
    from bsopt import PlateauPruner

    study = optuna.create_study(pruner=PlateauPruner(patience=256))
    callback = OptunaPruning(study.ask(), "val_loss")
    curve = [1.0, 0.5, 0.25] + [0.25] * 17
    trainer = quiet_trainer(callbacks=[callback], max_epochs=len(curve), num_sanity_val_steps=0)
    trainer.fit(_Annealed(curve), loader(num_samples=64, batch_size=16), loader(num_samples=1, batch_size=1))
    assert trainer.current_epoch == 20
    assert callback.reason is None


def test_without_a_trial_nothing_is_pruned_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert _fit(OptunaPruning(None, "val_loss"), [1.0, 2.0]).current_epoch == 2
    assert "there is no trial" in caplog.text


def test_a_multi_objective_study_is_refused() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"])
    with pytest.raises(ConfigError, match="single-objective"):
        _fit(OptunaPruning(study.ask(), "val_loss"), [1.0])


def test_a_metric_that_is_not_logged_is_named() -> None:
    study = optuna.create_study()
    with pytest.raises(MetricError, match="'loss' was not logged"):
        _fit(OptunaPruning(study.ask(), "loss"), [1.0])
