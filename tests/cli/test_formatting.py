"""Numbers, spans of time and curves as people read them."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bsopt.cli.terminal import tables
from bsopt.cli.terminal.formatting import flowing, sparkline
from bsopt.cli.terminal.tables import show_table
from bsopt.recommendation.views import SIZE_COLUMNS
from bsopt.serialization import to_json
from bsopt.trial.record import StopReason
from bsopt.units import format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (599.0, "9 min 59 s"),
        (600.0, "10 min"),
        (3599.6, "1 h 00 min"),
        (90_000.0, "25 h 00 min"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_durations_never_show_sixty_seconds(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.lists(st.floats(), min_size=1, max_size=50), st.integers(1, 30))
def test_sparkline_has_a_mark_for_each_value_shown(values: list[float], width: int) -> None:
    line = sparkline(values, width=width)
    assert len(line) == min(len(values), width)
    shown = values[-width:]
    assert [mark == "×" for mark in line] == [not math.isfinite(value) for value in shown]


def test_sparkline_of_a_loss_that_starts_high_still_shows_its_end() -> None:
    assert len(set(sparkline([1000.0, 3.0, 2.0, 1.0]))) > 2


def test_sparkline_is_empty_without_values_and_flat_for_a_constant() -> None:
    assert sparkline([]) == ""
    assert sparkline([2.0, 2.0]) == "▁▁"


@dataclass(frozen=True)
class _Value:
    loss: float
    reason: StopReason
    path: Path


def test_plain_values_are_valid_json_whatever_they_hold() -> None:
    value = {
        "value": _Value(math.nan, StopReason.DIVERGED, Path("a/b")),
        "array": np.array([1.0, np.inf]),
        "tuple": (1, None, True),
        3: {"x"},
    }
    text = json.dumps(to_json(value), allow_nan=False)
    assert json.loads(text) == {
        "value": {"loss": None, "reason": "diverged", "path": "a/b"},
        "array": [1.0, None],
        "tuple": [1, None, True],
        "3": ["x"],
    }


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_table_that_is_too_wide_loses_columns_but_no_letter(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        tables, "Console", lambda **_: Console(force_terminal=True, color_system=None, width=width, highlight=False)
    )
    rows = [["8", "as good, tested", "10", "0.0046 to 0.017", "below 1 %", "16"]]
    show_table(SIZE_COLUMNS, rows, left={1}, spare=(5, 2))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    for cell in ("batch", "beside", "as good, tested", "0.0046 to 0.017", "below 1 %"):
        assert set(cell.split()) <= set(words)  # a cell may take two lines
    assert ("16" in words) == (width > 60)


def test_a_sentence_is_broken_at_words_only_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = "batch size 8 with learning rate 0.02 " * 4
    assert flowing(sentence) == sentence
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    lines = flowing(sentence, indent="  ").splitlines()
    assert max(map(len, lines)) <= 60
    assert all(line.startswith("  ") for line in lines)
    assert " ".join(" ".join(lines).split()) == sentence.strip()
