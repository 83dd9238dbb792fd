"""What a project's own script gets when it constructs a Trainer, a logger or a checkpoint: its arguments, and ours.

A script constructs its Trainer itself, so what bsopt has to set is set at construction: while the script runs,
the constructors of both Lightning packages merge our arguments into the script's. What is written goes to the
trial's folder, and `seed_everything` takes the study's seed.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bsopt.trial.spec import TrialSpec

__all__ = ["in_every_package", "overridden", "replaced"]

_SEEDING = ("", ".cli", ".utilities.seed")
_LOGGERS = ("TensorBoardLogger", "CSVLogger", "WandbLogger")
_NEED_A_LOGGER = {"LearningRateMonitor", "DeviceStatsMonitor"}
_NOT_SHOWN = {"ProgressBar", "ModelSummary"}
_UNSET = {"max_time": None, "min_epochs": None, "min_steps": None, "fast_dev_run": False, "barebones": False}
_SCRIPT_DECIDES = ("log_every_n_steps",)
"""Arguments of which bsopt's own default gives way to the script's."""


@contextlib.contextmanager
def overridden(spec: TrialSpec, arguments: Mapping[str, Any], *, for_training: bool) -> Iterator[None]:
    """Merge ours into what a script gives to Trainer, loggers, ModelCheckpoint and seed_everything.

    Args:
        spec: The trial.
        arguments: The Trainer's arguments as a trial without a script would get them, built.
        for_training: Whether the plan decides on devices; else the script does where the study file is silent.
    """
    folder = Path(spec.folder)

    def trainer(given: dict[str, Any]) -> None:
        given.update(_merged(given, arguments, spec, for_training=for_training))

    def checkpoint(given: dict[str, Any]) -> None:
        name = Path(given["dirpath"]).name if given.get("dirpath") else "checkpoints"
        given["dirpath"] = str(folder / name)

    def logger(given: dict[str, Any]) -> None:
        given["save_dir"] = str(folder / "logs")

    def seeding(given: dict[str, Any]) -> None:
        given["seed"] = spec.seeds.weights

    with contextlib.ExitStack() as stack:
        for package in in_every_package():
            stack.enter_context(_edited(package.Trainer, "__init__", trainer))
            callbacks, loggers = (importlib.import_module(f"{package.__name__}.{n}") for n in ("callbacks", "loggers"))
            stack.enter_context(_edited(callbacks.ModelCheckpoint, "__init__", checkpoint))
            for name in _LOGGERS:
                stack.enter_context(_edited(getattr(loggers, name), "__init__", logger))
        for module in _seeding_modules():
            stack.enter_context(_edited(module, "seed_everything", seeding))
        yield


def in_every_package() -> list[Any]:
    """Return the Lightning packages that are installed."""
    names = [name for name in ("pytorch_lightning", "lightning") if find_spec(name) is not None]
    return [importlib.import_module("lightning.pytorch" if name == "lightning" else name) for name in names]


@contextlib.contextmanager
def replaced(owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Replace a function by what `wrap` makes of it; its signature stays, which LightningCLI reads."""
    original = getattr(owner, name)
    setattr(owner, name, functools.wraps(original)(wrap(original)))
    try:
        yield
    finally:
        setattr(owner, name, original)


def _edited(owner: Any, name: str, edit: Callable[[dict[str, Any]], None]) -> contextlib.AbstractContextManager[None]:
    """Replace a function by itself with its arguments edited, by name, before each call."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(original)

        def with_edits(*args: Any, **kwargs: Any) -> Any:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError:
                return original(*args, **kwargs)  # which raises it with the caller's own names
            edit(bound.arguments)
            return original(*bound.args, **bound.kwargs)

        return with_edits

    return replaced(owner, name, wrap)


def _merged(
    given: Mapping[str, Any], ours: Mapping[str, Any], spec: TrialSpec, *, for_training: bool
) -> dict[str, Any]:
    """Return the Trainer's arguments: the study file's and the plan's first, then the script's."""
    merged = {**given, **ours, **_UNSET}
    for name in _SCRIPT_DECIDES:
        if name in given and name not in spec.trainer:
            merged[name] = given[name]
    callbacks = given.get("callbacks") or []
    callbacks = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    callbacks = [c for c in [*callbacks, *ours["callbacks"]] if not _bases(c) & _NOT_SHOWN]
    for callback in callbacks:
        if "SaveConfigCallback" in _bases(callback):
            callback.overwrite = True  # a trial that is tried again writes into the same folder
    merged["callbacks"] = callbacks
    merged["enable_checkpointing"] = bool(spec.trainer.get("enable_checkpointing")) or any(
        "Checkpoint" in _bases(c) for c in callbacks
    )
    if "logger" not in spec.trainer:
        needed = any(_bases(c) & _NEED_A_LOGGER for c in callbacks)
        merged["logger"] = given.get("logger") or needed
    if "strategy" not in spec.trainer:
        merged["strategy"] = _strategy(given.get("strategy", "auto"), spec.plan.world_size)
    if not for_training and "devices" not in spec.trainer:
        merged["devices"] = given["devices"] if given.get("devices", "auto") not in ("auto", -1, "-1") else 1
        if merged["devices"] != 1:
            merged["strategy"] = given.get("strategy", "auto")
    return merged


def _strategy(given: Any, world_size: int) -> Any:
    """Return the script's strategy where it goes with ranks that are there already, else a plain one."""
    name = given if isinstance(given, str) else type(given).__name__
    is_data_parallel = name.lower().startswith("ddp")
    if world_size == 1:
        return "auto" if is_data_parallel else given
    starts_ranks = any(way in name for way in ("spawn", "fork", "notebook"))
    return "ddp" if name == "auto" or starts_ranks else given


def _bases(value: Any) -> set[str]:
    return {parent.__name__ for parent in type(value).__mro__}


def _seeding_modules() -> list[Any]:
    """Return the modules that a script may take `seed_everything` from."""
    names = [f"{package.__name__}{part}" for package in in_every_package() for part in _SEEDING]
    names += [name for name in ("lightning", "lightning.fabric", "lightning_fabric") if find_spec(name) is not None]
    modules = [importlib.import_module(name) for name in names if find_spec(name) is not None]
    return [module for module in modules if hasattr(module, "seed_everything")]
