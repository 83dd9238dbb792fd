from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from linear_regression import LinearRegression, loader, quiet_trainer

from bsopt.callbacks import WeightDistance
from bsopt.callbacks.weight_distance import layer_distances
from bsopt.serialization import to_plain


def _plain_loop(epochs: int) -> list[torch.Tensor]:
    """Return the weights at the start and after each epoch of the same training in plain PyTorch."""
    model = LinearRegression()
    weights = [model.weight.detach().clone()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(epochs):
        for x, y in loader(num_samples=160, batch_size=16):
            optimizer.zero_grad()
            (0.5 * (x @ model.weight - y).square().mean()).backward()
            optimizer.step()
        weights.append(model.weight.detach().clone())
    return weights


def test_distances_equal_a_plain_pytorch_loop() -> None:
    weights = _plain_loop(3)
    callback = WeightDistance()
    trainer = quiet_trainer(callbacks=[callback], max_epochs=3)
    trainer.fit(LinearRegression(lr=0.05), loader(num_samples=160, batch_size=16))
    summary = callback.summary
    assert summary is not None
    assert summary.total == pytest.approx(float((weights[3] - weights[0]).norm()), rel=1e-5)
    assert summary.from_start == pytest.approx([float((w - weights[0]).norm()) for w in weights[1:]], rel=1e-5)
    steps = zip(weights[1:], weights[:-1], strict=True)
    assert summary.epochs == pytest.approx([float((new - old).norm()) for new, old in steps], rel=1e-5)
    assert summary.steps == (10, 20, 30)
    assert summary.per_layer == {"weight": summary.total}
    assert float(trainer.callback_metrics["bsopt/weight_distance"]) == pytest.approx(summary.total, rel=1e-5)
    json.dumps(to_plain(summary), allow_nan=False)


def test_a_layer_is_a_module_with_its_weight_and_bias() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    with torch.no_grad():
        net[0].weight += 1.0
        net[0].bias += 2.0
    assert layer_distances(net, before) == pytest.approx({"0": (4 + 8) ** 0.5, "2": 0.0})


def test_a_lazy_layer_is_measured_from_the_weights_that_its_first_batch_gives_it() -> None:
    class Lazy(LinearRegression):
        def __init__(self) -> None:
            super().__init__(lr=0.05)
            self.layer = torch.nn.LazyLinear(1, bias=False)
            self.first: torch.Tensor | None = None

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
            x, y = batch
            loss = (self.layer(x)[:, 0] - y).square().mean() + super().training_step(batch, batch_idx)
            if self.first is None:
                self.first = self.layer.weight.detach().clone()
            return loss

    callback, module = WeightDistance(), Lazy()
    quiet_trainer(callbacks=[callback], max_epochs=2).fit(module, loader(num_samples=160, batch_size=16))
    assert callback.summary is not None
    assert module.first is not None
    moved = float((module.layer.weight.detach() - module.first).norm())
    assert callback.summary.per_layer["layer"] == pytest.approx(moved, rel=1e-5)
    assert len(callback.summary.from_start) == 2
    assert callback.summary.from_start[-1] == pytest.approx(callback.summary.total)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64, torch.complex128])
def test_double_and_complex_weights_lose_nothing(dtype: torch.dtype) -> None:
    step = 1e-9 if dtype == torch.float64 else 1e-3j
    start = torch.full((4,), 500.0 if dtype == torch.float64 else 0.0, dtype=dtype)
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(start + step)
    assert layer_distances(module, {"weight": start}) == pytest.approx({"weight": 2 * abs(step)}, rel=1e-4)


def test_a_resumed_run_measures_from_the_first_start(tmp_path: Path) -> None:
    data = loader(num_samples=160, batch_size=16)
    whole = WeightDistance()
    quiet_trainer(callbacks=[whole], max_epochs=2).fit(LinearRegression(lr=0.05), data)
    first = quiet_trainer(callbacks=[WeightDistance()], max_epochs=1)
    first.fit(LinearRegression(lr=0.05), data)
    first.save_checkpoint(tmp_path / "run.ckpt")
    resumed = WeightDistance()
    second = quiet_trainer(callbacks=[resumed], max_epochs=2)
    second.fit(LinearRegression(lr=0.05), data, ckpt_path=str(tmp_path / "run.ckpt"))
    assert resumed.summary == whole.summary


def test_nothing_is_known_before_the_first_epoch() -> None:
    assert WeightDistance().summary is None
