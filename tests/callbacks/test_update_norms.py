from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from linear_regression import DELTA, LinearRegression, loader, quiet_trainer
from torch import Tensor

from bsopt.callbacks import UpdateNorms
from bsopt.serialization import to_plain


def _plain_norms(*, accumulate: int = 1, clip: float | None = None) -> list[float]:
    weight = torch.nn.Parameter(DELTA.clone())
    optimizer = torch.optim.SGD([weight], lr=0.05, momentum=0.9)
    norms = []
    for index, (x, y) in enumerate(loader(num_samples=320, batch_size=16)):
        (0.5 * (x @ weight - y).square().mean() / accumulate).backward()
        if (index + 1) % accumulate == 0:
            before = weight.detach().clone()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_([weight], clip)
            optimizer.step()
            optimizer.zero_grad()
            norms.append(float((weight.detach() - before).norm()))
    return norms


class _Momentum(LinearRegression):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


@pytest.mark.parametrize(("accumulate", "clip"), [(1, None), (4, None), (1, 0.5)])
def test_norms_equal_a_plain_pytorch_loop(accumulate: int, clip: float | None) -> None:
    norms = _plain_norms(accumulate=accumulate, clip=clip)
    callback = UpdateNorms(every=1)
    trainer = quiet_trainer(callbacks=[callback], accumulate_grad_batches=accumulate, gradient_clip_val=clip)
    trainer.fit(_Momentum(), loader(num_samples=320, batch_size=16))
    summary = callback.summary
    assert summary is not None
    assert summary.num_measured == summary.num_updates == len(norms)
    assert summary.mean == pytest.approx(float(np.mean(norms)), rel=1e-4)
    assert summary.minimum == pytest.approx(min(norms), rel=1e-4)
    assert summary.maximum == pytest.approx(max(norms), rel=1e-4)
    assert summary.median == pytest.approx(float(np.quantile(norms, 0.5, method="lower")), rel=0.011)
    assert sum(summary.bin_counts) == len(norms)
    assert float(trainer.callback_metrics["bsopt/update_norm"]) == pytest.approx(norms[-1], rel=1e-4)
    json.dumps(to_plain(summary), allow_nan=False)


@pytest.mark.parametrize("toggles", [False, True])
def test_manual_optimization_with_two_optimizers_counts_one_update_per_batch(toggles: bool) -> None:
    class Manual(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.a, self.b = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
            for optimizer, parameter in zip(self.optimizers(), (self.a, self.b), strict=True):  # type: ignore[arg-type]
                if toggles:
                    self.toggle_optimizer(optimizer)
                optimizer.zero_grad()
                self.manual_backward(parameter.sum())
                optimizer.step()
                if toggles:
                    self.untoggle_optimizer(optimizer)

        def configure_optimizers(self) -> list[torch.optim.Optimizer]:
            return [torch.optim.SGD([self.a], lr=3.0), torch.optim.SGD([self.b], lr=4.0)]

    callback = UpdateNorms(every=1)
    quiet_trainer(callbacks=[callback]).fit(Manual(), loader(num_samples=64, batch_size=16))
    assert callback.summary is not None
    assert callback.summary.num_updates == 4
    assert callback.summary.mean == pytest.approx(5.0)


def test_every_third_update_is_measured() -> None:
    callback = UpdateNorms(every=3)
    quiet_trainer(callbacks=[callback]).fit(_Momentum(), loader(num_samples=320, batch_size=16))
    assert callback.summary is not None
    assert (callback.summary.num_measured, callback.summary.num_updates) == (7, 20)


def test_updates_that_move_nothing_are_left_out() -> None:
    callback = UpdateNorms(every=1)
    quiet_trainer(callbacks=[callback]).fit(LinearRegression(lr=0.0), loader(num_samples=64, batch_size=16))
    assert callback.summary is None


def test_state_survives_a_checkpoint(tmp_path: Path) -> None:
    data = loader(num_samples=160, batch_size=16)
    whole = UpdateNorms(every=1)
    quiet_trainer(callbacks=[whole], max_epochs=2).fit(_Momentum(), data)
    first = quiet_trainer(callbacks=[UpdateNorms(every=1)], max_epochs=1)
    first.fit(_Momentum(), data)
    first.save_checkpoint(tmp_path / "run.ckpt")
    resumed = UpdateNorms(every=1)
    quiet_trainer(callbacks=[resumed], max_epochs=2).fit(_Momentum(), data, ckpt_path=str(tmp_path / "run.ckpt"))
    assert resumed.summary == whole.summary
