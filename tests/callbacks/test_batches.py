from __future__ import annotations

import dataclasses
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence

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
    with pytest.raises(ConfigError, match="type str"):
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
