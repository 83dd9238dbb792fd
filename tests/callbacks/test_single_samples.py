"""Measuring on single samples leaves the run as it is, and ends none."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torchmetrics
from linear_regression import (
    DIMENSION,
    LinearRegression,
    loader,
    quiet_trainer,
)
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader

from bsopt.callbacks import GradientNoiseScale
from bsopt.callbacks._shadow import Shadows
from bsopt.errors import TaskError


class _Net(pl.LightningModule):
    """A network with everything that an extra forward pass could disturb."""

    def __init__(self, *, norm: bool = True) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(DIMENSION) if norm else torch.nn.Identity()
        self.net = torch.nn.Sequential(torch.nn.Linear(DIMENSION, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))
        self.error = torchmetrics.MeanSquaredError()
        self.num_steps = 0
        self.losses: list[float] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        x, y = batch
        out = self.net(self.norm(x)).squeeze(-1)
        self.num_steps += 1
        self.error(out, y)
        loss = torch.nn.functional.mse_loss(out, y)
        self.losses.append(float(loss.detach()))
        self.log("loss", loss, on_epoch=True)
        self.log("error", self.error, on_epoch=True)
        return {"loss": loss}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


@pytest.mark.parametrize("norm", [True, False])
def test_measuring_leaves_no_trace_in_the_run(norm: bool) -> None:
    results = []
    for callbacks in ([], [GradientNoiseScale("samples", every=1)]):
        torch.manual_seed(0)
        model = _Net(norm=norm)
        trainer = quiet_trainer(callbacks=callbacks, max_epochs=2)
        trainer.fit(model, loader(num_samples=320, batch_size=32))
        results.append((model, {n: v for n, v in trainer.callback_metrics.items() if "bsopt" not in n}))
    (plain, plain_metrics), (watched, watched_metrics) = results
    for (name, before), after in zip(plain.state_dict().items(), watched.state_dict().values(), strict=True):
        assert torch.equal(before, after), name
    assert watched.num_steps == plain.num_steps == 20
    assert watched.losses == plain.losses
    assert watched_metrics == plain_metrics


@pytest.mark.parametrize("rest", [2, 3, 7])
def test_a_rest_too_small_for_batch_norm_is_measured_or_passed_over(rest: int) -> None:
    callback = GradientNoiseScale("samples", every=1)
    x, y = torch.randn(32 + rest, DIMENSION), torch.randn(32 + rest)
    batches = [(x[:32], y[:32]), (x[32:], y[32:])]
    quiet_trainer(callbacks=[callback], max_epochs=2).fit(_Net(), DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    assert callback.estimate is not None
    assert callback.estimate.num_measurements == (2 if rest == 2 else 4)


class _BoundMethod(_Net):
    def __init__(self) -> None:
        super().__init__()
        self.step = self._step

    def _step(self, batch: list[Tensor]) -> Tensor:
        self.num_steps += 1
        loss = torch.nn.functional.mse_loss(self.net(self.norm(batch[0])).squeeze(-1), batch[1])
        self.log("loss", loss, on_epoch=True)
        return loss

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:  # type: ignore[override]
        return self.step(batch)


class _SavedFeatures(_Net):
    def __init__(self) -> None:
        super().__init__()
        self.features: dict[str, Tensor] = {}
        self.net[0].register_forward_hook(self._save)

    def _save(self, module: object, inputs: object, output: Tensor) -> None:
        self.features["first"] = output

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx)["loss"] + self.features["first"].square().mean()


class _OwnState(_Net):
    """Everything that a step may change and that isn't a tensor of its own."""

    def __init__(self) -> None:
        super().__init__(norm=False)
        self.rng = np.random.default_rng(0)
        self.generator = torch.Generator().manual_seed(0)
        self.queue: deque[float] = deque(maxlen=5)
        self.outputs: dict[str, list[float]] = {"train": []}
        self.counter = SimpleNamespace(n=0)
        self.lock = threading.Lock()  # can't be copied, and isn't used

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        noise = self.rng.normal() + torch.randn(1, generator=self.generator)
        loss = super().training_step([batch[0] + noise, batch[1]], batch_idx)["loss"]
        self.counter.n += 1
        self.queue.append(float(loss))
        self.outputs["train"].append(float(loss))
        return loss * (1 + np.mean(self.queue) + 0.1 * self.counter.n)


