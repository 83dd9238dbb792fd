"""A trial's log is read from its end, and doesn't outgrow its size."""

from __future__ import annotations

import os
from pathlib import Path

from bsopt.training.processes.logs import last_log_lines, trim_log


def test_the_last_lines_of_a_log_are_told(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("".join(f"{i}\n" for i in range(100)))
    assert last_log_lines(tmp_path / "log.txt", 2) == "98\n99"
    assert last_log_lines(tmp_path / "none.txt") == ""


def test_a_long_log_is_read_from_its_end_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a terabyte, none of it written
        file.seek(0, os.SEEK_END)
        file.write(b"\nthe end\n")
    assert last_log_lines(path, 1) == "the end"
    one_line = tmp_path / "one-line.txt"
    one_line.write_text("x" * 10**6)
    assert len(last_log_lines(one_line)) <= 1 << 16


def test_a_log_that_grows_too_long_keeps_its_ends_and_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    with path.open("a", buffering=1) as rank:  # which goes on writing
        for number in range(10_000):
            rank.write(f"line {number}\n")
        assert trim_log(path, most=50_000, kept=10_000)
        rank.write("later\n")
    text = path.read_text()
    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("line 9998\nline 9999\nlater\n")
    assert "bytes left out ...]\n" in text
    assert 19_000 < len(text) < 21_000
    assert not trim_log(path, most=50_000)
    assert not trim_log(tmp_path / "none.txt")
