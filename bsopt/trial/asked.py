"""What a study file asked for, as far as a stored study's readers need it: the one place that knows where it stands.

A study's description keeps its whole file as plain data, so that it can be run again. A study that bsopt didn't make
has no file: there everything is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "AskedCode",
    "AskedLimits",
    "AskedSearch",
    "code_in",
    "experiment_in",
    "limits_in",
    "momentum_in",
    "search_in",
]


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


@dataclass(frozen=True, slots=True)
class AskedCode:
    """Where the user's code takes the learning rate and the batch size: the blocks `task`, `inject` and `budget`.

    Attributes:
        lr: Path of the learning rate; None where the file leaves it to the usual names.
        batch_size: Path of the batch size; None where the file leaves it to the usual names.
        is_global: Whether that batch size is the global one, and not the micro-batch.
        arguments: "model" and "data" -> the init arguments that the file gives.
        factory: Path of the function that makes module and data; None without one.
        entry: The project's script or function; None without one.
        args: The entry's arguments, with placeholders.
        steps: Optimizer updates of a trial; None where something else limits it.
    """

    lr: str | None = None
    batch_size: str | None = None
    is_global: bool = False
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    factory: str | None = None
    entry: str | None = None
    args: tuple[str, ...] = ()
    steps: int | None = None


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


def code_in(config: Mapping[str, Any]) -> AskedCode:
    """Return where a study file's code takes the learning rate and the batch size.

    >>> code_in({"inject": {"lr": "optim.lr"}}).lr
    'optim.lr'
    """
    task, inject = _block(config, "task") or {}, _block(config, "inject") or {}
    entry = _block(task, "entry") or {}
    blocks = {name: _block(task, name) or {} for name in ("model", "data")}
    return AskedCode(
        lr=inject.get("lr"),
        batch_size=inject.get("batch_size"),
        is_global=inject.get("batch_size_is") == "global",
        arguments={name: _block(block, "init_args") or {} for name, block in blocks.items()},
        factory=task.get("factory"),
        entry=entry.get("script") or entry.get("function"),
        args=tuple(entry.get("args") or ()),
        steps=(_block(config, "budget") or {}).get("steps"),
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
