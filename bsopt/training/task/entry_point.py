"""A project's own entry point, run unchanged up to `Trainer.fit`, where bsopt takes over.

The script (or function) runs as if started from a shell, with the study's arguments. Its Trainer gets bsopt's
settings at construction (`patches.py`); a LightningCLI gets the learning rate and the batch size as
command-line overrides (`lightning_cli.py`). In place of `Trainer.fit` bsopt trains, or only looks at the task, and
then leaves the script by an exception that `except Exception` doesn't catch. So nothing after `fit` in the script
runs.

A value reaches the script in the first of these ways that applies:
    1. a placeholder in `entry.args`: `args: [--lr, "{lr}", --batch-size, "{batch_size}", --seed, "{seed}"]`;
       a further parameter by its path: `"{model.weight_decay}"`; and for a script that plans its own schedule
       `{max_epochs}`, `{max_steps}` (optimizer updates of a full trial), `{accumulate_grad_batches}`,
       `{num_devices}`, `{num_nodes}`
    2. LightningCLI: `--model.lr=…`, `--data.batch_size=…`, or the paths under `inject:`
    3. an attribute of the module or data module that `fit` receives: `lr`, `learning_rate`, `batch_size`, also in
       its `hparams`, or the path under `inject:`
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import re
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from bsopt.callbacks._base import installed_packages
from bsopt.errors import BsoptError, TaskError
from bsopt.training.checkpoints import going_on_from
from bsopt.training.error_text import describe_error
from bsopt.training.task import injection
from bsopt.training.task.build import (
    ReadyTask,
    Task,
    common_package,
    import_object,
    is_data_module,
    look_up_first,
)
from bsopt.training.task.lightning_cli import with_overrides
from bsopt.training.task.loggers import trial_loggers
from bsopt.training.task.patches import Tee, as_if_started, overridden, replaced
from bsopt.training.task.proposals import options_like, paths_in, paths_like
from bsopt.training.trainer_arguments import made_up_steps
from bsopt.trial.spec import TaskSpec, TrialSpec
from bsopt.units import in_words

__all__ = ["is_entry", "run_entry"]

_REFUSED = {
    "LearningRateFinder": "the learning rate is the study's to choose",
    "BatchSizeFinder": "the batch size is the study's to choose",
    "GradientAccumulationScheduler": "the plan decides how to accumulate",
}
_DEFAULT_PATHS = {key: (*names, *(f"hparams.{name}" for name in names)) for key, names in injection.USUAL_NAMES.items()}


def is_entry(task: TaskSpec) -> bool:
    """Whether a task is a project's own entry point."""
    return bool(task.source.get("entry"))


def run_entry(
    spec: TrialSpec, arguments: Mapping[str, Any], at_fit: Callable[[ReadyTask], None], *, for_training: bool = True
) -> None:
    """Run the entry point up to its first `Trainer.fit` and call `at_fit` in its place.

    Args:
        spec: The trial.
        arguments: The Trainer's arguments, as for a trial without a script, with their objects built.
        at_fit: What to do with the script's task and Trainer.
        for_training: Whether it trains, on the plan's devices; else it only looks, on one.

    Raises:
        TaskError: The script can't be found, fails, or ends without `Trainer.fit`, or takes no learning rate or
            batch size.
    """
    entry = spec.task.source["entry"]
    look_up_first(spec.task.folders)
    values = _values(spec)
    located = [_located(arg, spec.task.folders) for arg in entry.get("args") or []]
    args, filled = injection.filled_in(located, {**values, **_told(spec, is_final=for_training)})
    left = {name: value for name, value in values.items() if name not in filled}
    takeover = _TakeOver(spec, left, at_fit)
    label, run = _runner(entry, spec.task.folders)
    paths = {"lr": spec.task.lr_path, "batch_size": spec.task.batch_size_path}
    told = io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(as_if_started([label, *args], spec.task.folders))
        takeover.asked = stack.enter_context(overridden(spec, arguments, for_training=for_training))
        stack.enter_context(trial_loggers(spec))
        stack.enter_context(with_overrides(left, paths, takeover.is_set))
        stack.enter_context(replaced(argparse.ArgumentParser, "add_argument", _noting(takeover.options)))
        for package in installed_packages():
            stack.enter_context(replaced(package.Trainer, "fit", takeover.replacement))
        stack.enter_context(contextlib.redirect_stderr(Tee(sys.stderr, told, until=lambda: takeover.has_begun)))
        try:
            run()
        except _Unwind:
            pass
        except (BsoptError, MemoryError):
            raise
        except SystemExit as error:
            if not takeover.has_begun:
                raise TaskError(_left_early(Path(label).name, error, told.getvalue())) from error
        except Exception as error:
            if not takeover.has_begun:
                raise TaskError(
                    f"{Path(label).name} failed before Trainer.fit: {describe_error(error, whole_text=True)}"
                ) from error
    if takeover.error is not None:
        raise takeover.error
    if not takeover.has_begun:
        raise TaskError(
            f"{Path(label).name} ran to its end without calling Trainer.fit, where bsopt takes over. Does it need an "
            "argument (entry.args, e.g. [fit, --config, config.yaml]), or is fit behind a condition?"
        )


