"""Click groups that load a command when it is used, and turn bsopt's errors into one message and an exit code."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from bsopt.errors import BsoptError, ConfigError, nearest_or_all

__all__ = ["Command", "LazyGroup", "UserError", "writing"]

_TRACEBACK = "bsopt.cli.traceback"
_RENAMED = {"--ship": "--upload-code", "--again": "--recompute", "--only": "--kind"}
"""Options that people may remember -> their names now."""


class UserError(click.ClickException):
    """The user's mistake: one message on standard error, exit code 2."""

    exit_code = 2


class Command(click.Command):
    """A command with `--traceback`, which ends with 2 on the user's mistake and with 130 on Ctrl-C."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--traceback"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_remember_traceback,
                help="Show where an error came from.",
            )
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; tell the new name of an option that was renamed.

        Raises:
            click.NoSuchOption: There is no such option.
        """
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            renamed = _RENAMED.get(error.option_name, "")
            if not any(renamed in parameter.opts for parameter in self.params):
                raise
            message = f"No such option {error.option_name!r}. Did you mean {renamed!r}?"
            raise click.NoSuchOption(error.option_name, message, ctx=error.ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BsoptError as error:
            if ctx.meta.get(_TRACEBACK):
                raise
            raise UserError(str(error)) from error
        except BrokenPipeError:
            raise  # whoever read our output has gone; click ends quietly
        except OSError as error:  # a full disk, a folder that isn't ours: the system's words are clear
            if ctx.meta.get(_TRACEBACK) or error.filename is None:
                raise
            raise UserError(f"{error.strerror}: {error.filename}") from error
        except (KeyboardInterrupt, click.Abort):
            click.echo("Interrupted.", err=True)
            ctx.exit(130)


class LazyGroup(click.Group):
    """A group whose commands are imported on first use.

    Args:
        homes: Command name -> `module:attribute`, in the order of the help text.
    """

    def __init__(self, *args: Any, homes: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.homes = homes

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.homes)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.homes:
            return None
        module, _, attribute = self.homes[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command that the first argument names.

        Raises:
            click.UsageError: There is none; the message suggests the nearest.
        """
        name = args[0]
        if name not in self.homes and not name.startswith("-"):
            raise click.UsageError(f"no command {name!r}.{nearest_or_all(name, self.homes)}", ctx)
        return super().resolve_command(ctx, args)


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Tell in one message that a file or folder can't be written.

    Raises:
        ConfigError: The system refused.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(f"can't write {path}: {error.strerror or error}.") from error


def _remember_traceback(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[_TRACEBACK] = True
