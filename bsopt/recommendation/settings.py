"""A choice as settings to paste: into a LightningCLI configuration, into Python, or as a script's arguments."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from bsopt.training.task.injection import OWNERS, USUAL_NAMES, asked_batch_size, filled_in, split_path, with_argument
from bsopt.trial.asked import AskedCode
from bsopt.trial.plan import Plan

__all__ = ["UserCode", "as_python", "as_yaml"]


@dataclass(frozen=True, slots=True)
class UserCode:
    """Where the code of a study takes a choice, and what else its arguments are filled in with.

    Attributes:
        asked: What the study file says of it; nothing for a study without a file.
        params: Further parameters by path, as the best trial had them.
        seed: The study's seed.
        num_train_samples: Of an epoch; None where it isn't known.
        budget_samples: Nominal samples of a full training; None where something else limits it.
    """

    asked: AskedCode = field(default_factory=AskedCode)
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    num_train_samples: int | None = None
    budget_samples: float | None = None


def as_yaml(code: UserCode, lr: float, plan: Plan) -> str:
    """Return a choice as YAML: of a LightningCLI's configuration, or of a study's `entry` that has placeholders.

    An argument that is a mapping stands whole, as a LightningCLI replaces it whole.

    Args:
        code: Where the values go.
        lr: Learning rate.
        plan: How the batch size is realised.
    """
    args, arguments = _placed(code, lr, plan)
    blocks: dict[str, Any] = {"entry": {"script": code.asked.entry, "args": args}} if args else {}
    blocks |= {owner: values for owner, values in arguments.items() if values}
    blocks["trainer"] = {
        "accumulate_grad_batches": plan.accumulate_grad_batches,
        "devices": plan.num_devices,
        "num_nodes": plan.num_nodes,
    }
    return yaml.dump(blocks, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def as_python(code: UserCode, lr: float, plan: Plan) -> str:
    """Return a choice as Python; a script's command line is a comment in it.

    Args:
        code: Where the values go.
        lr: Learning rate.
        plan: How the batch size is realised.
    """
    args, arguments = _placed(code, lr, plan)
    trainer = (
        f"trainer = Trainer(accumulate_grad_batches={plan.accumulate_grad_batches}, "
        f"devices={plan.num_devices}, num_nodes={plan.num_nodes})"
    )
    realised = f"  # {plan} samples per optimizer update\n"
    if args:
        entry = str(code.asked.entry)
        command = (
            f"python {shlex.join([entry, *args])}" if entry.endswith(".py") else f"{entry} with {shlex.join(args)}"
        )
        places = (f"# and {owner}: {_call('dict', values)}\n" for owner, values in arguments.items() if values)
        return f"# {command}\n{''.join(places)}{trainer}{realised}"
    if code.asked.factory is not None:
        name = code.asked.factory.replace(":", ".").rpartition(".")[2]
        made = f"model, data = {_call(name, {**arguments['model'], **arguments['data']})}{realised}"
    else:
        made = (
            f"model = {_call('YourModule', arguments['model'])}\n"
            f"data = {_call('YourDataModule', arguments['data'])}{realised}"
        )
    return f"{made}{trainer}\ntrainer.fit(model, datamodule=data)\n"


def _placed(code: UserCode, lr: float, plan: Plan) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Return an entry's arguments, empty where no value is in them, and "model" and "data" -> their arguments."""
    asked, rate = code.asked, float(f"{lr:.4g}")
    values = {"lr": rate, "batch_size": asked_batch_size(plan, "global" if asked.is_global else "micro")}
    args, used = filled_in(asked.args, {**_told(code, plan), **values})
    arguments: dict[str, dict[str, Any]] = {"model": {}, "data": {}}
    for name, path in (("lr", asked.lr), ("batch_size", asked.batch_size)):
        if name in used:
            continue
        owner, place = split_path(path or _usual(name, asked), default=OWNERS[name])
        head = place.partition(".")[0]
        known = {head: asked.arguments.get(owner, {}).get(head, {})} if "." in place else {}
        set_so_far = arguments[owner]
        arguments[owner] = {**set_so_far, **with_argument({**known, **set_so_far}, place, values[name])}
    return (args if used & values.keys() else []), arguments


def _usual(name: str, asked: AskedCode) -> str:
    """Return the usual name that the study file gives an argument of, else the first."""
    given = asked.arguments.get(OWNERS[name], {})
    return next((usual for usual in USUAL_NAMES[name] if usual in given), USUAL_NAMES[name][0])


def _told(code: UserCode, plan: Plan) -> dict[str, Any]:
    """Return what an entry's other placeholders stand for; those that can't be told are left out."""
    samples, epoch = code.budget_samples, code.num_train_samples
    steps, epochs = code.asked.steps, None
    if samples is not None and epoch:
        epochs = math.ceil(samples / epoch - 1e-9)
        whole, part = divmod(samples / epoch, 1.0)
        updates = -(-epoch // plan.global_batch_size)
        steps = int(whole) * updates + math.ceil(part * updates - 1e-9)
    elif samples is not None:
        steps = math.ceil(samples / plan.global_batch_size - 1e-9)
    told = {
        **code.params,
        "seed": code.seed,
        "accumulate_grad_batches": plan.accumulate_grad_batches,
        "num_devices": plan.num_devices,
        "num_nodes": plan.num_nodes,
        "max_epochs": epochs,
        "max_steps": steps,
    }
    return {name: value for name, value in told.items() if value is not None}


def _call(name: str, arguments: Mapping[str, Any]) -> str:
    """Return a call in Python; names that can't be keywords stand in a mapping."""
    if all(key.isidentifier() for key in arguments):
        return f"{name}({', '.join(f'{key}={_literal(value)}' for key, value in arguments.items())})"
    return f"{name}(**{_literal(arguments)})"


def _literal(value: Any) -> str:
    """Return a value in Python; a `class_path` mapping is a call of its class."""
    if isinstance(value, Mapping) and "class_path" in value:
        return _call(str(value["class_path"]).rpartition(".")[2], value.get("init_args") or {})
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)


class _Dumper(yaml.SafeDumper):
    """YAML without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
