"""A user's module and data, built for one learning rate and batch size."""

from __future__ import annotations

import copy
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from bsopt.errors import BsoptError, TaskError, nearest
from bsopt.training.error_text import describe_error
from bsopt.training.task import injection
from bsopt.training.task.proposals import is_settings, paths_in, paths_like
from bsopt.trial.plan import Plan
from bsopt.trial.spec import TaskSpec

__all__ = [
    "PACKAGES",
    "ReadyTask",
    "Task",
    "build_task",
    "common_package",
    "import_object",
    "instantiate",
    "is_data_module",
    "lightning_package",
    "look_up_first",
]

PACKAGES = ("lightning.pytorch", "pytorch_lightning")


@dataclass(frozen=True, slots=True)
class Task:
    """What is trained.

    Attributes:
        module: The LightningModule.
        data: The LightningDataModule, or a loader, or None when the module brings its own.
        package: The Lightning package both come from; its Trainer is used.
        places: "lr", "batch_size" or a further parameter -> the init argument that it came in by (`model.lr`), or the
            option of a LightningCLI (`--model.lr`); without those that a script's arguments hold.
    """

    module: Any
    data: Any
    package: str
    places: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReadyTask:
    """A task with the Trainer that is about to train it.

    Attributes:
        task: Module and data.
        trainer: The Trainer, with bsopt's settings.
        fit: Trains the task.
        devices: The Trainer's argument of that name as the study file, or else the project, has it.
    """

    task: Task
    trainer: Any
    fit: Callable[[], None]
    devices: Any = 1


def build_task(spec: TaskSpec, *, lr: float, plan: Plan, init_args: Mapping[str, Any] | None = None) -> Task:
    """Build the user's module and data with a learning rate and a batch size.

    Args:
        spec: Where they come from.
        lr: Learning rate.
        plan: Decides the batch size that the data module gets.
        init_args: Further arguments by path (`model.weight_decay`).

    Raises:
        TaskError: Something can't be imported, built, or doesn't take the arguments.
    """
    look_up_first(spec.folders)
    size = injection.asked_batch_size(plan, spec.batch_size_is)
    if spec.source.get("factory"):
        module, data, places = _from_factory(spec, lr, size, dict(init_args or {}))
    else:
        module, data, places = _from_classes(spec, lr, size, dict(init_args or {}))
    return Task(module, data, common_package(module, data), places)


def import_object(path: str) -> Any:
    """Import `package.module.Name` or `package.module:name`.

    Raises:
        TaskError: There is no such module or name; the message says which part and what is there.
    """
    module_name, _, name = path.replace(":", ".").rpartition(".")
    if not module_name:
        raise TaskError(f"{path!r} names no module: write module.Name, e.g. model.Net.")
    _forget_other(module_name.split(".")[0])
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise TaskError(
                f"importing {module_name} failed: it needs {error.name!r}, which isn't installed."
            ) from error
        raise TaskError(
            f"there is no module {module_name!r} (for {path}). "
            f"Looked in: {', '.join(_places())}, and what is installed."
        ) from error
    except BsoptError:
        raise
    except Exception as error:
        raise TaskError(f"importing {module_name} failed: {describe_error(error, whole_text=True)}") from error
    if not hasattr(module, name):
        names = [n for n in vars(module) if not n.startswith("_")]
        raise TaskError(f"the module {module_name} ({module.__file__}) has no {name!r}.{nearest(name, names)}")
    return getattr(module, name)


def look_up_first(folders: tuple[str, ...]) -> None:
    """Put folders at the front of the import path, the first one foremost."""
    for folder in reversed(folders):
        if folder in sys.path:
            sys.path.remove(folder)
        sys.path.insert(0, folder)


def lightning_package(value: Any) -> str | None:
    """Return the Lightning package that an object's class derives from; None for neither."""
    for parent in type(value).__mro__:
        for package in PACKAGES:
            if parent.__module__ == package or parent.__module__.startswith(package + "."):
                return package
    return None