class _MovesItsTeacher(_Net):
    def __init__(self) -> None:
        super().__init__()
        self.teacher = torch.nn.Linear(DIMENSION, 1).requires_grad_(False)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        self.teacher.weight.data = 0.9 * self.teacher.weight.data + 0.1 * self.net[0].weight.data[:1]
        self.teacher.bias.mul_(0.9)
        return super().training_step([batch[0], self.teacher(batch[0]).squeeze(-1)], batch_idx)


class _Parametrized(_Net):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(DIMENSION, DIMENSION, batch_first=True)
        torch.nn.utils.parametrizations.weight_norm(self.lstm, "weight_hh_l0")

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        return super().training_step([self.lstm(batch[0][:, None])[0][:, 0], batch[1]], batch_idx)


class _FailsAfterDrawing(_Net):
    def __init__(self) -> None:
        super().__init__(norm=False)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        assert len(batch[0]) > 1
        return loss


class _LogsNothing(_Net):
    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        return torch.nn.functional.mse_loss(self.net(self.norm(batch[0])).squeeze(-1), batch[1])


def _compiled_inside() -> pl.LightningModule:
    model = _Net()
    model.net.compile(backend="eager")
    model.norm.compile(backend="eager")
    return model


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    "make",
    [
        _BoundMethod,
        _SavedFeatures,
        _OwnState,
        _MovesItsTeacher,
        _Parametrized,
        _FailsAfterDrawing,
        _compiled_inside,
        lambda: torch.compile(_LogsNothing(), backend="eager"),
    ],
)
def test_whatever_a_module_holds_is_left_as_it_is(make: Any) -> None:
    results = []
    for callbacks in ([], [GradientNoiseScale(every=1)]):
        torch.manual_seed(0)
        model = make()
        trainer = quiet_trainer(callbacks=callbacks, max_epochs=2)
        trainer.fit(model, loader(num_samples=160, batch_size=16))
        metrics = {n: v for n, v in trainer.callback_metrics.items() if "bsopt" not in n}
        results.append((trainer.lightning_module, metrics))
        assert all((each.estimate is None) == (make is _FailsAfterDrawing) for each in callbacks)
    (plain, plain_metrics), (watched, watched_metrics) = results
    for (name, before), after in zip(plain.state_dict().items(), watched.state_dict().values(), strict=True):
        assert torch.equal(before, after), name
    assert watched.num_steps == plain.num_steps
    assert watched_metrics == plain_metrics
    if make is _OwnState:
        assert len(watched.outputs["train"]) == 20


def test_what_a_step_writes_to_the_loggers_itself_is_written_once(tmp_path: Path) -> None:
    class Writes(LinearRegression):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            self.loggers[0].log_metrics({"mine": float(loss)}, step=batch_idx)  # type: ignore[arg-type]
            return loss

    class Counting(pl.loggers.CSVLogger):
        num_written = 0

        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            self.num_written += "mine" in metrics

    callback, logger = GradientNoiseScale(every=1), Counting(str(tmp_path))
    trainer = quiet_trainer(callbacks=[callback], logger=logger, log_every_n_steps=1)
    trainer.fit(Writes(), loader(num_samples=64, batch_size=16))
    assert callback.estimate is not None
    assert logger.num_written == 4
    assert trainer.loggers == [logger]


def test_a_step_that_stops_the_training_at_a_low_loss_does_not_stop_it_for_a_single_sample() -> None:
    class StopsWhenGood(LinearRegression):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            self.trainer.should_stop = self.trainer.should_stop or float(loss) < 1.0
            return loss

    callback, model = GradientNoiseScale(every=1), StopsWhenGood()
    quiet_trainer(callbacks=[callback], max_epochs=3).fit(model, loader(num_samples=64, batch_size=16))
    assert callback.estimate is not None
    assert model.num_steps == 12


