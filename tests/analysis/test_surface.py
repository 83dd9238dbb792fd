from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler, TensorDataset

from bsopt.analysis import (
    LossSurface,
    adaptive_sharpness,
    fixed_batches,
    interpolate,
    keskar_sharpness,
    landscape_1d,
    landscape_2d,
    step_loss,
)
from bsopt.errors import ConfigError, TaskError

Loss = Callable[[nn.Module, tuple[Tensor, Tensor]], Tensor]
Loader = DataLoader[tuple[Tensor, ...]]


def plain_loss(module: nn.Module, dataset: TensorDataset) -> float:
    images, labels = dataset.tensors
    module = copy.deepcopy(module).eval()
    with torch.no_grad():
        return float(nn.functional.cross_entropy(module(images), labels))


def test_loss_is_the_mean_over_samples_whatever_the_batches(
    network: nn.Module, loader: Loader, dataset: TensorDataset, loss: Loss
) -> None:
    for batch_size in (7, 64, 500):
        surface = LossSurface(network, loader, loss=loss, max_samples=None, batch_size=batch_size)
        assert surface.num_samples == 90
        assert surface.loss() == pytest.approx(plain_loss(network, dataset), rel=1e-6)


def test_gradient_agrees_with_a_plain_backward(
    network: nn.Module, loader: Loader, dataset: TensorDataset, loss: Loss
) -> None:
    surface = LossSurface(network, loader, loss=loss, batch_size=32)
    value, gradient = surface.loss_and_gradient(surface.origin)
    reference = copy.deepcopy(network).eval()
    loss(reference, dataset.tensors).backward()
    torch.testing.assert_close(gradient, torch.cat([p.grad.reshape(-1) for p in reference.parameters()]))
    assert value == pytest.approx(surface.loss(), rel=1e-6)


