"""Where the learning rate, the batch size and further parameters go in a LightningCLI: command-line overrides.

`LightningCLI` is met where it parses its arguments. It parses them once as the project wrote them, to see what
there is to set, and once more with overrides at the end (`--model.lr=0.01 --data.batch_size=32`), so that linked
arguments follow.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bsopt.callbacks._base import installed_packages
from bsopt.errors import TaskError
from bsopt.training.task.injection import OWNERS, USUAL_NAMES, WORDS, no_place
from bsopt.training.task.patches import replaced
from bsopt.training.task.proposals import paths_in, paths_like

__all__ = ["with_overrides"]

_USUAL = {
    "lr": (*(f"model.{name}" for name in USUAL_NAMES["lr"]), "optimizer.lr"),
    "batch_size": tuple(f"{owner}.{name}" for owner in ("data", "model") for name in USUAL_NAMES["batch_size"]),
}


@contextlib.contextmanager
def with_overrides(
    values: Mapping[str, Any], paths: Mapping[str, str | None], on_set: Callable[[str, str], None]
) -> Iterator[None]:
    """Append overrides to what a LightningCLI parses while this lasts.

    Args:
        values: What to set: `lr`, `batch_size`, and further parameters by path.
        paths: Where `lr` and `batch_size` go; None for the usual names.
        on_set: Receives the name of each value that was set, and the option that sets it.

    Raises:
        TaskError: (from within the script) There is no place for a value.
    """

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def parse_arguments(cli: Any, parser: Any, args: Any) -> None:
            if args is not None and not isinstance(args, (list, tuple)):
                raise TaskError("the script gives LightningCLI its arguments as a mapping: give it a list, or none.")
            present = _as_written(original, cli, parser, args)
            places = _places(values, paths, present)
            overrides = [f"--{places[name]}={json.dumps(value)}" for name, value in values.items()]
            for name in values:
                on_set(name, f"--{places[name]}")
            if args is not None:
                original(cli, parser, [*args, *overrides])
                return
            sys.argv += overrides
            original(cli, parser, None)

        return parse_arguments

    with contextlib.ExitStack() as stack:
        for package in installed_packages():
            module = importlib.import_module(f"{package.__name__}.cli")
            stack.enter_context(replaced(module.LightningCLI, "parse_arguments", wrap))
        yield


def _as_written(original: Callable[..., Any], cli: Any, parser: Any, args: Any) -> dict[str, Any] | None:
    """Return what can be set, as configured without overrides; None where it isn't complete without them.

    Targets of `link_arguments` are left out: only what they follow can be set.
    """
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            original(cli, parser, args)
    except SystemExit as error:
        if error.code in (0, None):
            raise  # --help or --print_config
        return None
    settable = json.loads(parser.dump(cli.config, format="json", skip_none=False, skip_validation=True))
    return dict(settable.get(cli.config.get("subcommand") or "") or settable)


def _places(
    values: Mapping[str, Any], paths: Mapping[str, str | None], present: Mapping[str, Any] | None
) -> dict[str, str]:
    """Return where each value goes, by its name."""
    places, why = {}, {}
    for name in values:
        path = paths.get(name) if name in _USUAL else name
        place = _usual_place(name, present) if path is None else _place(path, present, name)
        if place is None:
            options = " or ".join("--" + p for p in _USUAL[name])
            why[name] = f"the LightningCLI has no argument {options} for the {WORDS[name]}"
        else:
            places[name] = place
    if why:
        raise TaskError(no_place(why, {name: paths_like(name, paths_in(present)) for name in why}))
    return places


def _usual_place(name: str, present: Mapping[str, Any] | None) -> str | None:
    if present is None:
        return _USUAL[name][0]
    return next((path for path in _USUAL[name] if _has(present, path)), None)


def _place(path: str, present: Mapping[str, Any] | None, name: str) -> str:
    """Return a path from the root: as it is, or within the model (a batch size: the data)."""
    head, owner = path.split(".")[0], OWNERS.get(name, "model")
    if head in ("model", "data"):
        return path
    is_inside = present is None or _has(present, f"{owner}.{head}") or present.get(head) is None
    return f"{owner}.{path}" if is_inside else path


def _has(config: Mapping[str, Any], path: str) -> bool:
    place: Any = config
    for part in path.split("."):
        if isinstance(place, Mapping) and "class_path" in place and part != "init_args":
            place = place.get("init_args") or {}
        if not isinstance(place, Mapping) or part not in place:
            return False
        place = place[part]
    return True
