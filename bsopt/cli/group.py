"""Click groups that load a command when it is used, and turn bsopt's errors into one message and an exit code."""

from __future__ import annotations

import contextlib
import errno
import importlib
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import click

from bsopt.cli.terminal.output import closing_hangs_up
from bsopt.errors import BsoptError, ConfigError, nearest_or_all
from bsopt.units import printable

__all__ = ["Command", "LazyGroup", "UserError", "writing"]

_TRACEBACK = "bsopt.cli.traceback"
_USERS_ERRNOS = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}
_RENAMED = {"--ship": "--upload-code", "--again": "--recompute", "--only": "--kind"}
"""Options that people may remember -> their names now."""


class UserError(click.ClickException):
    """One message on standard error, and an exit code.

    Args:
        message: What is told; terminal escapes in it are left out.
        exit_code: 2 for the user's mistake, 3 where the storage or the machine failed.
    """

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(printable(message))
        self.exit_code = exit_code  # type: ignore[misc]


class Command(click.Command):
    """A command with `--traceback`, which ends with 2 on the user's mistake, with 3 where the storage or the machine
    failed, and with 128 and the signal's number (130 for Ctrl-C) where one ended it."""

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
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise  # whoever read our output has gone: click ends quietly
        except (KeyboardInterrupt, click.Abort) as error:
            _end_interrupted(ctx, error)
        except Exception as error:
            if ctx.meta.get(_TRACEBACK):
                raise
            raise _told(error, str(ctx.params.get("storage") or "of this study")) from error


class LazyGroup(click.Group):
    """A group whose commands are imported on first use.

    Args:
        homes: Command name -> `module:attribute`, in the order of the help text.
    """

    def __init__(self, *args: Any, homes: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.homes = homes

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:  # while a command was imported or its arguments were read
            _end_interrupted(ctx, error)

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


def _end_interrupted(ctx: click.Context, error: BaseException) -> NoReturn:
    with closing_hangs_up():  # the terminal may be what is gone
        click.echo("Interrupted.", err=True)
    ctx.exit(128 + next((number for number in error.args if isinstance(number, int)), signal.SIGINT))


def _told(error: Exception, storage: str) -> UserError:
    """Return an error as one message with an exit code."""
    if isinstance(error, OSError) and error.errno in _USERS_ERRNOS and error.filename is not None:
        return UserError(f"{error.strerror}: {error.filename}")  # the system's words are clear
    from bsopt.study.failures import as_failure

    known = as_failure(error, storage)
    if isinstance(known, BsoptError):
        return UserError(str(known), known.exit_code)
    text = f"{type(error).__name__}: {error}"
    return UserError(f"this wasn't foreseen: {text}. --traceback shows where it came from.", exit_code=3)


def _remember_traceback(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[_TRACEBACK] = True
