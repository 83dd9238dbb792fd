"""`bsopt init`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from bsopt.cli.group import Command, writing

__all__ = ["init"]

_LEFT_BEHIND = {"__pycache__", "runs"}


@click.command(cls=Command, short_help="Copy a study that runs, to start from.")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False))
@click.option("--study", metavar="NAME", default="digits", show_default=True, help="digits, mnist, diabetes, …")
def init(folder: str, study: str) -> None:
    """Copy a study that runs into DIR, to start from.

    Nothing that is there is overwritten.
    """
    import shutil

    from bsopt.errors import ConfigError, nearest

    home = _studies()
    names = sorted(path.parent.name for path in home.glob("*/study.yaml"))
    if study not in names:
        raise ConfigError(f"there is no example study {study!r}; there are {', '.join(names)}.{nearest(study, names)}")
    files = _files(home / study)
    target = Path(folder)
    taken = [str(target / file) for file in files if (target / file).exists()]
    if taken:
        raise ConfigError(f"{', '.join(taken)} exist{'s' if len(taken) == 1 else ''} already; choose another folder.")
    for file in files:
        with writing(target / file):
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(home / study / file, target / file)
        click.echo(f"wrote {target / file}")
    where = shlex.quote(str(target / "study.yaml"))
    hint = _missing(home / study)
    if hint:
        click.echo(f"It needs {hint}: pip install 'bsopt[examples]'")
    click.echo(f"Next: bsopt study run {where}")


def _studies() -> Path:
    """Return the folder of the example studies: inside an installed package, or beside it in a checkout."""
    import bsopt

    package = Path(bsopt.__file__).parent
    installed = package / "_studies"
    return installed if installed.is_dir() else package.parent / "studies"


def _files(folder: Path) -> list[Path]:
    return sorted(
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and not _LEFT_BEHIND & set(path.relative_to(folder).parts) and path.suffix != ".db"
    )


def _missing(folder: Path) -> str | None:
    import importlib.util

    needs_sklearn = any("sklearn" in path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    return "scikit-learn" if needs_sklearn and importlib.util.find_spec("sklearn") is None else None
