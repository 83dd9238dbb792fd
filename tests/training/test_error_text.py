"""An error of user code as one text that can be stored and printed, whatever it says."""

from __future__ import annotations

import errno

import pytest

from bsopt.training.error_text import describe_error, is_of_machine, machine_failed


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_error_that_can_not_say_anything_is_told_by_its_name() -> None:
    assert describe_error(MuteError()) == "MuteError"


def test_an_error_that_quotes_a_whole_array_is_shortened() -> None:
    assert len(describe_error(RuntimeError("z" * 10**7))) < 5000


def test_a_file_whose_name_is_no_text_is_told_in_what_every_file_takes() -> None:
    told = describe_error(FileNotFoundError("no caf\udce9.csv"))
    assert told.encode() == b"FileNotFoundError: no caf\\udce9.csv"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.EROFS, "Read-only file system", "metrics.csv"), "Read-only file system: metrics.csv."),
        (
            OSError("Caught OSError in worker 0.\nTraceback\nOSError: [Errno 28] No space left on device: 'x'"),
            "OSError: [Errno 28] No space left on device: 'x'.",
        ),
        (
            RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
            "PytorchStreamWriter failed writing file data/0: file write failed.",
        ),
    ],
)
def test_a_disk_that_failed_is_told_with_its_file(error: Exception, told: str) -> None:
    assert is_of_machine(error)
    assert machine_failed(error).startswith(f"{told} What was measured is kept")


def test_a_file_that_is_missing_is_the_projects_mistake() -> None:
    assert not is_of_machine(FileNotFoundError(errno.ENOENT, "No such file or directory", "data.csv"))
    assert not is_of_machine(MuteError())
