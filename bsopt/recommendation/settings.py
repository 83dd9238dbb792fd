"""A choice as settings to paste: into a LightningCLI configuration, into Python, or as a script's arguments."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from bsopt.training.task.injection import OWNERS, USUAL_NAMES, asked_batch_size, filled_in, split_path, with_argument
from bsopt.trial.asked import AskedCode
from bsopt.trial.plan import Plan
from bsopt.units import format_number, in_words

__all__ = ["UserCode", "as_python", "as_yaml"]


@dataclass(frozen=True, slots=True)
class UserCode:
    """Where the code of a study takes a choice, and what else its arguments are filled in with.

    Attributes:
        asked: What the study file says of it; nothing for a study without a file.
        places: "lr", "batch_size" or a further parameter -> where building the task showed that the code takes it: an
            init argument (`model.lr`), or an option of a LightningCLI (`--model.lr`).
        params: Further parameters by path, as the best trial had them.
        seed: The study's seed.
        num_train_samples: Of an epoch; None where it isn't known.
        budget_samples: Nominal samples of a full training; None where something else limits it.
        units_per_sample: How many of what the data count their batch size in make a sample; 1 where they count samples.
    """

    asked: AskedCode = field(default_factory=AskedCode)
    places: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    num_train_samples: int | None = None
    budget_samples: float | None = None
    units_per_sample: float = 1.0

    @property
    def is_cli(self) -> bool:
        """Whether a LightningCLI takes the values as options."""
        return any(place.startswith("--") for place in self.places.values())


def as_yaml(code: UserCode, lr: float, plan: Plan) -> str:
    """Return a choice as YAML: of a LightningCLI's configuration, or of a study's `entry` that has placeholders.

    It is the last of several configurations (`--config config.yaml --config this.yaml`): classes stand in an earlier
    one. An argument that is a mapping stands whole, as a LightningCLI replaces it whole.

    Args:
        code: Where the values go.
        lr: Learning rate.
        plan: How the batch size is realised.
    """
    placed = _placed(code, lr, plan)
    blocks: dict[str, Any] = {"entry": {"script": code.asked.entry, "args": placed.args}} if placed.by_args else {}
    blocks |= {owner: values for owner, values in placed.arguments.items() if values}
    blocks["trainer"] = _trainer(plan)
    return yaml.dump(blocks, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def as_python(code: UserCode, lr: float, plan: Plan) -> str:
    """Return a choice as Python; a script's command line is a comment in it.

    Args:
        code: Where the values go.
        lr: Learning rate.
        plan: How the batch size is realised.
    """
    placed = _placed(code, lr, plan)
    arguments = placed.arguments
    trainer = f"trainer = {_call('Trainer', _trainer(plan))}"
    realised = f"  # {plan} {_unit(code, plan)} per optimizer update\n"
    if code.is_cli:
        blocks = {**arguments, "trainer": _trainer(plan)}
        args = [*placed.args, *(f"--{name}={text}" for name, text in _options(blocks))]
        return f"# {_command(code, args)}{realised}"
    if placed.by_args:
        places = (f"# and {owner}: {_call('dict', values)}\n" for owner, values in arguments.items() if values)
        return f"# {_command(code, placed.args)}\n{''.join(places)}{trainer}{realised}"
    if code.asked.factory is not None:
        name = code.asked.factory.replace(":", ".").rpartition(".")[2]
        made = f"model, data = {_call(name, {**arguments['model'], **arguments['data']})}{realised}"
    else:
        of_model, of_data = (_and_the_rest(code, owner, arguments[owner]) for owner in ("model", "data"))
        made = (
            f"model = {_call('YourModule', arguments['model'])}{of_model and '  # ' + of_model}\n"
            f"data = {_call('YourDataModule', arguments['data'])}{realised.rstrip()}{of_data and '; ' + of_data}\n"
        )
    return f"{made}{trainer}\ntrainer.fit(model, datamodule=data)\n"


@dataclass(frozen=True, slots=True)
class _Placed:
    """An entry's arguments, whether a value of the choice is in them, and "model", "data" … -> their arguments."""

    args: list[str]
    by_args: bool
    arguments: Mapping[str, Mapping[str, Any]]


