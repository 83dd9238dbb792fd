"""Where a project seems to keep its learning rate and batch size: what a message proposes to paste, never used unasked.

A place is proposed by the last word of its path. Settings nested in mappings, dataclasses and namespaces (OmegaConf,
saved hyperparameters) are looked into.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["is_settings", "options_like", "paths_in", "paths_like"]

_LIKE = {
    "lr": re.compile(r"(^|_)(lr\d?|learning_?rate|eta)($|_)", re.IGNORECASE),
    "batch_size": re.compile(r"(^|_)(batch_?size|batchsize|bsz?|batch)($|_)", re.IGNORECASE),
}
_UNLIKE = {
    "lr": re.compile(
        r"(^|_)(min|final|end|decay|gamma|factor|schedul\w*|warm\w*|patience|policy|mult|step\w*)($|_)", re.I
    ),
    "batch_size": re.compile(r"(^|_)(val\w*|eval\w*|test\w*|predict\w*|sampler|norm)($|_)", re.IGNORECASE),
}
_BEST = {
    "lr": ("lr", "learning_rate", "base_lr", "max_lr"),
    "batch_size": ("batch_size", "train_batch_size", "per_device_train_batch_size"),
}
_DEPTH = 4


def paths_like(name: str, paths: Iterable[str]) -> list[str]:
    """Return those of some dotted paths that seem to mean the learning rate or the batch size, likeliest first.

    Args:
        name: "lr" or "batch_size"; for another name those that end with it.
        paths: Paths of settings.

    >>> paths_like("lr", ["hparams.base_lr", "hparams.min_lr", "width", "cfg.optim.lr"])
    ['cfg.optim.lr', 'hparams.base_lr']
    >>> paths_like("batch_size", ["bs", "val_batch_size", "per_device_train_batch_size"])
    ['per_device_train_batch_size', 'bs']
    """
    last = {path: path.replace("-", "_").strip("_").rpartition(".")[2] for path in paths}
    if name not in _LIKE:
        return [path for path, word in last.items() if word == name.rpartition(".")[2]]
    found = [path for path, word in last.items() if _LIKE[name].search(word) and not _UNLIKE[name].search(word)]
    best = _BEST[name]
    return sorted(
        found, key=lambda path: (best.index(last[path]) if last[path] in best else len(best), path.count("."))
    )


def options_like(name: str, options: Iterable[str]) -> list[str]:
    """Return those of a command line's options (`--base_lr`) that seem to mean the learning rate or the batch size."""
    return paths_like(name, (option for option in options if option.startswith("--")))


def paths_in(settings: Any) -> list[str]:
    """Return the paths of all numbers in a module's or data module's attributes, a mapping, or what they hold."""
    found: list[str] = []
    _walk(settings, "", found, _DEPTH)
    return found


def _walk(place: Any, path: str, found: list[str], depth: int) -> None:
    for key, value in _items(place):
        if not isinstance(key, str) or key.startswith("_"):
            continue
        inner = f"{path}.{key}" if path else key
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found.append(inner)
        elif depth > 1 and is_settings(value):
            _walk(value, inner, found, depth - 1)


def _items(place: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(place, Mapping):
        inner = place.get("init_args") if "class_path" in place else None
        return list((inner if isinstance(inner, Mapping) else place).items())
    items = {name: getattr(place, name, None) for name in _slots_of(place)} | getattr(place, "__dict__", {})
    hparams = getattr(place, "hparams", None)
    if isinstance(hparams, Mapping) and hparams:
        items["hparams"] = hparams
    return list(items.items())


def is_settings(value: Any) -> bool:
    """Whether a value holds settings: a mapping, a dataclass, a namespace; and no network, tensor or function."""
    if isinstance(value, Mapping):
        return True
    is_plain = type(value).__module__.split(".")[0] not in ("torch", "lightning", "pytorch_lightning", "torchmetrics")
    is_network = hasattr(value, "parameters") or callable(value) or isinstance(value, type)
    return is_plain and (hasattr(value, "__dict__") or bool(_slots_of(value))) and not is_network


def _slots_of(value: Any) -> list[str]:
    """Return the names of the attributes that a value's classes have slots for, as `attrs.define` makes them."""
    slots = [vars(parent).get("__slots__", ()) for parent in type(value).__mro__]
    return [name for names in slots for name in ([names] if isinstance(names, str) else names)]
