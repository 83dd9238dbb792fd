"""What is patched in the process while a project's own script runs in it, and put back when it has ended.

A script constructs its Trainer itself, so what bsopt has to set is set at construction: while the script runs,
the constructors of both Lightning packages merge our arguments into the script's. What is written goes to the
trial's folder, and `seed_everything` takes the study's seed. `sys.argv`, the import path and the error stream are
those of a script that a shell has started.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bsopt.callbacks._base import installed_packages
from bsopt.training.lightning_internals import base_names
from bsopt.trial.spec import TrialSpec

__all__ = ["Tee", "as_if_started", "edited", "overridden", "replaced"]

_SEEDING = ("", ".cli", ".utilities.seed")
_NEED_A_LOGGER = {"LearningRateMonitor", "DeviceStatsMonitor"}
_NOT_SHOWN = {"ProgressBar", "ModelSummary"}
_UNSET = {"max_time": None, "min_epochs": None, "min_steps": None, "fast_dev_run": False, "barebones": False}
_SCRIPT_DECIDES = ("log_every_n_steps",)
"""Arguments of which bsopt's own default gives way to the script's."""


@contextlib.contextmanager
def overridden(spec: TrialSpec, arguments: Mapping[str, Any], *, for_training: bool) -> Iterator[dict[str, Any]]:
    """Merge ours into what a script gives to Trainer, ModelCheckpoint and seed_everything.

    Args:
        spec: The trial.
        arguments: The Trainer's arguments as a trial without a script would get them, built.
        for_training: Whether it trains, on the plan's devices; else it only looks, on one.

    Yields:
        The arguments that the script gives to its Trainer, once it has.
    """
    folder = Path(spec.folder)
    asked: dict[str, Any] = {}

    def trainer(given: dict[str, Any]) -> None:
        asked.clear()
        asked.update(given)
        given.update(_merged(given, arguments, spec, for_training=for_training))

    def checkpoint(given: dict[str, Any]) -> None:
        name = Path(given["dirpath"]).name if given.get("dirpath") else "checkpoints"
        given["dirpath"] = str(folder / name)

    def seeding(given: dict[str, Any]) -> None:
        given["seed"] = spec.seeds.weights

    with contextlib.ExitStack() as stack:
        for package in installed_packages():
            stack.enter_context(edited(package.Trainer, "__init__", trainer))
            callbacks = importlib.import_module(f"{package.__name__}.callbacks")
            stack.enter_context(edited(callbacks.ModelCheckpoint, "__init__", checkpoint))
        for module in _seeding_modules():
            stack.enter_context(edited(module, "seed_everything", seeding))
        yield asked


@contextlib.contextmanager
def as_if_started(argv: list[str], folders: tuple[str, ...]) -> Iterator[None]:
    """Set sys.argv and sys.path as a shell's `python script` would, and undo it with the modules it imported.

    Args:
        argv: The script's path, or what stands for it, and its arguments.
        folders: Where the study looks up imports; modules of the first are the script's, too.
    """
    argv_before, path_before, modules_before = sys.argv, list(sys.path), set(sys.modules)
    own = [str(Path(argv[0]).parent)] if Path(argv[0]).is_file() else []
    sys.argv = list(argv)
    sys.path[:0] = own
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv_before, path_before
        places = tuple(os.path.join(os.path.realpath(place), "") for place in [*own, *folders[:1]])
        for name in set(sys.modules) - modules_before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and os.path.realpath(file).startswith(places) and "site-packages" not in file:
                del sys.modules[name]


@contextlib.contextmanager
def replaced(owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Replace a function by what `wrap` makes of it; its signature stays, which LightningCLI reads."""
    original = getattr(owner, name)
    setattr(owner, name, functools.wraps(original)(wrap(original)))
    try:
        yield
    finally:
        setattr(owner, name, original)


def edited(owner: Any, name: str, edit: Callable[[dict[str, Any]], None]) -> contextlib.AbstractContextManager[None]:
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


class Tee(io.TextIOBase):
    """A stream that writes to the log, and until something is over also to what is told when a script exits.

    Args:
        log: The stream that stood there before.
        words: What is told.
        until: Whether it is over.
    """

    def __init__(self, log: Any, words: io.StringIO, *, until: Callable[[], bool]) -> None:
        self._log = log
        self._words = words
        self._is_over = until

    def write(self, text: str) -> int:
        """Write a text and return how many characters the log took."""
        if not self._is_over():
            self._words.write(text)
        return int(self._log.write(text))

    def flush(self) -> None:
        """Flush the log."""
        self._log.flush()

    def fileno(self) -> int:
        """Return the log's file descriptor."""
        return int(self._log.fileno())


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
    callbacks = [c for c in [*callbacks, *ours["callbacks"]] if not base_names(c) & _NOT_SHOWN]
    for callback in callbacks:
        if "SaveConfigCallback" in base_names(callback):
            callback.overwrite = True  # a trial that is tried again writes into the same folder
    merged["callbacks"] = callbacks
    merged["enable_checkpointing"] = bool(spec.trainer.get("enable_checkpointing")) or any(
        "Checkpoint" in base_names(c) for c in callbacks
    )
    if "logger" not in spec.trainer:
        needed = any(base_names(c) & _NEED_A_LOGGER for c in callbacks)
        merged["logger"] = given.get("logger") or needed
    if for_training and "strategy" not in spec.trainer:
        merged["strategy"] = _strategy(given.get("strategy", "auto"), spec.plan.world_size)
    return merged


def _strategy(given: Any, world_size: int) -> Any:
    """Return the script's strategy where it goes with ranks that are there already, else a plain one."""
    name = given if isinstance(given, str) else type(given).__name__
    is_data_parallel = name.lower().startswith("ddp")
    if world_size == 1:
        return "auto" if is_data_parallel else given
    starts_ranks = any(way in name for way in ("spawn", "fork", "notebook"))
    return "ddp" if name == "auto" or starts_ranks else given


def _seeding_modules() -> list[Any]:
    """Return the modules that a script may take `seed_everything` from."""
    names = [f"{package.__name__}{part}" for package in installed_packages() for part in _SEEDING]
    names += [name for name in ("lightning", "lightning.fabric", "lightning_fabric") if find_spec(name) is not None]
    modules = [importlib.import_module(name) for name in names if find_spec(name) is not None]
    return [module for module in modules if hasattr(module, "seed_everything")]