class _Unwind(BaseException):
    """Ends a script at its fit. Not an `Exception`, so that the script's `except Exception` doesn't catch it."""


class _TakeOver:
    """Stands in for `Trainer.fit` while a script runs."""

    def __init__(self, spec: TrialSpec, left: dict[str, Any], at_fit: Callable[[ReadyTask], None]) -> None:
        self.has_begun = False
        self.error: BaseException | None = None
        self.asked: Mapping[str, Any] = {}
        self.options: list[str] = []
        self.places: dict[str, str] = {}
        self._spec = spec
        self._left = dict(left)
        self._at_fit = at_fit
        self._sampler_seed = os.environ.get("PL_GLOBAL_SEED")

    def is_set(self, name: str, place: str) -> None:
        """Note that a value has reached the script, and by what."""
        self._left.pop(name, None)
        self.places[name] = place

    def replacement(self, original: Callable[..., Any]) -> Callable[..., NoReturn]:
        """Return what is called in place of `Trainer.fit`."""

        def fit(
            trainer: Any,
            model: Any = None,
            train_dataloaders: Any = None,
            val_dataloaders: Any = None,
            datamodule: Any = None,
            ckpt_path: Any = None,
            **more: Any,
        ) -> NoReturn:
            if self.has_begun:
                raise _Unwind  # the script caught the first one
            self.has_begun = True
            try:
                _refuse(trainer, ckpt_path)
                if self._sampler_seed is not None:  # the script's seed_everything has overwritten it
                    os.environ["PL_GLOBAL_SEED"] = self._sampler_seed
                module = getattr(model, "_orig_mod", model)  # the module inside torch.compile's wrapper
                data = datamodule if datamodule is not None else train_dataloaders
                self._set_attributes(module, data)
                task = Task(module, data, common_package(module, data), self.places)

                state = going_on_from(self._spec.resume_file, original)

                def train() -> None:
                    original(trainer, model, train_dataloaders, val_dataloaders, datamodule, **{**more, **state})

                self._at_fit(ReadyTask(task, trainer, train, self._devices()))
            except BaseException as error:  # noqa: BLE001  (raised again by run_entry; the script must not catch it)
                self.error = error
            raise _Unwind

        return fit

    def _devices(self) -> Any:
        """Return the devices that the study file asks for, or else the script; one where it leaves them open."""
        asked = self._spec.trainer.get("devices", self.asked.get("devices", 1))
        is_open = "devices" not in self._spec.trainer and asked in ("auto", -1, "-1")
        return 1 if is_open else asked

    def _set_attributes(self, module: Any, data: Any) -> None:
        task = self._spec.task
        given = {"lr": task.lr_path, "batch_size": task.batch_size_path}
        missing: dict[str, Any] = {}
        for name, value in self._left.items():
            path = given.get(name) or (name if name not in _DEFAULT_PATHS else None)
            owner, place = injection.split_path(path or "", default=injection.OWNERS.get(name, "model"))
            target = {"model": module, "data": data}[owner]
            if path is None and target is None:
                target = module  # a module without a data module has its own loaders
            usual = (p for p in _DEFAULT_PATHS.get(name, ()) if injection.has_attribute(target, p))
            found = place if path else next(usual, None)
            if found and not _is_loader(target):
                injection.set_attribute(target, found, value)
                self.places[name] = f"{owner if target is data else 'model'}.{found.removeprefix('hparams.')}"
            elif task.verify or name not in _DEFAULT_PATHS:
                missing[name] = target
        if missing:
            raise TaskError(_no_place(missing, self.options))


