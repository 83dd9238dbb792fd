from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from linear_regression import DELTA, LinearRegression, loader, quiet_trainer
from pytorch_lightning.callbacks import OnExceptionCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

from bsopt.callbacks import BatchSizeAdvisor, LearningRateScaling
from bsopt.callbacks._base import Callback
from bsopt.errors import ConfigError


class _Model(LinearRegression):
    """Two groups, an optimizer of choice and a scheduler that changes lr every step."""

    def __init__(self, optimizer: str = "SGD", schedule: str = "StepLR", **settings: Any) -> None:
        super().__init__()
        self.second = torch.nn.Parameter(torch.zeros(1))
        self.optimizer, self.schedule, self.settings = optimizer, schedule, settings

    def configure_optimizers(self) -> Any:
        groups = [{"params": [self.weight], "lr": 0.01}, {"params": [self.second], "lr": 0.001}]
        optimizer = getattr(torch.optim, self.optimizer)(groups, **self.settings)
        schedules = torch.optim.lr_scheduler
        scheduler: Any = {
            "StepLR": lambda: schedules.StepLR(optimizer, 2, gamma=0.5),
            "LambdaLR": lambda: schedules.LambdaLR(optimizer, lambda step: 0.5 ** (step // 2)),
        }[self.schedule]()
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class _Spy(Callback):
    """Notes what the optimizer sees in its step."""

    def __init__(self) -> None:
        self.seen: list[list[dict[str, Any]]] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        def note(optimizer: torch.optim.Optimizer, *_: object) -> None:
            self.seen.append([{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups])

        trainer.optimizers[0].register_step_pre_hook(note)


def _seen(scaling: LearningRateScaling, model: Any, *, steps: int = 6, **settings: Any) -> tuple[_Spy, Any]:
    spy = _Spy()
    trainer = quiet_trainer(callbacks=[scaling, spy], **settings)
    trainer.fit(model, loader(num_samples=steps * 16 * trainer.accumulate_grad_batches, batch_size=16))
    return spy, trainer


@pytest.mark.parametrize("schedule", ["StepLR", "LambdaLR"])
def test_every_group_is_scaled_on_top_of_the_users_scheduler(schedule: str) -> None:
    spy, trainer = _seen(LearningRateScaling(8, rule="linear"), _Model(schedule=schedule))
    decay = [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert [groups[0]["lr"] for groups in spy.seen] == pytest.approx([0.02 * d for d in decay])
    assert [groups[1]["lr"] for groups in spy.seen] == pytest.approx([0.002 * d for d in decay])
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01 * 0.125)  # as configured
    assert float(trainer.callback_metrics["bsopt/lr"]) == pytest.approx(0.02 * 0.25)
    assert float(trainer.callback_metrics["bsopt/lr_factor"]) == pytest.approx(2.0)


def test_the_rate_in_use_is_logged_as_often_as_the_trainer_logs(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    _seen(LearningRateScaling(8, rule="linear"), _Model(), logger=logger, log_every_n_steps=3)
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(int(r["step"]), float(r["bsopt/lr_factor"])) for r in rows if r["bsopt/lr"]] == [(2, 2.0), (5, 2.0)]
    assert [int(row["step"]) for row in rows if row["train_loss"]] == [2, 5]  # where the module's own metrics are


def test_a_module_that_steps_by_itself_logs_the_rate_at_the_steps_of_its_own_metrics(tmp_path: Path) -> None:
    class Manual(LinearRegression):
        automatic_optimization = False

        def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:  # type: ignore[override]
            loss = super().training_step(batch, batch_idx)
            self.manual_backward(loss)
            for _ in range(2):  # two updates per batch
                self.optimizers().step()  # type: ignore[union-attr]

    logger = CSVLogger(tmp_path)
    _seen(LearningRateScaling(8, rule="linear"), Manual(lr=0.01), logger=logger, log_every_n_steps=3)
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("bsopt/lr", "train_loss"):
        assert [int(row["step"]) for row in rows if row[name]] == [2, 5]


@pytest.mark.filterwarnings("ignore:.*configure_optimizers.*returned .None")
def test_a_module_without_an_optimizer_is_left_alone() -> None:
    class Without(LinearRegression):
        def configure_optimizers(self) -> None:  # type: ignore[override]
            return None

    scaling, advisor = LearningRateScaling(8), BatchSizeAdvisor(every=1)
    trainer = quiet_trainer(callbacks=[scaling, advisor])
    trainer.fit(Without(), loader(num_samples=64, batch_size=16))
    assert "bsopt/lr" not in trainer.callback_metrics
    assert advisor.advice is not None


def test_weights_are_those_of_a_run_configured_with_the_scaled_lr() -> None:
    scaled, plain = LinearRegression(lr=0.01), LinearRegression(lr=0.04)
    data = loader(num_samples=640, batch_size=16)
    quiet_trainer(callbacks=[LearningRateScaling(8)], accumulate_grad_batches=2).fit(scaled, data)
    quiet_trainer(accumulate_grad_batches=2).fit(plain, data)
    assert not torch.equal(scaled.weight, DELTA)
    assert torch.allclose(scaled.weight, plain.weight, rtol=1e-6)


def test_adaptive_optimizers_get_the_square_root_by_default() -> None:
    spy, _ = _seen(LearningRateScaling(4), _Model("AdamW"), steps=1)
    assert spy.seen[0][0]["lr"] == pytest.approx(0.02)


def test_any_function_may_be_the_rule() -> None:
    spy, _ = _seen(LearningRateScaling(4, rule=lambda k: k**0.25), _Model(), steps=1)
    assert spy.seen[0][0]["lr"] == pytest.approx(0.01 * 4**0.25)


def test_warm_up_rises_from_the_configured_lr_in_samples() -> None:
    spy, _ = _seen(LearningRateScaling(4, rule="linear", warmup_samples=64), LinearRegression(lr=0.01), steps=6)
    assert [groups[0]["lr"] for groups in spy.seen] == pytest.approx([0.0175, 0.025, 0.0325, 0.04, 0.04, 0.04])


def test_companions_are_scaled_where_asked_and_put_back() -> None:
    scaling = LearningRateScaling(4, rule="sqrt", scale_betas=True, scale_weight_decay=True)
    spy, trainer = _seen(scaling, _Model("AdamW", weight_decay=0.1), steps=2)
    group = spy.seen[1][0]
    assert group["betas"] == pytest.approx((0.6, 0.996))
    assert group["eps"] == pytest.approx(0.5e-8)
    assert group["weight_decay"] == pytest.approx(0.2)
    after = trainer.optimizers[0].param_groups[0]
    assert after["betas"] == (0.9, 0.999)
    assert after["weight_decay"] == 0.1


def test_warm_up_continues_after_a_resume(tmp_path: Path) -> None:
    data = loader(num_samples=48, batch_size=16)
    first = quiet_trainer(callbacks=[LearningRateScaling(4, rule="linear", warmup_samples=96)])
    first.fit(LinearRegression(lr=0.01), data)
    first.save_checkpoint(tmp_path / "run.ckpt")
    spy = _Spy()
    second = quiet_trainer(callbacks=[LearningRateScaling(4, rule="linear", warmup_samples=96), spy], max_epochs=2)
    second.fit(LinearRegression(lr=0.01), data, ckpt_path=str(tmp_path / "run.ckpt"))
    assert [groups[0]["lr"] for groups in spy.seen] == pytest.approx([0.03, 0.035, 0.04])


@pytest.mark.filterwarnings("ignore:.*ckpt_path")  # Lightning looks for a checkpoint to go on from
def test_a_checkpoint_of_a_failed_fit_holds_the_configured_lr(tmp_path: Path) -> None:
    class Failing(LinearRegression):
        def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
            if batch_idx == 2:
                raise RuntimeError("failed on purpose")
            return super().training_step(batch, batch_idx)

    callbacks = [LearningRateScaling(4, rule="linear"), OnExceptionCheckpoint(tmp_path, "failed")]
    trainer = quiet_trainer(callbacks=callbacks, enable_checkpointing=True)
    with pytest.raises(RuntimeError, match="failed on purpose"):
        trainer.fit(Failing(lr=0.01), loader(num_samples=64, batch_size=16))
    checkpoint = torch.load(tmp_path / "failed.ckpt", weights_only=True)
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] == 0.01


class _StatefulLoader(DataLoader[Any]):
    """Goes on at the batch at which its state was taken, as torchdata's loader does."""

    start = num_given = 0

    def __iter__(self) -> Any:
        batches, start, self.start = list(super().__iter__()), self.start, 0
        for index in range(start, len(batches)):
            self.num_given = index + 1
            yield batches[index]
        self.num_given = 0

    def state_dict(self) -> dict[str, int]:
        return {"num_given": self.num_given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = state["num_given"]


def _stateful(batch_size: int) -> _StatefulLoader:
    return _StatefulLoader(TensorDataset(torch.randn(36, 20), torch.randn(36)), batch_size=batch_size)


@pytest.mark.parametrize(
    ("batch_size", "factors"),
    [
        (8, [2, 2, 2, 2, 2, 2]),  # goes on at the rest of 4 samples, then a whole epoch
        (4, [1, 1, 1, 1, 1] + [1] * 9),  # on purpose with another batch size: half of it from the first batch on
    ],
)
def test_a_resume_inside_an_epoch_scales_to_whole_batches(batch_size: int, factors: list[int], tmp_path: Path) -> None:
    class Saving(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            if trainer.global_step == 4:
                trainer.save_checkpoint(tmp_path / "inside.ckpt")

    first = quiet_trainer(callbacks=[LearningRateScaling(4, rule="linear"), Saving()])
    first.fit(LinearRegression(lr=0.01), _stateful(8))
    spy = _Spy()
    second = quiet_trainer(callbacks=[LearningRateScaling(4, rule="linear"), spy], max_epochs=2)
    second.fit(LinearRegression(lr=0.01), _stateful(batch_size), ckpt_path=str(tmp_path / "inside.ckpt"))
    assert [groups[0]["lr"] for groups in spy.seen] == pytest.approx([0.01 * factor for factor in factors])


def test_betas_of_an_optimizer_without_any_are_refused() -> None:
    with pytest.raises(ConfigError, match="SGD has no betas"):
        _seen(LearningRateScaling(4, scale_betas=True), LinearRegression(lr=0.01))


def test_an_unknown_rule_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'linear'"):
        LearningRateScaling(32, rule="linaer")