def common_package(module: Any, data: Any) -> str:
    """Return the Lightning package that a module and its data come from.

    Raises:
        TaskError: The module is no LightningModule, or they come from different packages.
    """
    package = lightning_package(module)
    if package is None:
        raise TaskError(
            f"{type(module).__module__}.{type(module).__qualname__} is no LightningModule "
            "of pytorch_lightning or lightning.pytorch."
        )
    other = lightning_package(data)
    if other is not None and other != package:
        raise TaskError(
            f"the module comes from {package} and the data from {other}, which don't mix: use one package for both."
        )
    return package


def is_data_module(data: Any) -> bool:
    """Return whether data are a LightningDataModule of either package, and not a loader."""
    return hasattr(data, "prepare_data_per_node") and hasattr(data, "setup")


def instantiate(value: Any) -> Any:
    """Build nested `class_path`/`init_args` mappings; anything else is returned as it is.

    Raises:
        TaskError: A class can't be imported or built.
    """
    if isinstance(value, Mapping):
        if "class_path" in value and set(value) <= {"class_path", "init_args"}:
            return _construct(str(value["class_path"]), value.get("init_args") or {})
        return {key: instantiate(item) for key, item in value.items()}
    if isinstance(value, list):
        return [instantiate(item) for item in value]
    return value


def _from_classes(spec: TaskSpec, lr: float, size: int, init_args: dict[str, Any]) -> tuple[Any, Any, dict[str, str]]:
    blocks = {name: dict(spec.source[name]) for name in ("model", "data")}
    arguments: dict[str, dict[str, Any]] = {name: dict(block.get("init_args") or {}) for name, block in blocks.items()}
    classes = {name: import_object(block["class_path"]) for name, block in blocks.items()}
    lr_path, size_path = _places_of(spec, classes, arguments)
    wanted = {"lr": (lr_path, lr), "batch_size": (size_path, size)}
    wanted |= {path: (path, value) for path, value in init_args.items()}
    places = {}
    for name, (whole_path, value) in wanted.items():
        owner, path = injection.split_path(whole_path, default=injection.OWNERS.get(name, "model"))
        arguments[owner] = _with_default(classes[owner], arguments[owner], path)
        arguments[owner] = _with_value(arguments[owner], path, value)
        places[name] = f"{owner}.{path}"
    module, data = (_construct(blocks[name]["class_path"], arguments[name]) for name in ("model", "data"))
    return module, data, places


def _with_default(target: Any, arguments: dict[str, Any], path: str) -> dict[str, Any]:
    """Return arguments with a copy of a class's default for the one that a dotted path leads into, unless given."""
    head, _, rest = path.partition(".")
    default = injection.defaults_of(target).get(head)
    if not rest or head in arguments or default is None:
        return arguments
    return {**arguments, head: copy.deepcopy(default)}


