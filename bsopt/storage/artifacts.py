"""A study's files in Optuna's artifact store: weights, logs and analyses, listed by optuna-dashboard.

A trial's files are uploaded while it is still open, since a finished trial can't be written; the study's own at
any time. The store is a folder, by default `artifacts` beside the study's output, shared by the studies there.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.trial import FrozenTrial

from bsopt.errors import StorageError
from bsopt.storage.optuna_internals import artifact_ids

__all__ = ["Artifacts"]


class Artifacts:
    """The artifact store of a study.

    Args:
        study: The study.
        folder: Where the store keeps its files; made where missing.
    """

    def __init__(self, study: optuna.Study, folder: Path) -> None:
        self._study = study
        self._folder = folder.absolute()

    def keep(
        self, path: Path, trial: optuna.Trial | None = None, *, name: str | None = None, is_one_copy: bool = False
    ) -> None:
        """Upload a file as a trial's artifact, or as the study's.

        Args:
            path: The file; it stays.
            trial: A trial that hasn't been told yet; None for the study.
            name: Its name in the store where that isn't the file's; a study's file of that name is replaced.
            is_one_copy: Whether the file becomes a second name of the stored one, where the disk is the same.

        Raises:
            StorageError: The store's folder can't be written.
        """
        owner = self._study if trial is None else trial
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            store = FileSystemArtifactStore(str(self._folder))
            known = artifact_ids(self._study, trial).get(name or path.name)
            if known is not None:
                with path.open("rb") as content:
                    store.write(known, content)
                return
            if name is None or name == path.name:
                stored = upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=owner)
                if is_one_copy:
                    _make_second_name(path, self._folder / stored)
                return
            renamed = path.with_name(name)
            renamed.hardlink_to(path)
            try:
                upload_artifact(artifact_store=store, file_path=str(renamed), study_or_trial=owner)
            finally:
                renamed.unlink()
        except OSError as error:
            raise StorageError(
                f"can't write {path.name} to the artifact folder {self._folder} ({error.strerror or error}): make it "
                "writable or name another one under artifacts: in the study file."
            ) from error

    def find(self, name: str, trial: FrozenTrial | None = None) -> Path | None:
        """Return the stored file of that name, of a trial or of the study; None where there is none here."""
        known = artifact_ids(self._study, trial).get(name)
        path = self._folder / known if known is not None else None
        return path if path is not None and path.is_file() else None


def _make_second_name(path: Path, stored: Path) -> None:
    """Replace a file by another name of its stored copy; on two disks both stay."""
    linked = path.with_name(f"{path.name}.stored")
    with contextlib.suppress(OSError):
        linked.hardlink_to(stored)
        linked.replace(path)