def test_a_module_that_takes_views_of_feature_maps_keeps_its_layout(
    network: nn.Module, loader: Loader, dataset: TensorDataset, loss: Loss
) -> None:
    class View(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(x.size(0), -1)

    network.head[0] = View()
    surface = LossSurface(network, loader, loss=loss)
    assert surface.loss() == pytest.approx(plain_loss(network, dataset), rel=1e-6)
    assert surface.loss_and_gradient(surface.origin)[1].isfinite().all()


def test_flat_vectors_and_named_tensors_are_two_views_of_one(network: nn.Module, loader: Loader, loss: Loss) -> None:
    surface = LossSurface(network, loader, loss=loss)
    named = surface.split(surface.origin)
    assert list(named) == [name for name, _ in network.named_parameters()]
    torch.testing.assert_close(named["head.1.weight"], network.state_dict()["head.1.weight"])
    torch.testing.assert_close(surface.flatten(named), surface.origin)


def test_train_mode_is_a_function_too(network: nn.Module, loader: Loader, loss: Loss) -> None:
    surface = LossSurface(network, loader, loss=loss, mode="train")
    assert surface.loss() == surface.loss()
    assert surface.loss() != pytest.approx(LossSurface(network, loader, loss=loss).loss(), rel=1e-3)


def test_frozen_weights_stay_and_a_frozen_module_is_analysed_whole(
    network: nn.Module, loader: Loader, loss: Loss
) -> None:
    network.features.requires_grad_(False)
    assert LossSurface(network, loader, loss=loss).names[0] == "head.1.weight"
    network.requires_grad_(False)
    surface = LossSurface(network, loader, loss=loss)
    assert surface.names[0] == "features.0.weight"
    assert surface.loss_and_gradient(surface.origin)[1].abs().sum() > 0
    assert not any(p.requires_grad for p in network.parameters())


def failing(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    module.features[0].weight.data.fill_(7.0)
    torch.rand(3)
    raise ZeroDivisionError


ANALYSES = {
    "surface": lambda m, d, f: LossSurface(m, d, loss=f, mode="train").loss(),
    "gradient": lambda m, d, f: (s := LossSurface(m, d, loss=f)).loss_and_gradient(s.origin),
    "sharpness": lambda m, d, f: keskar_sharpness(m, d, loss=f, num_starts=2, max_iterations=2, mode="train"),
    "subspace": lambda m, d, f: keskar_sharpness(m, d, loss=f, num_starts=2, max_iterations=2, subspace_dim=3),
    "adaptive": lambda m, d, f: adaptive_sharpness(m, d, loss=f, num_starts=2, max_iterations=2),
    "landscape_1d": lambda m, d, f: landscape_1d(m, d, loss=f, num_points=3),
    "landscape_2d": lambda m, d, f: landscape_2d(m, d, loss=f, num_points=3),
    "interpolation": lambda m, d, f: interpolate(
        m, m, m.state_dict(), train_data=d, validation_data=d, loss=f, alphas=(0, 0.5), statistics="re-estimate"
    ),
}


def photograph(module: nn.Module, loader: Loader) -> list[object]:
    generator = loader.generator
    assert generator is not None
    return [
        {name: tensor.clone().tolist() for name, tensor in module.state_dict().items()},
        [
            (id(p), p.data_ptr(), p.requires_grad, None if p.grad is None else p.grad.tolist())
            for p in module.parameters()
        ],
        [part.training for part in module.modules()],
        [(k, id(v)) for part in module.modules() for k, v in vars(part).items()],
        torch.get_rng_state().tolist(),
        generator.get_state().tolist(),
        str(np.random.get_state()),
        random.getstate(),
        torch.is_grad_enabled(),
    ]


@pytest.mark.parametrize("analysis", ANALYSES.values(), ids=list(ANALYSES))
@pytest.mark.parametrize("broken", [False, True], ids=["works", "fails"])
def test_nothing_is_touched(
    network: nn.Module,
    dataset: TensorDataset,
    loss: Loss,
    analysis: Callable[[nn.Module, Loader, Loss], object],
    broken: bool,
) -> None:
    loader = DataLoader(dataset, batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(3))
    loss(network, next(iter(loader))).backward()
    network.features.requires_grad_(False)
    network.head[1].eval()
    before = photograph(network, loader)
    if broken:
        with pytest.raises(ZeroDivisionError):
            analysis(network, loader, failing)
    else:
        analysis(network, loader, loss)
    assert photograph(network, loader) == before


def test_it_works_inside_no_grad_and_inference_mode(network: nn.Module, loader: Loader, loss: Loss) -> None:
    expected = keskar_sharpness(network, loader, loss=loss, num_starts=1, max_iterations=2)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            assert keskar_sharpness(network, loader, loss=loss, num_starts=1, max_iterations=2) == expected


# --- the fixed subset ---------------------------------------------------------------------------------------------


def samples(batches: list[object]) -> list[float]:
    return torch.cat([batch[0] for batch in batches]).flatten().tolist()


def test_the_subset_is_the_same_for_loaders_that_differ_in_batch_size_and_shuffling() -> None:
    data = TensorDataset(torch.arange(100.0))
    first = samples(fixed_batches(DataLoader(data, batch_size=8, shuffle=True), max_samples=30))
    second = samples(fixed_batches(DataLoader(data, batch_size=50), max_samples=30))
    assert first == second == sorted(set(first))
    assert len(first) == 30
    assert max(first) > 60
    assert first != samples(fixed_batches(DataLoader(data), max_samples=30, seed=1))


def test_a_split_made_by_samplers_is_respected() -> None:
    loader = DataLoader(TensorDataset(torch.arange(100.0)), sampler=SubsetRandomSampler(range(40, 60)), batch_size=4)
    assert samples(fixed_batches(loader)) == [float(i) for i in range(40, 60)]


def test_random_transforms_are_drawn_once() -> None:
    class Noisy(torch.utils.data.Dataset[Tensor]):
        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: int) -> Tensor:
            return torch.rand(1)

    first, second = (torch.cat(fixed_batches(DataLoader(Noisy()), seed=0)) for _ in range(2))
    assert first.tolist() == second.tolist()


def test_streams_and_lists_give_their_leading_batches() -> None:
    class Stream(IterableDataset[float]):
        def __iter__(self):
            return iter(range(100))

    assert [b.tolist() for b in fixed_batches(DataLoader(Stream(), batch_size=3), max_samples=5)] == [
        [0, 1, 2],
        [3, 4, 5],
    ]
    assert len(fixed_batches([torch.zeros(4)] * 5, max_samples=8)) == 2


def test_empty_data_and_wrong_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="no samples"):
        fixed_batches([])
    with pytest.raises(ConfigError, match="max_samples"):
        fixed_batches([torch.zeros(1)], max_samples=0)
    with pytest.raises(ConfigError, match="no tensor"):
        fixed_batches(["text"])


class Pair(NamedTuple):
    x: Tensor
    y: Tensor


@pytest.mark.parametrize("pack", [Pair, lambda x, y: {"x": x, "y": y}, lambda x, y: [x, {"y": y}]])
def test_batches_of_any_structure_pass_through(pack: Callable[[Tensor, Tensor], object]) -> None:
    module = nn.Linear(2, 1)
    batch = pack(torch.ones(3, 2), torch.ones(3))
    seen = []

    def loss(module: nn.Module, batch: object) -> Tensor:
        seen.append(type(batch))
        return next(iter(module.parameters())).sum()

    assert LossSurface(module, [batch], loss=loss).num_samples == 3
    LossSurface(module, [batch], loss=loss).loss()
    assert seen == [type(batch)]


