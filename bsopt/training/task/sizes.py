"""How many samples and batches a training loader gives, whatever it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bsopt.training.lightning_internals import combination_of

__all__ = ["batch_sizes_of", "leaves_of", "num_batches_of", "num_samples_of"]


def leaves_of(loader: Any) -> list[Any]:
    """Return the loaders in what a training loader may be: itself, a dict or list of them, or a CombinedLoader."""
    inner = loader.iterables if combination_of(loader) else loader
    if isinstance(inner, Mapping):
        return [leaf for part in inner.values() for leaf in leaves_of(part)]
    if isinstance(inner, (list, tuple)):
        return [leaf for part in inner for leaf in leaves_of(part)]
    return [inner]


def num_samples_of(loader: Any) -> int | None:
    """Return how many samples an epoch has, of all ranks together; None where a loader doesn't tell.

    That is what the sampler draws (`WeightedRandomSampler`, a subset), usually the whole data set. Of several loaders
    that are gone through side by side, the one that decides when an epoch ends counts: the longest, or the shortest in
    the mode `min_size`. One after the other (`sequential`), they count together.
    """
    return _over_leaves(loader, [_num_drawn(leaf) for leaf in leaves_of(loader)])


def num_batches_of(loader: Any) -> int | None:
    """Return the batches that a loader gives in an epoch on this rank; None where it has no length."""
    return _over_leaves(loader, [_length(leaf) for leaf in leaves_of(loader)])


def _over_leaves(loader: Any, lengths: list[int | None]) -> int | None:
    known = [length for length in lengths if length is not None]
    mode = combination_of(loader) or "max_size_cycle"  # what Lightning makes of a dict or list of loaders
    if mode == "min_size":
        return min(known, default=None)  # one without a length doesn't end
    if len(known) < len(lengths) or not known:
        return None
    return sum(known) if mode == "sequential" else max(known)


def batch_sizes_of(loader: Any) -> list[int]:
    """Return the batch size of each loader in a training loader, in samples, where it can be told."""
    sizes = (_batch_size(leaf) for leaf in leaves_of(loader))
    return [size for size in sizes if size is not None]


def _batch_size(loader: Any) -> int | None:
    size = getattr(loader, "batch_size", None)
    if size is None:
        size = getattr(getattr(loader, "batch_sampler", None), "batch_size", None)
    return size if isinstance(size, int) else None


def _num_drawn(loader: Any) -> int | None:
    """Return how many samples a loader's sampler draws in an epoch, on all ranks together."""
    sampler = getattr(getattr(loader, "batch_sampler", None), "sampler", None) or getattr(loader, "sampler", None)
    if hasattr(sampler, "num_replicas"):  # a rank's share of a data set, or of what another sampler draws
        sampler = getattr(sampler, "dataset", None)
    drawn = _length(sampler)
    return drawn if drawn is not None else _length(getattr(loader, "dataset", None))


def _length(value: Any) -> int | None:
    try:
        return len(value)
    except (AttributeError, TypeError, NotImplementedError):
        return None
