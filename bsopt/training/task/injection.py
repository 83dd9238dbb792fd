"""Putting the learning rate and the batch size into user code, and checking that they arrived.

By construction: as init arguments, by their usual names or by the paths under `inject:`. Attributes are set
only on what a factory returns, after the fact.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from bsopt.errors import InjectionError, TaskError, nearest
from bsopt.trial.plan import Plan
from bsopt.trial.spec import TrialSpec

__all__ = [
    "BATCH_SIZE_NAMES",
    "LR_NAMES",
    "OWNERS",
    "accepted",
    "asked_batch_size",
    "default_path",
    "has_attribute",
    "loader_batch_size",
    "set_attribute",
    "split_path",
    "verify",
    "with_argument",
]

LR_NAMES = ("lr", "learning_rate")
BATCH_SIZE_NAMES = ("batch_size",)
OWNERS: Mapping[str, Literal["model", "data"]] = {"lr": "model", "batch_size": "data"}
"""Whose argument a value is where its path doesn't say it; a further parameter is the model's."""


def accepted(target: Callable[..., Any]) -> tuple[set[str], bool]:
    """Return the names of the arguments that a class or function takes, and whether it takes any name."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return set(), True
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    if takes_any and inspect.isclass(target):  # **kwargs usually go to the parent class, whose names we know
        for parent in target.__mro__[1:]:
            if parent.__module__.startswith(("pytorch_lightning", "lightning", "torch", "builtins")):
                break
            more, takes_any = accepted(parent)
            named |= more
    return named, takes_any


def split_path(path: str, *, default: str) -> tuple[str, str]:
    """Return ("model" or "data", rest) of a path; `default` where it doesn't begin with either."""
    head, _, rest = path.partition(".")
    return (head, rest) if head in ("model", "data") and rest else (default, path)


def asked_batch_size(plan: Plan, batch_size_is: Literal["micro", "global"]) -> int:
    """Return the batch size that user code is given, in samples: the plan's micro-batch or its global batch size."""
    return plan.global_batch_size if batch_size_is == "global" else plan.micro_batch_size


def default_path(target: Callable[..., Any], names: Iterable[str], *, what: str, key: str) -> str:
    """Return the first of the usual names that a class takes.

    Raises:
        TaskError: It takes none of them.
    """
    named, takes_any = accepted(target)
    usual = tuple(names)
    for name in usual:
        if name in named:
            return name
    if takes_any:
        return usual[0]
    label = f"{target.__module__}.{getattr(target, '__qualname__', target)}"
    takes = ", ".join(sorted(named)) or "no arguments"
    raise TaskError(
        f"{label} takes no argument {' or '.join(map(repr, usual))} for the {what} (it takes: {takes}). "
        f"Add one, or say where it goes with inject.{key}, e.g. inject: {{{key}: optimizer.{usual[0]}}}."
    )


def with_argument(arguments: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy of nested arguments with the one at a dotted path set.

    A nested `class_path` mapping is entered through its `init_args`.

    Raises:
        TaskError: The path leads through something that is no mapping.
    """
    head, _, rest = path.partition(".")
    result = dict(arguments)
    if not rest:
        result[head] = value
        return result
    inner = result.get(head, {})
    if not isinstance(inner, Mapping):
        raise TaskError(f"can't set {path!r}: the argument {head!r} is {type(inner).__name__}, not a mapping.")
    if "class_path" in inner and not rest.startswith("init_args."):
        result[head] = {**inner, "init_args": with_argument(inner.get("init_args") or {}, rest, value)}
    else:
        result[head] = with_argument(inner, rest, value)
    return result


def has_attribute(target: Any, path: str) -> bool:
    """Return whether there is an attribute (or a mapping's item) at a dotted path."""
    place = target
    for name in path.split("."):
        if isinstance(place, Mapping):
            if name not in place:
                return False
            place = place[name]
        elif hasattr(place, name):
            place = getattr(place, name)
        else:
            return False
    return True


def set_attribute(target: Any, path: str, value: Any) -> None:
    """Set an attribute (or a mapping's item) at a dotted path of what a factory returned.

    Raises:
        TaskError: There is no such attribute.
    """
    *parents, last = path.split(".")
    place = target
    for name in parents:
        place = _get(place, name, path)
    _get(place, last, path)
    if isinstance(place, dict):
        place[last] = value
    else:
        setattr(place, last, value)
    hparams = getattr(target, "hparams", None)
    if not parents and hparams is not None and last in hparams:
        hparams[last] = value


def verify(trainer: Any, spec: TrialSpec) -> None:
    """Check at train start that the learning rate and batch size asked for are in use, unless the task says not to.

    The learning rate must be some parameter group's `lr`, `initial_lr` or `max_lr` (a scheduler may already
    have moved `lr`); the loader's batch size must be the plan's micro-batch, or the global batch size where
    the data module divides it itself.

    Raises:
        InjectionError: Something else is in use; the message shows asked and found.
    """
    if not spec.task.verify:
        return
    lr, plan = spec.lr, spec.plan
    rates = [
        group[key]
        for o in trainer.optimizers
        for group in o.param_groups
        for key in ("lr", "initial_lr", "max_lr")
        if key in group
    ]
    if rates and not any(math.isclose(float(rate), lr, rel_tol=1e-6) for rate in rates):
        found = ", ".join(f"{rate:.6g}" for rate in sorted({float(rate) for rate in rates}))
        raise InjectionError(
            f"asked for learning rate {lr:.6g}, but the optimizer has {found}: the module doesn't use what it was "
            "given. Use the argument in configure_optimizers, name the right one with inject.lr, or set "
            "inject.verify: false."
        )
    size = loader_batch_size(trainer.train_dataloader)
    if size is None:
        return
    if size != plan.micro_batch_size:
        asked = f"batch size {plan.micro_batch_size}" + (
            f" (of {plan})" if plan.global_batch_size != plan.micro_batch_size else ""
        )
        hint = (
            "check how the data module divides the global batch size (inject.batch_size_is: global)"
            if spec.task.batch_size_is == "global"
            else "use the data module's batch_size in train_dataloader, or name another with inject.batch_size"
        )
        raise InjectionError(
            f"asked for {asked}, but the training loader has {size}: {hint}, or set inject.verify: false."
        )


def loader_batch_size(loader: Any) -> int | None:
    """Return a loader's batch size; None where it can't be told."""
    size = getattr(loader, "batch_size", None)
    if size is None:
        size = getattr(getattr(loader, "batch_sampler", None), "batch_size", None)
    return size if isinstance(size, int) else None


def _get(place: Any, name: str, path: str) -> Any:
    if isinstance(place, Mapping):
        if name in place:
            return place[name]
        known = [str(key) for key in place]
    else:
        if hasattr(place, name):
            return getattr(place, name)
        known = [key for key in vars(place) if not key.startswith("_")] if hasattr(place, "__dict__") else []
    raise TaskError(
        f"{type(place).__name__} has no {name!r} (path {path!r}).{nearest(name, known)} Correct it under inject:."
    )