# --- LightningModules ---------------------------------------------------------------------------------------------


class Lit(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(2, 1)
        self.calls: list[str] = []

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        return batch[0] * 2, batch[1]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        self.calls.append("train")
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
        self.log("train_loss", loss, prog_bar=True)
        self.log_dict({"a": loss, "b": loss})
        return {"loss": loss}

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.l1_loss(self.net(batch[0]), batch[1])


@pytest.fixture
def pairs() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(8, 2, generator=generator), torch.randn(8, 1, generator=generator)) for _ in range(3)]


def test_a_lightning_module_brings_its_own_loss_and_logs_nothing(pairs: list[tuple[Tensor, Tensor]]) -> None:
    module = Lit()
    expected = float(np.mean([nn.functional.mse_loss(module.net(2 * x), y).item() for x, y in pairs]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert LossSurface(module, pairs).loss() == pytest.approx(expected)
    assert module.calls == []
    assert "log" not in vars(module)


def test_a_fitted_lightning_module_keeps_its_trainer(pairs: list[tuple[Tensor, Tensor]]) -> None:
    class Fitted(Lit):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

        val_dataloader = None

    module = Fitted()
    trainer = pl.Trainer(
        max_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, DataLoader(pairs, batch_size=None))
    logged = dict(trainer.logged_metrics)
    LossSurface(module, pairs).loss()
    assert module.trainer is trainer
    assert trainer.logged_metrics == logged


def test_another_step_can_be_chosen(pairs: list[tuple[Tensor, Tensor]]) -> None:
    module = Lit()
    expected = float(np.mean([nn.functional.l1_loss(module.net(2 * x), y).item() for x, y in pairs]))
    assert LossSurface(module, pairs, loss=step_loss("validation_step")).loss() == pytest.approx(expected)


def test_manual_optimization_falls_back_on_the_validation_step(pairs: list[tuple[Tensor, Tensor]]) -> None:
    module = Lit()
    expected = LossSurface(module, pairs, loss=step_loss("validation_step")).loss()
    module.automatic_optimization = False
    assert LossSurface(module, pairs).loss() == expected


def test_a_step_may_call_its_arguments_anything(pairs: list[tuple[Tensor, Tensor]]) -> None:
    class Index(Lit):
        def training_step(self, batch: tuple[Tensor, Tensor], i: int) -> dict[str, Tensor]:
            return super().training_step(batch, i)

    class Unused(Lit):
        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> dict[str, Tensor]:
            return super().training_step(batch, 0)

    class Anything(Lit):
        def training_step(self, *args: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
            batch, index = args
            return super().training_step(batch, index)

    expected = LossSurface(Lit(), pairs)
    for module in (Index(), Unused(), Anything()):
        assert LossSurface(module, pairs).loss(expected.origin) == expected.loss()


def test_a_validation_step_may_want_the_index_of_its_loader(pairs: list[tuple[Tensor, Tensor]]) -> None:
    class TwoLoaders(Lit):
        def validation_step(self, batch: tuple[Tensor, Tensor], i: int, dataloader_idx: int) -> Tensor:
            return super().validation_step(batch) + i + dataloader_idx

    plain, indexed = Lit(), TwoLoaders()
    indexed.load_state_dict(plain.state_dict())
    step = step_loss("validation_step")
    assert LossSurface(indexed, pairs, loss=step).loss() == LossSurface(plain, pairs, loss=step).loss()


def test_a_step_that_needs_a_trainer_or_gives_no_loss_says_what_to_do(pairs: list[tuple[Tensor, Tensor]]) -> None:
    class NeedsTrainer(Lit):
        def training_step(self, batch: object, batch_idx: int) -> Tensor:
            return self.trainer.lightning_module.net.weight.sum()

    class NoLoss(Lit):
        def training_step(self, batch: object, batch_idx: int) -> None:
            return None

    for module in (NeedsTrainer(), NoLoss()):
        with pytest.raises(TaskError, match="give loss="):
            LossSurface(module, pairs).loss()


def test_a_plain_module_needs_a_loss(pairs: list[tuple[Tensor, Tensor]]) -> None:
    with pytest.raises(ConfigError, match="give loss="):
        LossSurface(nn.Linear(2, 1), pairs)
    with pytest.raises(ConfigError, match="no floating-point parameters"):
        LossSurface(nn.ReLU(), pairs, loss=lambda m, b: b[0].sum())
    with pytest.raises(ConfigError, match="mode"):
        LossSurface(Lit(), pairs, mode="validate")
