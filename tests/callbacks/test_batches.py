from __future__ import annotations

import dataclasses
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from linear_regression import DIMENSION, LinearRegression, quiet_trainer
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence
from torch.utils.data import DataLoader

from bsopt.callbacks import GradientNoiseScale, ThroughputMonitor, UpdateNorms
from bsopt.callbacks._batches import num_samples, select_samples
from bsopt.errors import ConfigError

Pair = namedtuple("Pair", ["x", "y"])
X, Y = torch.arange(12).reshape(4, 3), torch.arange(4)


@dataclasses.dataclass(frozen=True)
class Batch:
    name: str
    x: torch.Tensor
    y: torch.Tensor


@pytest.mark.parametrize(
    "batch",
    [X, (X, Y), [X, Y], {"x": X, "y": Y}, ({"name": "a", "x": X}, Y), SimpleNamespace(batch_size=4), Batch("a", X, Y)],
)
def test_samples_are_counted_in_any_structure(batch: object) -> None:
    assert num_samples(batch) == 4


def test_a_batch_that_cannot_be_counted_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"type str .* Let the collate function"):
        num_samples("batch")


def test_selection_keeps_the_structure() -> None:
    batch = {"pair": Pair(X, Y), "names": ["a", "b", "c", "d"], "scale": torch.tensor(2.0), "flag": True}
    chosen = select_samples(batch, torch.tensor([2, 0]))
    assert isinstance(chosen, dict)
    assert isinstance(chosen["pair"], Pair)
    assert chosen["pair"].x.tolist() == [[6, 7, 8], [0, 1, 2]]
    assert chosen["pair"].y.tolist() == [2, 0]
    assert chosen["names"] == ["c", "a"]
    assert chosen["scale"] == 2.0
    assert chosen["flag"] is True


def test_selection_of_a_dataclass_leaves_the_batch_as_it_was() -> None:
    batch = Batch("a", X, Y)
    chosen = select_samples(batch, torch.tensor([2, 0]))
    assert isinstance(chosen, Batch)
    assert (chosen.name, chosen.y.tolist(), chosen.x.shape) == ("a", [2, 0], (2, 3))
    assert batch.y.tolist() == [0, 1, 2, 3]


def test_packed_sequences_are_counted_and_selected_as_sequences() -> None:
    sequences = [torch.arange(length) + 10 * length for length in (2, 5, 1)]
    batch = (pack_sequence(sequences, enforce_sorted=False), torch.arange(3))
    assert num_samples(batch) == 3
    chosen = select_samples(batch, torch.tensor([2, 1]))
    assert isinstance(chosen, tuple)
    assert isinstance(chosen[0], PackedSequence)
    assert [s.tolist() for s in unpack_sequence(chosen[0])] == [[10], [50, 51, 52, 53, 54]]  # type: ignore[no-untyped-call]
    assert chosen[1].tolist() == [2, 1]


@pytest.mark.filterwarnings("ignore:train_dataloader yielded None")
def test_a_batch_that_is_none_ends_no_update() -> None:
    batches = [(torch.ones(4, DIMENSION), torch.ones(4)), None] * 5
    data = DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]
    norms, throughput, noise = UpdateNorms(every=2), ThroughputMonitor(), GradientNoiseScale(every=2)
    quiet_trainer(callbacks=[norms, throughput, noise]).fit(LinearRegression(lr=0.1), data)
    assert norms.summary is not None
    assert throughput.summary is not None
    assert noise.estimate is not None
    assert (norms.summary.num_measured, norms.summary.num_updates) == (3, 5)
    assert (throughput.summary.num_steps, throughput.summary.num_samples) == (5, 20)
    assert noise.estimate.num_measurements == 3


class _Manual(LinearRegression):
    def __init__(self) -> None:
        super().__init__(lr=0.1)
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:  # type: ignore[override]
        optimizer = self.optimizers()
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        optimizer.step()  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore:train_dataloader yielded None")
def test_a_batch_that_is_none_is_no_step_with_manual_optimization_either() -> None:
    batches = [(torch.ones(4, DIMENSION), torch.ones(4)), None] * 5
    data = DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]
    throughput = ThroughputMonitor()
    quiet_trainer(callbacks=[throughput]).fit(_Manual(), data)
    assert throughput.summary is not None
    assert (throughput.summary.num_steps, throughput.summary.num_samples) == (5, 20)
