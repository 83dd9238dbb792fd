"""From what is typed to the study that is meant."""

from __future__ import annotations

import logging
import shlex
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bsopt.errors import StorageError, StudyError, nearest

if TYPE_CHECKING:
    import optuna

    from bsopt.config import LoadedConfig
    from bsopt.trial.record import StudyInfo

__all__ = [
    "DEFAULT_STORAGE",
    "NamedStudy",
    "Opened",
    "as_typed",
    "existing_storage",
    "load_study_file",
    "quiet_hosts",
    "start_processes",
]

DEFAULT_STORAGE = "sqlite:///bsopt.db"


@dataclass(frozen=True, slots=True)
class NamedStudy:
    """A study as it was named on the command line.

    Attributes:
        study: Its name or its study file; None where `study_name` or the storage tells.
        storage: The storage's URL; the study file's or the default where it is None.
        study_name: Its name, if it isn't the study file's.
    """

    study: str | None = None
    storage: str | None = None
    study_name: str | None = None

    @property
    def is_file(self) -> bool:
        """Whether a study file was given and not a study's name."""
        return self.study is not None and Path(self.study).suffix in (".yaml", ".yml")

    def resolved(self) -> NamedStudy:
        """Return the same by name and storage, read from the study file if one was given.

        Raises:
            click.UsageError: It has two names.
            ConfigError: The study file is wrong.
        """
        if self.study is not None and self.is_file:
            config = load_study_file(self.study, storage=self.storage, study_name=self.study_name).config
            return NamedStudy(config.name, config.storage)
        if self.study is not None and self.study_name is not None and self.study != self.study_name:
            raise click.UsageError(f"two names: {self.study!r} and --study-name {self.study_name!r}; give one.")
        return NamedStudy(self.study or self.study_name, self.storage or DEFAULT_STORAGE)

    def open(self) -> Opened:
        """Return the study, ours or anyone's.

        Raises:
            StudyError: There is no such study, or several and none is named.
            StorageError: The storage can't be opened.
            ConfigError: The study file is wrong.
        """
        quiet_hosts()
        import optuna

        from bsopt.storage.attributes import read_info
        from bsopt.storage.databases import open_storage, redacted

        resolved = self.resolved()
        url = resolved.storage or DEFAULT_STORAGE
        backend = open_storage(existing_storage(url))
        names = sorted(optuna.get_all_study_names(backend))
        name = resolved.study or _the_only(names)
        if name not in names:
            known = nearest(name, names) or (f" There are: {', '.join(names)}." if names else " It holds no study yet.")
            raise StudyError(f"there is no study {name!r} in {redacted(url)}.{known}")
        found = optuna.load_study(study_name=name, storage=backend)
        return Opened(found, read_info(found), url)


@dataclass(frozen=True, slots=True)
class Opened:
    """A study that exists, ours or anyone's.

    Attributes:
        optuna: The Optuna study.
        info: What it searches.
        storage: The storage's URL.
    """

    optuna: optuna.Study
    info: StudyInfo
    storage: str

    @property
    def folder(self) -> Path:
        """Where its report and figures go."""
        return self.info.folder


def load_study_file(
    file: str,
    overrides: Sequence[str] = (),
    *,
    storage: str | None = None,
    study_name: str | None = None,
    workers: int | None = None,
) -> LoadedConfig:
    """Read a study file, with what was typed in place of what it says.

    Raises:
        ConfigError: It can't be read or says something wrong.
    """
    from bsopt.config import load_config
    from bsopt.config.schema import check_name

    typed = (*overrides, f"workers={workers}") if workers is not None else overrides
    loaded = load_config(file, typed)
    config = loaded.config
    names = {"storage": storage or config.storage, "name": check_name(study_name or config.name)}
    return replace(loaded, config=config.model_copy(update=names))


def as_typed(name: str, storage: str) -> str:
    """Return how a study is named in the next command; without the password, if its storage has one."""
    from bsopt.storage.databases import redacted

    named = shlex.quote(name)
    return named if storage == DEFAULT_STORAGE else f"{named} --storage {shlex.quote(redacted(storage))}"


def existing_storage(url: str) -> str:
    """Return the URL; opening a database file that isn't there would make an empty one.

    Raises:
        StorageError: It names a file that doesn't exist.
    """
    from bsopt.storage.addresses import file_of, redacted, study_url

    path = file_of(study_url(url))
    if path is not None and not path.exists():
        raise StorageError(
            f"there is no storage {redacted(url)} here. `bsopt study run FILE` makes one; --storage names another."
        )
    return url


def quiet_hosts() -> None:
    """Let only errors of Optuna through, by way of Python's logging, so that they don't tear a live display."""
    import optuna

    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    optuna.logging.set_verbosity(logging.ERROR)  # a failed trial is ours to tell
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def start_processes(loaded: LoadedConfig) -> None:
    """Have the process from which trials start import torch and Lightning now, beside what this one imports."""
    if loaded.config.isolation == "process":
        from bsopt.training.processes.imports import installed_imports
        from bsopt.training.processes.launcher import Launcher

        task = loaded.config.task.model_dump(mode="json", exclude_none=True)
        Launcher(preload=installed_imports(task, [loaded.folder, Path.cwd()])).warm_up()


def _the_only(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    if not names:
        raise StudyError("there are no studies in this storage yet: `bsopt study run FILE` makes one.")
    raise StudyError(f"which study? There are: {', '.join(names)}.")
