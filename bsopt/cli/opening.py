"""From what is typed to the study that is meant."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bsopt.cli.options import DEFAULT_STORAGE
from bsopt.errors import StorageError, StudyError, nearest

if TYPE_CHECKING:
    import optuna

    from bsopt.trial.record import StudyInfo

__all__ = ["Address", "Opened", "address_of", "existing_storage", "is_study_file", "open_study", "quiet_hosts"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a study is.

    Attributes:
        name: Its name; None where the storage must tell.
        storage: The storage's URL.
    """

    name: str | None
    storage: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A study that exists, ours or anyone's.

    Attributes:
        optuna: The Optuna study.
        info: What it searches.
        storage: The storage's URL.
        folder: Where its report and figures go.
    """

    optuna: optuna.Study
    info: StudyInfo
    storage: str
    folder: Path


def open_study(study: str | None, *, storage: str | None, study_name: str | None) -> Opened:
    """Return a study that exists, ours or anyone's.

    Args:
        study: Its name or its study file; None where `study_name` or the storage tells.
        storage: The storage's URL; the study file's or the default where it is None.
        study_name: Its name, if it isn't the study file's.

    Raises:
        StudyError: There is no such study, or several and none is named.
        StorageError: The storage can't be opened.
        ConfigError: The study file is wrong.
    """
    quiet_hosts()
    import optuna

    from bsopt.storage.attributes import read_info
    from bsopt.storage.databases import open_storage, redacted

    address = address_of(study, storage=storage, study_name=study_name)
    backend = open_storage(existing_storage(address.storage))
    names = sorted(optuna.get_all_study_names(backend))
    name = address.name or _the_only(names)
    if name not in names:
        known = nearest(name, names) or (f" There are: {', '.join(names)}." if names else " It holds no study yet.")
        raise StudyError(f"there is no study {name!r} in {redacted(address.storage)}.{known}")
    found = optuna.load_study(study_name=name, storage=backend)
    info = read_info(found)
    return Opened(found, info, address.storage, info.folder)


def address_of(study: str | None, *, storage: str | None, study_name: str | None) -> Address:
    """Return where the study is that a name or a study file means."""
    if study is not None and is_study_file(study):
        from bsopt.config import load_config

        config = load_config(study).config
        return Address(study_name or config.name, storage or config.storage)
    if study is not None and study_name is not None and study != study_name:
        raise click.UsageError(f"two names: {study!r} and --study-name {study_name!r}; give one.")
    return Address(study or study_name, storage or DEFAULT_STORAGE)


def is_study_file(text: str) -> bool:
    """Whether an argument means a study file and not a study's name."""
    return Path(text).suffix in (".yaml", ".yml")


def existing_storage(url: str) -> str:
    """Return the URL; opening a database file that isn't there would make an empty one.

    Raises:
        StorageError: It names a file that doesn't exist.
    """
    from bsopt.storage.databases import redacted, study_url

    address = study_url(url)
    for prefix in ("sqlite:///", "journal://"):
        if address.startswith(prefix):
            path = Path(address.removeprefix(prefix).split("?")[0])
            if str(path) != ":memory:" and not path.exists():
                raise StorageError(
                    f"there is no storage {redacted(url)} here. `bsopt study run FILE` makes one; "
                    "--storage names another."
                )
    return url


def quiet_hosts() -> None:
    """Let only errors of Optuna through, by way of Python's logging, so that they don't tear a live display."""
    import optuna

    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    optuna.logging.set_verbosity(logging.ERROR)  # a failed trial is ours to tell
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def _the_only(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    if not names:
        raise StudyError("there are no studies in this storage yet: `bsopt study run FILE` makes one.")
    raise StudyError(f"which study? There are: {', '.join(names)}.")