def _unit(code: UserCode, plan: Plan) -> str:
    """Return what a batch size counts, in words."""
    if code.units_per_sample == 1.0:
        return "samples"
    samples = format_number(plan.global_batch_size / code.units_per_sample, digits=2)
    return f"of what {_place('batch_size', code)[1]} counts, about {samples} samples,"


def _placed(code: UserCode, lr: float, plan: Plan) -> _Placed:
    """Return where each value of a choice goes."""
    asked, rate = code.asked, float(f"{lr:.4g}")
    size = asked_batch_size(plan, "global" if asked.is_global else "micro")
    values = {**code.params, "lr": rate, "batch_size": size}
    args, used = filled_in(asked.args, {**_told(code, plan), **values})
    arguments: dict[str, dict[str, Any]] = {"model": {}, "data": {}}
    for name in ("lr", "batch_size", *code.params):
        if name in used:
            continue
        owner, place = _place(name, code)
        head = place.partition(".")[0]
        known = {head: asked.arguments.get(owner, {}).get(head, {})} if "." in place else {}
        set_so_far = arguments.setdefault(owner, {})
        arguments[owner] = {**set_so_far, **with_argument({**known, **set_so_far}, place, values[name])}
    return _Placed(args, bool(used & values.keys()), arguments)


def _and_the_rest(code: UserCode, owner: str, arguments: Mapping[str, Any]) -> str:
    """Return which arguments keep the rest of the class's own default, as trials have it: the study file has none."""
    given = code.asked.arguments.get(owner, {})
    names = [name for name, value in arguments.items() if isinstance(value, Mapping) and name not in given]
    return f"keep the rest of {in_words(names)} as it is by default" if names else ""


def _place(name: str, code: UserCode) -> tuple[str, str]:
    """Return whose argument a value is, "model" or "data" or of a LightningCLI another block, and its path there."""
    seen = code.places.get(name)
    if seen is not None:
        owner, _, place = seen.removeprefix("--").partition(".")
        return (owner, place) if place else ("model", owner)
    asked = {"lr": code.asked.lr, "batch_size": code.asked.batch_size}
    path = asked[name] or _usual(name, code.asked) if name in asked else name
    return split_path(path, default=OWNERS.get(name, "model"))


def _usual(name: str, asked: AskedCode) -> str:
    """Return the usual name that the study file gives an argument of, else the first."""
    given = asked.arguments.get(OWNERS[name], {})
    return next((usual for usual in USUAL_NAMES[name] if usual in given), USUAL_NAMES[name][0])


def _told(code: UserCode, plan: Plan) -> dict[str, Any]:
    """Return what an entry's other placeholders stand for; those that can't be told are left out."""
    samples, epoch = code.budget_samples, code.num_train_samples
    samples_per_update = plan.global_batch_size / code.units_per_sample
    steps, epochs = code.asked.steps, None
    if samples is not None and epoch:
        epochs = math.ceil(samples / epoch - 1e-9)
        whole, part = divmod(samples / epoch, 1.0)
        updates = math.ceil(epoch / samples_per_update - 1e-9)
        steps = int(whole) * updates + math.ceil(part * updates - 1e-9)
    elif samples is not None:
        steps = math.ceil(samples / samples_per_update - 1e-9)
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


def _trainer(plan: Plan) -> dict[str, Any]:
    """Return the Trainer's arguments that realise a batch size."""
    return {
        "accumulate_grad_batches": plan.accumulate_grad_batches,
        "devices": plan.num_devices,
        "num_nodes": plan.num_nodes,
    }


def _command(code: UserCode, args: Sequence[str]) -> str:
    """Return the entry's command line, or in words what it is called with."""
    entry = str(code.asked.entry)
    return f"python {shlex.join([entry, *args])}" if entry.endswith(".py") else f"{entry} with {shlex.join(args)}"


def _options(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested values as a command line's options: dotted name, text."""
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _options(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)))
    return found


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
