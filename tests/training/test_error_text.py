"""An error of user code as one text that can be stored and printed, whatever it says."""

from __future__ import annotations

from bsopt.training.error_text import describe_error


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
