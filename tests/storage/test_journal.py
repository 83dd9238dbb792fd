"""A journal that a kill or a full disk has cut goes on; one that holds something else is told with its line."""

from __future__ import annotations

import os
from pathlib import Path

import optuna
import pytest

from bsopt.errors import StorageFailedError
from bsopt.storage.databases import open_storage


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal with a study of one trial."""
    path = tmp_path / "journal.log"
    study = optuna.create_study(study_name="s", storage=open_storage(f"journal://{path}"))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    return path


def _load(path: Path) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=open_storage(f"journal://{path}"))


def test_a_line_that_was_cut_off_is_dropped_before_the_next(journal: Path) -> None:
    with journal.open("ab") as file:
        file.write(b'{"op_code":4,"worker_')
    study = _load(journal)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    assert len(_load(journal).trials) == 3
    assert b'"worker_{' not in journal.read_bytes()


def test_lines_that_do_not_fit_on_the_disk_leave_the_file_as_it_was(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, before = _load(journal), journal.read_bytes()

    def fail(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("BSOPT_STORAGE_WAIT", "0")
    full = _load(journal)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StorageFailedError, match="No space left on device"):
            full.set_user_attr("key", "value")
    assert journal.read_bytes() == before
    study.set_user_attr("key", "value")
    assert full.user_attrs == {"key": "value"}


def test_garbage_is_told_with_its_line(journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + b"\xff\x00garbage\n" + b"".join(lines[1:]))
    with pytest.raises(StorageFailedError, match=r"is damaged: line 2 of .*head -n 1"):
        open_storage(f"journal://{journal}")


def test_a_journal_that_is_cut_while_it_is_used_is_told(journal: Path) -> None:
    study = _load(journal)
    study.set_user_attr("key", "value")
    os.truncate(journal, 10)
    with pytest.raises(StorageFailedError, match="was cut"):
        study.set_user_attr("key", "other")


def test_the_lock_of_a_killed_process_is_recognised_from_any_folder(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(journal.parent.parent)
    study = optuna.load_study(study_name="s", storage=open_storage(f"journal://{journal.parent.name}/journal.log"))
    lock = journal.with_name("journal.log.lock")
    seen: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (seen.append(os.readlink(lock)), real(number)))
    study.set_user_attr("key", "value")
    assert seen == [str(journal)]
