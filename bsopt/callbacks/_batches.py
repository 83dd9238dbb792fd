"""What callbacks ask of a batch: how many samples it holds, a part of them, and whether an update ends with it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence

from bsopt.errors import ConfigError

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

__all__ = ["ends_update", "num_samples", "select_samples", "sizes_by_loader"]


def ends_update(trainer: Trainer, batch: object, batch_idx: int) -> bool:
    """Return whether the optimizer steps on this batch: the window is full, or the epoch ends (a short window).

    Lightning passes over a batch that is None, as a collate function may give one: nothing is trained on it.
    """
    return batch is not None and (
        (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        or trainer.is_last_batch
        or batch_idx + 1 >= trainer.num_training_batches
    )


def num_samples(batch: object, *, otherwise: int | None = None) -> int:
    """Return the samples in a batch: the first dimension of the first tensor in it.

    A PackedSequence holds as many samples as sequences. An object without tensors may have an integer `batch_size`
    instead, as the batches of torch_geometric do.

    Args:
        batch: What the loader gives.
        otherwise: Returned where neither is found, as for an object of the user's own.

    Raises:
        ConfigError: Neither is found, and there is nothing else to return.
    """
    size = _first_size(batch)
    if size is None and otherwise is not None:
        return otherwise
    if size is None:
        raise ConfigError(
            f"can't tell how many samples a batch of type {type(batch).__name__} holds; a tensor, or tuples, lists, "
            "dicts and dataclasses of tensors with samples first, or an integer attribute `batch_size` are read. Let "
            "the collate function give one of these; ThroughputMonitor takes micro_batch_size instead."
        )
    return size


def select_samples(batch: object, indices: Tensor) -> object:
    """Return the same structure with only the samples at `indices`.

    Tensors whose first dimension is the batch's size are indexed, and so are lists of that many values that hold no
    tensors; everything else is passed on as it is.

    Args:
        batch: A tensor, or tuples, named tuples, lists, dicts and dataclasses of tensors.
        indices: Shape (k,), int64, on the CPU.
    """
    return _select(batch, indices, num_samples(batch))


def sizes_by_loader(trainer: Trainer, batch: object) -> list[int]:
    """Return the samples of a batch that each of several training loaders gave, of one loader the batch's."""
    parts: Iterable[object] = [batch]
    if isinstance(trainer.train_dataloader, (Mapping, list, tuple)):
        parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (list, tuple)) else parts
    return [size for size in map(_first_size, parts) if size is not None]


def _first_size(batch: object) -> int | None:
    if isinstance(batch, Tensor):
        return batch.shape[0] if batch.ndim else None
    if isinstance(batch, PackedSequence):
        return int(batch.batch_sizes[0])
    if isinstance(batch, (Mapping, Sequence)) and not isinstance(batch, (str, bytes)):
        values = batch.values() if isinstance(batch, Mapping) else batch
        return next((size for value in values if (size := _first_size(value)) is not None), None)
    size = getattr(batch, "batch_size", None)
    if isinstance(size, int):
        return size
    return _first_size(list(_fields(batch).values())) if _is_dataclass(batch) else None


def _select(part: object, indices: Tensor, size: int) -> object:
    if isinstance(part, Tensor):
        has_samples = part.ndim > 0 and part.shape[0] == size
        return part.index_select(0, indices.to(part.device)) if has_samples else part
    if isinstance(part, Mapping):
        chosen = {key: _select(value, indices, size) for key, value in part.items()}
        return chosen if type(part) is dict else type(part)(chosen)  # type: ignore[call-arg]
    if isinstance(part, PackedSequence):
        sequences = unpack_sequence(part)
        return pack_sequence([sequences[i] for i in indices], enforce_sorted=False)
    if isinstance(part, tuple):
        values: list[Any] = [_select(value, indices, size) for value in part]
        return type(part)(*values) if hasattr(part, "_fields") else tuple(values)
    if isinstance(part, list):
        if len(part) == size and _first_size(part) is None:
            return [part[index] for index in indices.tolist()]
        return [_select(value, indices, size) for value in part]
    if _is_dataclass(part):
        chosen_part = copy.copy(part)
        for name, value in _fields(part).items():
            object.__setattr__(chosen_part, name, _select(value, indices, size))  # it may be frozen
        return chosen_part
    return part


def _is_dataclass(part: object) -> bool:
    return dataclasses.is_dataclass(part) and not isinstance(part, type)


def _fields(part: Any) -> dict[str, object]:
    """Return a dataclass's values by name, as they are (`asdict` would copy the tensors)."""
    return {field.name: getattr(part, field.name) for field in dataclasses.fields(part) if hasattr(part, field.name)}
