"""`bsopt.measure_lr` on modules of many kinds: what it finds, what it leaves alone, and what it says."""

from __future__ import annotations

import random
import threading
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import bsopt
from bsopt.errors import ConfigError, TaskError
from bsopt.laws.lr_ladder import MeasuredLr


def samples(scale: float = 1.0) -> TensorDataset:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(96, 4, generator=draw)
    return TensorDataset(x, scale * (x @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]])))


class Net(pl.LightningModule):
    def __init__(self, lr: float = 0.01, schedule: str = "none", batch_size: int = 8) -> None:
        super().__init__()
        self.save_hyperparameters()
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1))
        self.register_buffer("hidden", torch.zeros(1), persistent=False)
        self.calls = 0
        self.rates: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        self.calls += 1
        self.hidden += 1
        loss = nn.functional.mse_loss(self.net(x), y)
        self.log("train_loss", loss)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        RATES.append(self.optimizers().param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)
        if self.hparams.schedule == "cosine":
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.estimated_stepping_batches)
        elif self.hparams.schedule == "warm-up":
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 50))
        else:
            return optimizer
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


RATES: list[float] = []


class Data(pl.LightningDataModule):
    def __init__(self, batch_size: int = 8) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(samples(), self.batch_size, shuffle=True)


def measure(module: pl.LightningModule, data: Any, **settings: Any) -> MeasuredLr:
    RATES.clear()
    return bsopt.measure_lr(module, data, num_steps=12, accelerator="cpu", **settings)


def test_module_data_and_random_numbers_stay_as_they_were() -> None:
    module, data = Net(), Data()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    measure(module, data, batch_size=16)
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in state.items())
    assert module.hidden.item() == 0
    assert module.calls == 0
    assert module._trainer is None
    assert data.trainer is None
    assert data.batch_size == data.hparams.batch_size == 8
    assert before[0] == random.getstate()
    assert before[1] == np.random.get_state()[1].tolist()
    assert torch.equal(before[2], torch.get_rng_state())


def test_asking_twice_gives_the_same() -> None:
    first, again = (measure(Net(), Data()) for _ in range(2))
    assert (first.lr, first.losses) == (again.lr, again.losses)
    assert first.batch_size == 8
    assert str(first).startswith(f"{first.lr:.2g} at batch size 8, within a factor of")


def test_the_rate_that_trains_best_is_found() -> None:
    found = measure(Net(), Data())
    assert 0.004 < found.lr < 0.4
    assert len(found.rates) == len(found.losses) == 6


@pytest.mark.parametrize("schedule", ["cosine", "warm-up"])
def test_no_schedule_moves_the_rate(schedule: str) -> None:
    found = measure(Net(schedule=schedule), Data())
    assert sorted(set(RATES)) == pytest.approx(list(found.rates))
    assert found.losses == measure(Net(), Data()).losses


def test_a_schedule_that_decays_counts_for_a_long_training() -> None:
    decaying, constant = (measure(Net(schedule=s), Data(), training_steps=960) for s in ("cosine", "none"))
    assert np.log2(decaying.lr / constant.lr) == pytest.approx((0.4 - 0.13) * 4)


def test_a_module_that_sets_its_own_rate_by_hand_is_held() -> None:
    class ByHand(Net):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            optimizer = self.optimizers()
            loss = super().training_step(batch, batch_idx)
            optimizer.zero_grad()
            self.manual_backward(loss)
            for group in optimizer.param_groups:
                group["lr"] = 123.0
            optimizer.step()
            return loss

    found = measure(ByHand(), Data())
    assert sorted(set(RATES)) == pytest.approx(list(found.rates))
    assert found.losses == pytest.approx(measure(Net(), Data()).losses, rel=1e-4)


def test_groups_keep_their_ratio() -> None:
    seen = set()

    class Groups(Net):
        def configure_optimizers(self) -> Any:
            first, second = self.net[0].parameters(), self.net[4].parameters()
            return torch.optim.SGD([{"params": first, "lr": 0.1}, {"params": second, "lr": 0.4}])

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            groups = self.optimizers().param_groups
            seen.add(round(groups[1]["lr"] / groups[0]["lr"], 6))

    measure(Groups(), Data())
    assert seen == {4.0}


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(samples())


@pytest.mark.parametrize(
    "data",
    [
        DataLoader(samples(), 8, shuffle=True),
        DataLoader(Endless(), 8),
        DataLoader(samples(), 8, shuffle=True, generator=torch.Generator().manual_seed(1)),
    ],
    ids=["map", "iterable", "generator"],
)
def test_loaders_of_the_usual_kinds_take_another_batch_size(data: Any) -> None:
    before = data.generator.get_state() if data.generator is not None else None
    assert measure(Net(), data).batch_size == 8
    assert measure(Net(), data, batch_size=32).batch_size == 32
    assert data.batch_size == 8
    assert before is None or torch.equal(before, data.generator.get_state())


def test_a_module_may_bring_its_own_data() -> None:
    class Own(Net):
        def train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(samples(), self.hparams.batch_size, shuffle=True)

    module = Own()
    assert measure(module, None, batch_size=4).batch_size == 4
    assert module.hparams.batch_size == 8


def test_mistakes_get_one_clear_message() -> None:
    class Two(Net):
        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.net[0].parameters(), 0.1), torch.optim.SGD(self.net[4].parameters(), 0.1)]

        def training_step(self, batch: Any, batch_idx: int) -> None:
            return None

    two, silent, locked, fixed = Two(), Two(), Net(), Data()
    two.automatic_optimization = silent.automatic_optimization = False
    with pytest.raises(TaskError, match="2 optimizers"):
        measure(two, Data())
    locked.lock = threading.Lock()
    with pytest.raises(TaskError, match="can't be copied"):
        measure(locked, Data())
    fixed.train_dataloader = lambda: DataLoader(samples(), 8)
    with pytest.raises(TaskError, match=r"asked for batch size 16, but the training loader has 8"):
        measure(Net(), fixed, batch_size=16)
    with pytest.raises(TaskError, match="can't be changed"):
        measure(Net(), [(torch.ones(8, 4), torch.ones(8, 1))], batch_size=16)
    with pytest.raises(ConfigError, match="num_steps must be at least 1"):
        bsopt.measure_lr(Net(), Data(), num_steps=0)


def test_a_loss_that_no_rate_lowers_is_said() -> None:
    class Still(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return 0.0 * super().training_step(batch, batch_idx)

    with pytest.raises(TaskError, match="no learning rate"):
        measure(Still(), Data())


def test_a_training_that_raises_at_high_rates_has_diverged_there() -> None:
    class Strict(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            if not loss < 1e4:
                raise ValueError("the loss is beyond all bounds")
            return loss

    class Wide(Data):
        def train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(samples(scale=4.0), self.batch_size, shuffle=True)

    found = measure(Strict(), Wide())
    assert np.isfinite(found.lr)
