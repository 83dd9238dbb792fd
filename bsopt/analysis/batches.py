"""A fixed subset of the data behind a loader, the same whatever the loader's batch size and shuffling."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from itertools import islice
from typing import TypeAlias, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset

from bsopt.analysis.isolation import untouched_random_state
from bsopt.errors import ConfigError

__all__ = ["Batch", "fixed_batches", "num_samples", "to_device"]

Batch: TypeAlias = object
"""Whatever a loader yields: a tensor, or tuples, lists, dicts and dataclasses of tensors."""

DEFAULT_BATCH_SIZE = 250
"""Samples; about where small networks evaluate fastest on a CPU."""


def fixed_batches(
    data: Iterable[Batch],
    *,
    max_samples: int | None = 2000,
    batch_size: int | None = None,
    seed: int = 0,
) -> list[Batch]:
    """Return a fixed subset of a loader's samples, in batches.

    Behind a `DataLoader` with a dataset that can be indexed, the samples of its sampler are drawn without
    replacement by `seed`, in the dataset's order, and collated by the loader's own `collate_fn`: so loaders
    that differ in batch size or shuffling alone give the same samples. From anything else (an iterable
    dataset, a custom batch sampler, a list of batches) the first batches are taken as they come, up to the one
    that reaches `max_samples`; `batch_size` and `seed` have no say there.

    Args:
        data: A `DataLoader`, or any iterable of batches.
        max_samples: Size of the subset; None takes all.
        batch_size: Samples per batch, 250 by default: a matter of memory and speed, not of the result.
        seed: Of the draw, and of random transforms while the samples are read.

    Raises:
        ConfigError: There are no samples, or an argument is below 1.
    """
    for name, value in (("max_samples", max_samples), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}.")
    with untouched_random_state(seed=seed), _untouched_generators(data):
        indices = _indices(data)
        if indices is None:
            batches = list(_leading(data, max_samples))
        else:
            chosen = _draw(indices, max_samples, seed)
            batches = list(_collated(cast("DataLoader[object]", data), chosen, batch_size or DEFAULT_BATCH_SIZE))
    if not batches:
        raise ConfigError("the data hold no samples: give a loader that yields at least one batch.")
    return batches


def num_samples(batch: Batch) -> int:
    """Return the length of the first dimension of the first tensor in a batch.

    Raises:
        ConfigError: The batch holds no tensor with a dimension.
    """
    for tensor in _tensors(batch):
        if tensor.ndim:
            return tensor.shape[0]
    raise ConfigError(f"a batch of type {type(batch).__name__} holds no tensor to count samples by.")


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch with every tensor on the device; containers keep their types."""
    if isinstance(batch, Mapping):
        moved = {key: to_device(value, device) for key, value in batch.items()}
        return moved if type(batch) is dict else type(batch)(moved)  # type: ignore[call-arg]
    make_named = getattr(batch, "_make", None)
    if isinstance(batch, tuple) and callable(make_named):
        return make_named([to_device(item, device) for item in batch])
    if isinstance(batch, (list, tuple)):
        return type(batch)(to_device(item, device) for item in batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        values = {field.name: to_device(getattr(batch, field.name), device) for field in dataclasses.fields(batch)}
        return dataclasses.replace(batch, **values)
    move = getattr(batch, "to", None)
    return move(device) if callable(move) else batch


def _indices(data: Iterable[Batch]) -> list[int] | None:
    if not isinstance(data, DataLoader) or isinstance(data.dataset, IterableDataset):
        return None
    if type(data.batch_sampler) is not BatchSampler or not isinstance(data.sampler, Sized):
        return None
    return sorted(set(islice(iter(data.sampler), len(data.sampler))))


def _draw(indices: Sequence[int], max_samples: int | None, seed: int) -> list[int]:
    if max_samples is None or len(indices) <= max_samples:
        return list(indices)
    chosen = np.random.default_rng(seed).choice(len(indices), size=max_samples, replace=False)
    return [indices[i] for i in np.sort(chosen)]


def _collated(loader: DataLoader[object], indices: Sequence[int], batch_size: int) -> Iterator[Batch]:
    dataset: Dataset[object] = loader.dataset
    for start in range(0, len(indices), batch_size):
        part = list(indices[start : start + batch_size])
        many = getattr(dataset, "__getitems__", None)
        yield loader.collate_fn(many(part) if many else [dataset[i] for i in part])


def _leading(data: Iterable[Batch], max_samples: int | None) -> Iterator[Batch]:
    seen = 0
    for batch in data:
        yield batch
        seen += num_samples(batch)
        if max_samples is not None and seen >= max_samples:
            return


def _tensors(batch: Batch) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from _tensors(value)
    elif isinstance(batch, (list, tuple)):
        for item in batch:
            yield from _tensors(item)
    elif hasattr(batch, "__dict__") or dataclasses.is_dataclass(batch):
        yield from (value for value in vars(batch).values() if isinstance(value, Tensor))


@contextmanager
def _untouched_generators(data: Iterable[Batch]) -> Iterator[None]:
    """Give a loader's own generators back in the state they had."""
    owners = (data, getattr(data, "sampler", None))
    found = {id(g): g for g in (getattr(o, "generator", None) for o in owners) if isinstance(g, torch.Generator)}
    states = [(generator, generator.get_state()) for generator in found.values()]
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)
