"""What the blocks of a study file are made of: amounts, bytes, ranges, and blocks that one word stands for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

from bsopt.units import Amount, Unit, parse_amount, parse_bytes

MOST_ROWS = 10_000
"""Batch sizes of a lattice, and runs of an experiment: each is a row somewhere, and more are a mistake."""


class Block(BaseModel):
    """A block of the study file: an unknown key, an infinity or a NaN is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, allow_inf_nan=False)


def amount(*allowed: Unit, default: Unit | None = None) -> Any:
    """Return the type of a field that holds an amount in one of these units."""
    return Annotated[
        Amount,
        BeforeValidator(lambda value: parse_amount(value, default=default, allowed=allowed)),
        PlainSerializer(lambda value: str(value), return_type=str),
        WithJsonSchema({"type": ["string", "number"], "examples": [f"1 {unit}" for unit in allowed]}),
    ]


Bytes = Annotated[
    int, BeforeValidator(parse_bytes), WithJsonSchema({"type": ["string", "integer"], "examples": ["2 GiB", "500 MB"]})
]

Validations = Annotated[
    Amount | Literal["geometric"],
    BeforeValidator(
        lambda value: value if value == "geometric" else parse_amount(value, allowed=("epochs", "samples"))
    ),
    PlainSerializer(lambda value: str(value), return_type=str),
    WithJsonSchema({"type": "string", "examples": ["1 epoch", "5000 samples", "geometric"]}),
]


def check_range(low: float, high: float) -> None:
    """Raise a ValueError where a range is empty."""
    if low > high:
        raise ValueError(f"the range is empty: low {low} is above high {high}")


def in_a_word(value: Any, key: str) -> Any:
    """Return the block that one word stands for; null, false and none switch it off."""
    return {key: value or "none"} if value is None or isinstance(value, (str, bool)) else value
