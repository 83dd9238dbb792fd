"""What a study file asked for, as far as a stored study's readers need it: the one place that knows where it stands.

A study's description keeps its whole file as plain data, so that it can be run again. A study that bsopt didn't make
has no file: there everything is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["AskedLimits", "AskedSearch", "experiment_in", "limits_in", "momentum_in", "search_in"]


@dataclass(frozen=True, slots=True)
class AskedSearch:
    """The `search` block of a study file.

    Attributes:
        sampler: Name of the sampler; None where the file doesn't say.
        rule: Scaling rule of the prior; None for the optimizer's usual one, applied with less confidence.
        lattice: Of batch sizes: "pow2", "any" or {"multiple_of": n}.
        prior_from: Name of an earlier study whose ridge is the prior; None without one.
        has_reference: Whether the file names a known-good point.
    """

    sampler: str | None = None
    rule: str | None = None
    lattice: Any = "pow2"
    prior_from: str | None = None
    has_reference: bool = False


@dataclass(frozen=True, slots=True)
class AskedLimits:
    """What a study file says of memory.

    Attributes:
        max_micro_batch_size: Most samples in one pass of a device; None where the probe finds it.
        memory_bytes: Memory of one rank; None for all that the device has.
    """

    max_micro_batch_size: int | None = None
    memory_bytes: int | None = None


def search_in(config: Mapping[str, Any]) -> AskedSearch | None:
    """Return a study file's `search` block, None where there is none.

    >>> search_in({"search": {"lr": {"rule": "sqrt"}, "sampler": "scaling"}})
    AskedSearch(sampler='scaling', rule='sqrt', lattice='pow2', prior_from=None, has_reference=False)
    """
    search = _block(config, "search")
    if search is None:
        return None
    return AskedSearch(
        sampler=search.get("sampler"),
        rule=(_block(search, "lr") or {}).get("rule"),
        lattice=(_block(search, "batch_size") or {}).get("lattice", "pow2"),
        prior_from=search.get("prior_from"),
        has_reference=bool((_block(search, "lr") or {}).get("reference")),
    )


def limits_in(config: Mapping[str, Any]) -> AskedLimits:
    """Return what a study file says of memory."""
    limits = _block(config, "limits") or {}
    return AskedLimits(limits.get("max_micro_batch_size"), limits.get("memory"))


def momentum_in(config: Mapping[str, Any]) -> float | None:
    """Return the momentum that a study file gives to its model, None where it gives none.

    >>> momentum_in({"task": {"model": {"init_args": {"momentum": 0.9}}}})
    0.9
    """
    model = _block(_block(config, "task") or {}, "model") or {}
    value = (_block(model, "init_args") or {}).get("momentum")
    return float(value) if isinstance(value, (int, float)) else None


def experiment_in(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return a study file's `experiment` block as plain data, None where there is none."""
    return _block(config, "experiment") or None


def _block(plain: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    found = plain.get(name)
    return found if isinstance(found, Mapping) else None