class _NeedsTwo(LinearRegression):
    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        if len(batch[0]) < 2:
            raise ValueError("at least two samples")
        return super().training_step(batch, batch_idx)


def test_a_model_that_takes_no_single_samples_trains_on_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    callback, model = GradientNoiseScale(every=1), _NeedsTwo()
    with caplog.at_level("INFO"):
        quiet_trainer(callbacks=[callback]).fit(model, loader(num_samples=64, batch_size=16))
    assert model.num_steps == 4
    assert callback.estimate is None
    assert caplog.text.count("measures nothing here") == 1
    with pytest.raises(TaskError, match="accumulate_grad_batches to 2 or more"):
        quiet_trainer(callbacks=[GradientNoiseScale("samples", every=1)]).fit(
            _NeedsTwo(), loader(num_samples=64, batch_size=16)
        )


class _AssertsTwo(LinearRegression):
    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        assert len(batch[0]) > 1, "pairs"
        return super().training_step(batch, batch_idx)


class _HasUnlabelledParts(LinearRegression):
    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        is_labelled = batch[1] > 0
        if not is_labelled.any():
            return torch.tensor(0.0)
        return super().training_step([batch[0][is_labelled], batch[1][is_labelled]], batch_idx)


class _CannotBeCopied(LinearRegression):
    def __deepcopy__(self, memo: object) -> Any:
        raise RuntimeError("not to be copied")

    def __getstate__(self) -> dict[str, Any]:
        raise RuntimeError("not to be copied")

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise RuntimeError("not to be copied")


@pytest.mark.parametrize("module", [_AssertsTwo, _HasUnlabelledParts, _CannotBeCopied])
def test_no_way_to_fail_on_single_samples_ends_a_training(module: Any, caplog: pytest.LogCaptureFixture) -> None:
    model = module()
    with caplog.at_level("INFO"):
        quiet_trainer(callbacks=[GradientNoiseScale(every=1)]).fit(model, loader(num_samples=64, batch_size=16))
    assert model.num_steps == 4
    assert caplog.text.count("measures nothing here") == 1
    with pytest.raises(TaskError, match="accumulate_grad_batches to 2 or more"):
        quiet_trainer(callbacks=[GradientNoiseScale("samples", every=1)]).fit(
            module(), loader(num_samples=64, batch_size=16)
        )


@pytest.mark.parametrize(("width", "is_copied"), [(3, True), (100, False)])
def test_a_teacher_is_copied_and_a_large_frozen_model_is_not(width: int, is_copied: bool) -> None:
    model = torch.nn.ModuleDict({"head": torch.nn.Linear(3, 1), "frozen": torch.nn.Linear(width, 1)})
    shadow = Shadows(model, list(model["head"].parameters())).new()
    assert shadow["head"].weight is model["head"].weight  # type: ignore[index]
    assert (shadow["frozen"].weight is not model["frozen"].weight) == is_copied  # type: ignore[index]


class _TwoLoaders(LinearRegression):
    """Labelled and unlabelled samples, as of semi-supervised training."""

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:  # type: ignore[override]
        return super().training_step(batch["labelled"], batch_idx) + 0.1 * (batch["other"][0] @ self.weight).mean() ** 2


@pytest.mark.parametrize(("other", "is_measured"), [(16, True), (64, False)])
def test_samples_of_several_loaders_are_taken_apart_only_side_by_side(
    other: int, is_measured: bool, caplog: pytest.LogCaptureFixture
) -> None:
    loaders = {
        "labelled": loader(num_samples=160, batch_size=16),
        "other": loader(num_samples=10 * other, batch_size=other),
    }
    callback = GradientNoiseScale(every=1)
    with caplog.at_level("INFO"):
        quiet_trainer(callbacks=[callback]).fit(_TwoLoaders(), CombinedLoader(loaders, "min_size"))
    assert (callback.estimate is not None) == is_measured
    assert ("the loaders give 16 and 64 samples side by side" in caplog.text) == (not is_measured)
    with pytest.raises(TaskError, match="side by side") if not is_measured else nullcontext():
        quiet_trainer(callbacks=[GradientNoiseScale("samples")]).fit(_TwoLoaders(), loaders)
