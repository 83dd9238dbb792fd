"""Putting the learning rate and the batch size into user code, and checking that they arrived.

By construction: as init arguments, by their usual names or by the paths under `inject:`. Attributes are set
only on what a factory returns, after the fact.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, Literal

from bsopt.errors import InjectionError, TaskError, nearest
from bsopt.training.task.proposals import paths_in, paths_like
from bsopt.training.task.sizes import batch_sizes_of
from bsopt.trial.plan import Plan
from bsopt.trial.spec import TrialSpec
from bsopt.units import in_words

__all__ = [
    "OWNERS",
    "USUAL_NAMES",
    "WORDS",
    "accepted",
    "asked_batch_size",
    "defaults_of",
    "filled_in",
    "group_with",
    "has_attribute",
    "no_place",
    "set_attribute",
    "split_path",
    "usual_argument",
    "verify",
    "with_argument",
]

_EXAMPLES = {"lr": "optimizer.lr", "batch_size": "loader.batch_size"}
_RATES = ("lr", "initial_lr", "max_lr")

USUAL_NAMES: Mapping[str, tuple[str, ...]] = {"lr": ("lr", "learning_rate"), "batch_size": ("batch_size",)}
WORDS: Mapping[str, str] = {"lr": "learning rate", "batch_size": "batch size"}
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


def defaults_of(target: Callable[..., Any]) -> dict[str, Any]:
    """Return the defaults of the arguments that a class or function takes, as far as they can be told."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def split_path(path: str, *, default: str) -> tuple[str, str]:
    """Return ("model" or "data", rest) of a path; `default` where it doesn't begin with either."""
    head, _, rest = path.partition(".")
    return (head, rest) if head in ("model", "data") and rest else (default, path)


def filled_in(args: Sequence[str], values: Mapping[str, Any]) -> tuple[list[str], set[str]]:
    """Return an entry's arguments with placeholders filled in, and the names used; braces around other words stay.

    Args:
        args: As `entry.args` has them.
        values: Name of the placeholder -> its value; None where it can't be told.

    Raises:
        TaskError: A placeholder stands for what can't be told.
    """
    used: set[str] = set()

    def fill(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in values:
            return match.group(0)
        if values[name] is None:
            raise TaskError(
                f"{{{name}}} in entry.args can't be told: the training data have no known length, or only time limits "
                "a trial. Give budget.steps, or with data of known length budget.epochs or budget.samples."
            )
        used.add(name)
        return str(values[name])

    return [re.sub(r"\{([A-Za-z_][\w.]*)\}", fill, arg) for arg in args], used


def asked_batch_size(plan: Plan, batch_size_is: Literal["micro", "global"]) -> int:
    """Return the batch size that user code is given, in samples: the plan's micro-batch or its global batch size."""
    return plan.global_batch_size if batch_size_is == "global" else plan.micro_batch_size


def usual_argument(target: Callable[..., Any], names: Iterable[str]) -> str | None:
    """Return the first of the usual names that a class or function takes; None where it takes none of them."""
    named, takes_any = accepted(target)
    usual = tuple(names)
    return next((name for name in usual if name in named), usual[0] if takes_any else None)


def no_place(why: Mapping[str, str], proposed: Mapping[str, Sequence[str]]) -> str:
    """Return one message for all values that have no place in user code, with the line to paste.

    Args:
        why: `lr` or `batch_size` -> what was looked at, and what it takes or has.
        proposed: The same names -> paths that seem to mean it, likeliest first.
    """
    found = {name: paths[0] for name, paths in proposed.items() if paths}
    line = ", ".join(f"{name}: {found.get(name) or _EXAMPLES[name]}" for name in why)
    others = [path for paths in proposed.values() for path in paths[1:]]
    more = f" It may also be {in_words(others, last='or')}." if others else ""
    act = "Say where it goes" if found.keys() == why.keys() else "Add one, or say where it goes"
    return f"{'; '.join(why.values())}. {act}, in the study file: inject: {{{line}}}.{more}"


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
        place = _get(place, name, path, target)
    _get(place, last, path, target)
    try:
        if isinstance(place, MutableMapping):
            place[last] = value
        else:
            setattr(place, last, value)
    except Exception as error:  # frozen, read-only, without a setter: whatever the project's own class raises
        raise TaskError(
            f"{path!r} of {type(target).__name__} can't be set: {type(error).__name__}: {error}. Let the "
            "project take it as an argument: of its class or factory, or of the script by entry.args."
        ) from error
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
        float(group[key]) for o in trainer.optimizers for group in o.param_groups for key in _RATES if key in group
    ]
    if rates and group_with(trainer, lr) is None:
        module = trainer.lightning_module
        found = ", ".join(f"{rate:.6g}{_holding(module, rate)}" for rate in sorted(set(rates)))
        raise InjectionError(
            f"asked for learning rate {lr:.6g}, but the optimizer has {found}: the module doesn't use what it was "
            "given. Use the argument in configure_optimizers, name the right one with inject.lr, or set "
            "inject.verify: false."
        )
    sizes = batch_sizes_of(trainer.train_dataloader)
    if sizes and plan.micro_batch_size not in sizes:
        asked = f"batch size {plan.micro_batch_size}" + (
            f" (of {plan})" if plan.global_batch_size != plan.micro_batch_size else ""
        )
        holder = trainer.datamodule if getattr(trainer, "datamodule", None) is not None else trainer.lightning_module
        found = ", ".join(f"{size}{_holding(holder, size)}" for size in dict.fromkeys(sizes))
        hint = (
            "check how the data module divides the global batch size (inject.batch_size_is: global)"
            if spec.task.batch_size_is == "global"
            else "use the data module's batch_size in train_dataloader, or name another with inject.batch_size"
        )
        raise InjectionError(
            f"asked for {asked}, but the training loader has {found}: {hint}, or set inject.verify: false."
        )


def group_with(trainer: Any, lr: float) -> tuple[int, int] | None:
    """Return the first optimizer and parameter group, by number, that began with a learning rate; None where none did.

    The rate is its `lr`, or where a scheduler has moved that already its `initial_lr` or `max_lr`.
    """
    for number, optimizer in enumerate(trainer.optimizers):
        for part, group in enumerate(optimizer.param_groups):
            if any(key in group and math.isclose(float(group[key]), lr, rel_tol=1e-6) for key in _RATES):
                return number, part
    return None


def _get(place: Any, name: str, path: str, target: Any) -> Any:
    if isinstance(place, Mapping):
        if name in place:
            return place[name]
    elif hasattr(place, name):
        return getattr(place, name)
    known = paths_in(target)
    meant = next((key for key in ("lr", "batch_size") if paths_like(key, [path])), path)
    close = nearest(path, known) or "".join(f" Did you mean {like!r}?" for like in paths_like(meant, known)[:1])
    raise TaskError(f"{type(place).__name__} has no {name!r} (path {path!r}).{close} Correct it under inject:.")


def _holding(target: Any, value: float) -> str:
    """Return a hint at settings of a module or data module that hold a value which was found in use."""
    paths = []
    for path in paths_in(target):
        place = target
        for name in path.split("."):
            place = place[name] if isinstance(place, Mapping) else getattr(place, name, None)
        if isinstance(place, (int, float)) and math.isclose(float(place), value, rel_tol=1e-6):
            paths.append(path)
    return f" ({in_words(paths[:3])} of its {type(target).__name__})" if paths else ""
