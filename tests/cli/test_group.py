"""Help is instant, a mistake is one message and exit code 2."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from optuna.exceptions import StorageInternalError

from bsopt.cli.group import Command, LazyGroup
from bsopt.cli.main import main
from bsopt.cli.terminal.output import closing_hangs_up
from bsopt.errors import ConfigError, MachineError, StorageFailedError

STUDY_COMMANDS = ["run", "check", "schema", "list", "show", "train", "report", "plot", "export", "import", "delete"]


def bsopt(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "bsopt", *arguments], capture_output=True, text=True, cwd=folder)


def every_command(group: click.Command = main, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(group, LazyGroup):
        return [path]
    context = click.Context(group)
    found = [path]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found += every_command(command, (*path, name))
    return found


@pytest.mark.parametrize("arguments", every_command(), ids=" ".join)
def test_every_command_explains_itself(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*arguments, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert "..." not in re.sub(r"\]\.\.\.", "", result.output.split("Commands:")[-1]), "a short help is cut off"


@pytest.mark.parametrize("name", STUDY_COMMANDS)
def test_the_promised_commands_exist(name: str) -> None:
    assert ("study", name) in every_command()


@pytest.mark.parametrize("arguments", [["--help"], ["study", "--help"], ["study", "run", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from bsopt.cli.main import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        "heavy = {'torch', 'pytorch_lightning', 'lightning', 'plotly', 'optuna', 'numpy', 'pydantic', 'rich'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip().endswith("loaded: []")


@pytest.mark.skipif(sys.platform == "win32", reason="the processor time of a child is POSIX's to tell")
@pytest.mark.parametrize("arguments", [["--help"], ["study", "--help"]])
def test_help_takes_less_than_a_third_of_a_second(arguments: list[str]) -> None:
    """In processor time, so that a busy machine fails nobody."""
    import resource

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    def seconds() -> float:
        before = spent()
        assert bsopt(*arguments).returncode == 0
        return spent() - before

    assert min(seconds() for _ in range(5)) < 0.3


def test_version_is_told() -> None:
    import bsopt as package

    assert bsopt("--version").stdout == f"python -m bsopt {package.__version__}\n".replace("python -m ", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["studdy"], "Did you mean 'study'?"),
        (["study", "rum"], "Did you mean 'run'?"),
        (["study", "xyz"], "There are: run, check"),
        (["study", "run"], "Missing argument 'FILE'"),
        (["study", "run", "nowhere.yaml"], "can't read the study file nowhere.yaml"),
        (["study", "run", "nowhere.yaml", "--workers", "0"], "'--workers'"),
        (["study", "run", "nowhere.yaml", "--jsn"], "--json"),
        (["study", "run", "nowhere.yaml", "--ship"], "Did you mean '--upload-code'?"),
        (["study", "analyze", "--again"], "Did you mean '--recompute'?"),
        (["study", "analyze", "--only", "line"], "Did you mean '--kind'?"),
        (["study", "show", "--again"], "No such option"),
        (["study", "show"], "there is no storage sqlite:///bsopt.db here"),
        (["study", "show", "--storage", "nonsense"], "can't open the storage"),
        (["study", "list", "--storage", "postgresql://${NO_SUCH_VARIABLE}/x"], "NO_SUCH_VARIABLE, which isn't set"),
        (["study", "delete"], "name the study to delete"),
        (["study", "train", "a", "--study-name", "b"], "two names"),
        (["study", "train", "done", "--set", "seed=1"], "--set overrides a study file"),
    ],
)
def test_mistake_is_one_message_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir()), "a mistake left something behind"


@pytest.mark.slow
def test_traceback_is_shown_when_asked_for(tmp_path: Path) -> None:
    without = bsopt("study", "run", "nowhere.yaml", folder=tmp_path)
    assert (without.returncode, "Traceback" in without.stderr) == (2, False)
    shown = bsopt("study", "run", "nowhere.yaml", "--traceback", folder=tmp_path)
    assert shown.returncode != 0
    assert "ConfigError" in shown.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a process starts with its files there")
def test_streams_that_were_closed_are_replaced_before_a_file_takes_their_number(tmp_path: Path) -> None:
    script = """
import os, sys
from bsopt.cli.main import main
try:
    main(["study", "show"])
except SystemExit as end:
    assert end.code == 2
assert all(os.fstat(number).st_rdev == os.stat(os.devnull).st_rdev for number in range(3))
print("to nobody")
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, preexec_fn=lambda: os.closerange(0, 3), timeout=300
    )
    assert ended.returncode == 0


def test_ctrl_c_ends_with_130() -> None:
    @click.command(cls=Command)
    def interrupted() -> None:
        raise KeyboardInterrupt

    result = CliRunner().invoke(interrupted)
    assert result.exit_code == 130
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(signal.SIGTERM), 143, "Interrupted"),
        (KeyboardInterrupt(signal.SIGHUP), 129, "Interrupted"),
        (ConfigError("the user's"), 2, "the user's"),
        (StorageFailedError("the storage's"), 3, "the storage's"),
        (MachineError("the machine's"), 3, "the machine's"),
        (OSError(errno.ENOSPC, "No space left on device"), 3, "No space left on device"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x.csv"), 2, "No such file or directory: x.csv"),
        (StorageInternalError("during the commit"), 3, "the storage of this study failed"),
        (RuntimeError("a bug"), 3, "this wasn't foreseen: RuntimeError: a bug"),
        (ConfigError("\x1b[31mred\x1b[0m \x07bell"), 2, "Error: red bell"),
    ],
)
def test_whatever_ends_a_command_is_one_message_and_a_code(error: BaseException, code: int, words: str) -> None:
    @click.command(cls=Command)
    def broken() -> None:
        raise error

    result = CliRunner().invoke(broken)
    assert (result.exit_code, words in result.stderr) == (code, True), result.stderr
    assert "Traceback" not in result.output
    assert "\x1b" not in result.stderr


def test_an_interruption_that_nobody_can_read_keeps_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command(cls=Command)
    def interrupted() -> None:
        raise KeyboardInterrupt(signal.SIGTERM)

    monkeypatch.setattr("sys.stderr", _Gone(errno.EIO))
    with pytest.raises(SystemExit) as caught:
        interrupted.main([])
    assert caught.value.code == 128 + signal.SIGTERM


class _Gone(io.StringIO):
    """Output whose reader has gone."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, "gone")


@pytest.mark.parametrize(("number", "is_hung_up"), [(errno.EPIPE, True), (errno.EIO, True), (errno.ENOSPC, False)])
def test_output_that_is_gone_hangs_up_once(monkeypatch: pytest.MonkeyPatch, number: int, is_hung_up: bool) -> None:
    monkeypatch.setattr("sys.stdout", _Gone(number))
    signals: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, frame: signals.append(number))
    try:
        with closing_hangs_up():
            print("one")
            click.echo("two")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signals == ([signal.SIGHUP] if is_hung_up else [])
