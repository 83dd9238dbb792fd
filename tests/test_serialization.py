"""Typed values survive the trip through plain data and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

import numpy as np
import pytest

from bsopt.serialization import from_plain, to_json, to_plain


class Colour(str, Enum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Inner:
    value: float
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True, slots=True)
class Outer:
    colour: Colour
    pair: tuple[int, Inner]
    many: tuple[Inner | None, ...] = ()
    by_name: Mapping[str, Inner] = field(default_factory=dict)
    by_number: Mapping[float, float] = field(default_factory=dict)
    maybe: Inner | None = None
    rows: tuple[tuple[float, ...], ...] = ()


VALUES = [
    Outer(Colour.RED, (1, Inner(2.0))),
    Outer(
        Colour.RED,
        (1, Inner(math.inf, "b")),
        many=(Inner(0.5), None),
        by_name={"x": Inner(-1.0)},
        by_number={0.5: 2.0},
        maybe=Inner(3.0),
        rows=((1.0, 2.0), ()),
    ),
]


@pytest.mark.parametrize("value", VALUES)
def test_nested_values_come_back_equal_from_json(value: Outer) -> None:
    assert from_plain(Outer, json.loads(json.dumps(to_plain(value)))) == value


def test_whole_numbers_of_json_come_back_as_floats() -> None:
    assert isinstance(from_plain(Inner, {"value": 2}).value, float)


def test_keys_of_a_newer_version_are_ignored_and_missing_ones_named() -> None:
    assert from_plain(Inner, {"value": 1.0, "added": True}) == Inner(1.0)
    with pytest.raises(TypeError, match="value"):
        from_plain(Inner, {"kind": "a"})


def test_strict_json_has_none_for_what_is_not_finite() -> None:
    assert to_json({"x": [math.nan, 1.0, np.float64(2.0)], "y": math.inf}) == {"x": [None, 1.0, 2.0], "y": None}
