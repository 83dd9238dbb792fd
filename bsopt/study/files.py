"""A study's files: each trial's log and weights, and which of them are kept where."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import optuna

from bsopt.config import StudyConfig
from bsopt.errors import ConfigError
from bsopt.storage.artifacts import Artifacts
from bsopt.storage.queue import NUM_FINALISTS, root_of
from bsopt.study.make_spec import folder_of, resume_file_of
from bsopt.training.processes.logs import trim_log
from bsopt.trial.record import TrialRecord
from bsopt.trial.spec import checkpoint_name, delete_state

__all__ = ["StudyFiles", "check_writable"]


class StudyFiles:
    """The files of a study on this host.

    Every trial has a folder in the study's output. Weights that all trials keep go to the artifact store, as the
    trial's, as soon as it ends; those of a changing choice of trials stay in the folders while the study runs, and
    go to the store when a run ends, as the study's.

    Args:
        study: The Optuna study.
        config: The study file, whose `checkpoints` say what is kept.

    Attributes:
        artifacts: Optuna's artifact store.
    """

    def __init__(self, study: optuna.Study, config: StudyConfig) -> None:
        self._study = study
        self._config = config
        self.artifacts = Artifacts(study, config.artifact_folder)

    def folder_of(self, number: int) -> Path:
        """Return where a trial's log and weights are."""
        return folder_of(self._config, number)

    def resume_file(self, number: int) -> Path:
        """Return where the state of a trial (for a retry, of the first try) is kept while it runs."""
        return resume_file_of(self._config, number)

    def weights_of(self, number: int, kind: str = "best") -> Path | None:
        """Return the file of a trial's "initial", "best", "last" or "matched" weights; None where they weren't kept."""
        name = checkpoint_name(kind)
        local = self.folder_of(number) / name
        if local.is_file():
            return local
        trial = self._study.get_trials(deepcopy=False)[number]
        return self.artifacts.find(name, trial) or self.artifacts.find(_name_in_study(number, name))

    def has_state(self, number: int) -> bool:
        """Return whether the state of a trial, given by its first try's number, is on this host to go on from."""
        return self.resume_file(number).exists()

    def drop_state(self, number: int) -> None:
        """Delete the state of a trial, given by its first try's number.

        Raises:
            OSError: It can't be deleted.
        """
        delete_state(self.resume_file(number))

    def drop_states(self) -> None:
        """Delete the states of all trials of a finished study, which nobody goes on from any more.

        Raises:
            OSError: One can't be deleted.
        """
        name = self.resume_file(0).name
        for path in self.folder_of(0).parent.glob(f"*/{name}*"):  # also one that was being written at a kill
            delete_state(path)

    def take_over(self, trial: optuna.Trial) -> None:
        """Give a trial that goes on from an earlier one's state what that one has kept of its weights.

        The initial ones, and the best and the matched ones where they came before the interruption, aren't met again.
        Nothing happens where there is no state to go on from.

        Raises:
            OSError: The trial's folder can't be written.
        """
        root = root_of(trial)
        if root == trial.number or not self._config.resume or not self.has_state(root):
            return
        folder, trials = self.folder_of(trial.number), self._study.get_trials(deepcopy=False)
        earlier = [t.number for t in reversed(trials[: trial.number]) if root_of(t) == root]
        for kind in self._kinds:
            found = next((path for number in earlier if (path := self.weights_of(number, kind)) is not None), None)
            if found is not None:
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(found, folder / checkpoint_name(kind))

    def keep(self, trial: optuna.Trial) -> None:
        """Upload a trial's log, and its weights where every trial's are kept, before it is told.

        Raises:
            StorageError: The artifact folder can't be written.
        """
        folder = self.folder_of(trial.number)
        log = folder / "log.txt"
        if log.is_file() and log.stat().st_size:
            trim_log(log)
            self.artifacts.keep(log, trial, is_one_copy=True)
        if self._config.checkpoints.trials == "all":
            for path in self._weights_in(folder):
                self.artifacts.keep(path, trial)
                path.unlink()

    def drop(self, records: Sequence[TrialRecord]) -> None:
        """Delete the weights of trials that the `checkpoints` policy doesn't keep (any more).

        Args:
            records: Of all trials of the study.
        """
        if not self._is_choice:
            return
        sign = self._config.objective.value.sign
        ended = [r for r in records if r.value is not None and r.stop_reason is not None]
        ranked = sorted(ended, key=lambda r: sign * (r.value or 0.0))
        if self._config.checkpoints.trials == "finalists":
            kept = {r.number for r in ranked[:NUM_FINALISTS]}
        else:
            kept = set({r.batch_size: r.number for r in reversed(ranked)}.values())  # of each batch size the best
        for record in ended:
            if record.number not in kept:
                for path in self._weights_in(self.folder_of(record.number)):
                    path.unlink()

    def upload_kept(self, records: Sequence[TrialRecord]) -> None:
        """Upload the weights that `drop` has left, as the study's, named after their trials.

        Raises:
            StorageError: The artifact folder can't be written.
        """
        if not self._is_choice:
            return
        for record in records:
            for path in self._weights_in(self.folder_of(record.number)):
                self.artifacts.keep(path, name=_name_in_study(record.number, path.name))

    @property
    def _is_choice(self) -> bool:
        """Whether some trials' weights are kept, and which ones changes while the study runs."""
        return self._config.checkpoints.trials not in ("none", "all")

    @property
    def _kinds(self) -> tuple[str, ...]:
        """Which weights a trial may have kept."""
        return () if self._config.checkpoints.trials == "none" else (*self._config.checkpoints.keep, "matched")

    def _weights_in(self, folder: Path) -> list[Path]:
        return [path for kind in self._kinds if (path := folder / checkpoint_name(kind)).is_file()]


def check_writable(folder: Path) -> None:
    """Make the output folder, and check that it can be written before anything is trained.

    Raises:
        ConfigError: It can't.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"can't write to the output folder {folder} ({error.strerror}): make it writable or choose another output."
        ) from error


def _name_in_study(number: int, name: str) -> str:
    """Return the name of a trial's file among the study's artifacts."""
    return f"trial-{number:04d}-{name}"