def _with_value(arguments: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return arguments with the one at a dotted path set, in a mapping or in an object that holds settings."""
    head, _, rest = path.partition(".")
    inner = arguments.get(head)
    if not rest or not is_settings(inner) or isinstance(inner, dict):
        return injection.with_argument(arguments, path, value)
    injection.set_attribute(inner, rest, value)
    return arguments


def _places_of(
    spec: TaskSpec, classes: Mapping[str, Any], arguments: Mapping[str, Mapping[str, Any]]
) -> tuple[str, str]:
    """Return the paths of learning rate and batch size among the init arguments of the two classes."""
    paths = {"lr": spec.lr_path, "batch_size": spec.batch_size_path}
    why, proposed = {}, {}
    for name, owner in injection.OWNERS.items():
        usual = injection.USUAL_NAMES[name]
        paths[name] = paths[name] or injection.usual_argument(classes[owner], usual)
        if paths[name] is None:
            label = f"{classes[owner].__module__}.{getattr(classes[owner], '__qualname__', classes[owner])}"
            named = sorted(injection.accepted(classes[owner])[0])
            why[name] = (
                f"{label} takes no argument {' or '.join(map(repr, usual))} for the {injection.WORDS[name]} "
                f"(it takes: {', '.join(named) or 'no arguments'})"
            )
            inside = paths_in({**injection.defaults_of(classes[owner]), **arguments[owner]})
            proposed[name] = paths_like(name, dict.fromkeys([*named, *inside]))
    if why:
        raise TaskError(injection.no_place(why, proposed))
    return str(paths["lr"]), str(paths["batch_size"])


def _from_factory(spec: TaskSpec, lr: float, size: int, init_args: dict[str, Any]) -> tuple[Any, Any, dict[str, str]]:
    path = str(spec.source["factory"])
    factory = import_object(path)
    named, takes_any = injection.accepted(factory)
    arguments: dict[str, Any] = {}
    places: dict[str, str] = {}
    later: list[tuple[str, str, Any]] = []
    left: dict[str, Any] = {}
    for key, given, value in (("lr", spec.lr_path, lr), ("batch_size", spec.batch_size_path, size)):
        name = given or injection.usual_argument(factory, injection.USUAL_NAMES[key])
        if name is None:
            left[key] = value  # an attribute of what it returns
        elif name in named or (takes_any and "." not in name):
            arguments[name] = value
            places[key] = f"{injection.OWNERS[key]}.{name}"
        else:
            later.append((*injection.split_path(name, default=injection.OWNERS[key]), value))
    for name, value in init_args.items():
        owner, rest = injection.split_path(name, default="model")
        if rest in named:
            arguments[rest] = value
        else:
            later.append((owner, rest, value))
    built = _call(factory, path, arguments)
    if not (isinstance(built, (tuple, list)) and len(built) == 2):
        raise TaskError(f"the factory {path} must return (module, data), got {type(built).__name__}.")
    owners = {"model": built[0], "data": built[1]}
    later += _attributes_of(path, sorted(named), owners, left)
    for owner, attribute, value in later:
        injection.set_attribute(owners[owner], attribute, value)
    return built[0], built[1], places


def _attributes_of(
    factory: str, named: list[str], owners: Mapping[str, Any], left: Mapping[str, Any]
) -> list[tuple[str, str, Any]]:
    """Return where in what a factory returned the values go that it takes no argument for: owner, path, value."""
    places, why, proposed = [], {}, {}
    for name, value in left.items():
        owner, usual = injection.OWNERS[name], injection.USUAL_NAMES[name]
        found = next((path for path in usual if injection.has_attribute(owners[owner], path)), None)
        if found is not None:
            places.append((str(owner), found, value))
            continue
        why[name] = (
            f"the factory {factory} takes no argument {' or '.join(map(repr, usual))} for the {injection.WORDS[name]} "
            f"(it takes: {', '.join(named) or 'no arguments'}), and its {type(owners[owner]).__name__} has no attribute"
        )
        inside = [f"{owner}.{path}" for path in paths_in(owners[owner])]
        proposed[name] = paths_like(name, [*named, *inside])
    if why:
        raise TaskError(injection.no_place(why, proposed))
    return places


def _construct(class_path: str, arguments: Mapping[str, Any]) -> Any:
    target = import_object(class_path)
    named, takes_any = injection.accepted(target)
    for name in arguments:
        if name not in named and not takes_any:
            raise TaskError(
                f"{class_path} takes no argument {name!r} (it takes: {', '.join(sorted(named)) or 'none'})."
                + nearest(name, named)
            )
    return _call(target, class_path, {name: instantiate(value) for name, value in arguments.items()})


def _call(target: Any, label: str, arguments: Mapping[str, Any]) -> Any:
    try:
        return target(**arguments)
    except BsoptError:
        raise
    except MemoryError:
        raise
    except Exception as error:
        shown = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise TaskError(f"building {label}({shown}) failed: {describe_error(error, whole_text=True)}") from error


def _forget_other(name: str) -> None:
    """Forget a loaded module that another study's folder provided, if ours provides one of that name."""
    loaded = sys.modules.get(name)
    found = PathFinder.find_spec(name, sys.path[:3])
    if loaded is None or found is None or found.origin is None or getattr(loaded, "__file__", None) is None:
        return
    if Path(str(loaded.__file__)).resolve() != Path(found.origin).resolve():
        for key in [key for key in sys.modules if key == name or key.startswith(name + ".")]:
            del sys.modules[key]


def _places() -> list[str]:
    return [path or os.getcwd() for path in sys.path[:2]]