def _no_place(missing: Mapping[str, Any], options: Sequence[str]) -> str:
    """Return one message for all values that don't reach the script, with the lines to paste.

    Args:
        missing: The value's name -> the module, data module or loader that has no place for it.
        options: Options of the script's command line.
    """
    args, why, places = [], [], []
    for name, target in missing.items():
        option = (options_like(name, options) or ["--" + name.split(".")[-1].replace("_", "-")])[0]
        args.append(f'{option}, "{{{name}}}"')
        thing = type(target).__name__
        if _is_loader(target):
            why.append(f"it gives a {thing} to Trainer.fit, whose batch size can't be changed any more")
            continue
        why.append(f"its {thing} has no attribute {' or '.join(_DEFAULT_PATHS.get(name, (name,))[:2])}")
        if name in _DEFAULT_PATHS and (like := paths_like(name, paths_in(target))):
            places.append(f"{name}: {like[0]}")
    words = in_words(f"the {injection.WORDS[name]}" if name in injection.WORDS else name for name in missing)
    where = f", or name the attribute: inject: {{{', '.join(places)}}}" if places else ""
    return (
        f"the script doesn't take {words} from the study: {in_words(why)}. "
        f"Pass it as an argument, entry: {{args: [{', '.join(args)}]}}{where}."
    )


def _refuse(trainer: Any, ckpt_path: Any) -> None:
    for callback in trainer.callbacks:
        for parent in type(callback).__mro__:
            if parent.__name__ in _REFUSED:
                raise TaskError(
                    f"the script's Trainer has a {parent.__name__}, but {_REFUSED[parent.__name__]}: remove it."
                )
    if ckpt_path is not None and ckpt_path not in ("last", "best", "hpc"):
        raise TaskError(
            f"the script resumes from {ckpt_path}, which brings its own learning rate and epoch count: "
            "load the weights in the script instead of passing ckpt_path to fit."
        )


def _values(spec: TrialSpec) -> dict[str, Any]:
    """Return the values that an entry point can be given: name of its placeholder -> value."""
    size = injection.asked_batch_size(spec.plan, spec.task.batch_size_is)
    return {"lr": spec.lr, "batch_size": size, **spec.init_args}


def _told(spec: TrialSpec, *, is_final: bool) -> dict[str, Any]:
    """Return what an entry point may be told: name of its placeholder -> value, None where it can't be told.

    Before the data's length is known, and nothing is trained, the trial's length is made up.
    """
    made_up = {} if is_final else {"max_epochs": 1, "max_steps": made_up_steps(spec)}
    return {
        "seed": spec.seeds.weights,
        "accumulate_grad_batches": spec.plan.accumulate_grad_batches,
        "num_devices": spec.plan.num_devices,
        "num_nodes": spec.plan.num_nodes,
        "max_epochs": spec.num_epochs or made_up.get("max_epochs"),
        "max_steps": spec.num_steps or made_up.get("max_steps"),
    }


def _noting(options: list[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what notes the options that a script's own parser is given."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def add_argument(parser: Any, *names: Any, **settings: Any) -> Any:
            options.extend(name for name in names if isinstance(name, str))
            return original(parser, *names, **settings)

        return add_argument

    return wrap


def _located(arg: str, folders: tuple[str, ...]) -> str:
    """Return an argument; if it names a file in one of the folders, with that file's whole path."""
    option, equals, path = arg.rpartition("=") if arg.startswith("-") else ("", "", arg)
    for folder in folders:
        file = Path(folder) / path
        if path and file.is_file():
            return f"{option}{equals}{file.resolve()}"
    return arg


def _runner(entry: Mapping[str, Any], folders: tuple[str, ...]) -> tuple[str, Callable[[], object]]:
    """Return the entry point's name, for sys.argv[0], and a function that runs it."""
    if entry.get("function"):
        path = str(entry["function"])
        return path, lambda: import_object(path)()
    for folder in folders or (os.getcwd(),):
        if (Path(folder) / entry["script"]).is_file():
            script = str((Path(folder) / entry["script"]).resolve())
            return script, functools.partial(runpy.run_path, script, run_name="__main__")
    raise TaskError(f"there is no script {entry['script']} (task.entry.script). Looked in: {', '.join(folders)}.")


def _left_early(script: str, error: SystemExit, words: str) -> str:
    lines = words.strip().splitlines() or [""]
    told_at = [i for i, line in enumerate(lines) if re.match(r"(\S+: )?error: ", line)]  # argparse's, jsonargparse's
    said = error.code if isinstance(error.code, str) else "\n".join(lines[told_at[-1] if told_at else -1 :])
    code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    return f"{script} exited with code {code} before Trainer.fit" + (f": {said}" if said else ".")


def _is_loader(value: Any) -> bool:
    return hasattr(value, "__iter__") and not is_data_module(value)
