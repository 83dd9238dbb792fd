"""Numbers with units read as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsopt.errors import ConfigError, nearest
from bsopt.units import Amount, Unit, digits_telling, parse_amount, parse_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 epoch", Amount(1.0, "epochs")),
        ("0.5 epochs", Amount(0.5, "epochs")),
        ("20_000 samples", Amount(20000.0, "samples")),
        ("2e4 samples", Amount(20000.0, "samples")),
        ("200 updates", Amount(200.0, "steps")),
        ("30 min", Amount(1800.0, "seconds")),
        ("90s", Amount(90.0, "seconds")),
        (" 2 H ", Amount(7200.0, "seconds")),
    ],
)
def test_amounts_read_number_and_unit(text: str, expected: Amount) -> None:
    assert parse_amount(text) == expected


@given(
    st.floats(1e-3, 1e6).map(lambda x: float(f"{x:.4g}")),
    st.sampled_from(["epochs", "samples", "steps"]),
)
def test_written_amount_reads_back_the_same(value: float, unit: Unit) -> None:
    amount = Amount(value, unit)
    assert parse_amount(str(amount)) == amount


@pytest.mark.parametrize("seconds", [1.5, 60.0, 90.0, 1800.0, 3600.0, 86400.0])
def test_written_time_reads_back_the_same(seconds: float) -> None:
    assert parse_amount(str(Amount(seconds, "seconds"))) == Amount(seconds, "seconds")


def test_bare_number_takes_the_default_unit_and_needs_one() -> None:
    assert parse_amount(3, default="epochs") == Amount(3.0, "epochs")
    assert parse_amount("3", default="epochs") == Amount(3.0, "epochs")
    with pytest.raises(ConfigError, match=r"3 needs a unit, e\.g\. '3 epochs'"):
        parse_amount(3)


@pytest.mark.parametrize("text", ["", "soon", "-1 epoch", "1 2 epochs", "epochs", True, None, "1e400x"])
def test_what_is_no_amount_is_refused(text: object) -> None:
    with pytest.raises(ConfigError):
        parse_amount(text)


def test_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be positive"):
        parse_amount("0 epochs")


def test_unknown_unit_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown unit 'epochen'.*Did you mean 'epoch"):
        parse_amount("3 epochen")


def test_unit_that_makes_no_sense_here_is_refused() -> None:
    with pytest.raises(ConfigError, match="is in seconds; here it must be in epochs or samples"):
        parse_amount("3 min", allowed=("epochs", "samples"))


@pytest.mark.parametrize(
    ("text", "expected"), [("2 GiB", 2 * 2**30), ("500 MB", 500 * 10**6), ("1.5kb", 1500), (4096, 4096), ("7 B", 7)]
)
def test_memory_reads_decimal_and_binary_units(text: object, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["2 GX", "lots", "-1 GB", True, 1.5])
def test_what_is_no_memory_is_refused(text: object) -> None:
    with pytest.raises(ConfigError, match="no amount of memory"):
        parse_bytes(text)


def test_two_dots_are_no_memory() -> None:
    with pytest.raises(ConfigError, match="no amount of memory"):
        parse_bytes("1.2.3 GB")


@pytest.mark.parametrize(
    ("low", "high", "digits"),
    [(0.678, 0.6979, 4), (10229.93, 10230.31, 7), (10000.0, 20000.0, 5), (-3.0, -2.9999, 6), (2.0, 2.0, 4)],
)
def test_ends_of_an_interval_are_told_apart(low: float, high: float, digits: int) -> None:
    assert digits_telling(low, high) == digits


def test_a_name_that_starts_with_the_wrong_one_is_meant() -> None:
    logged = ["train_loss", "val_loss/dataloader_idx_0", "val_acc"]
    assert nearest("val_loss", logged) == " Did you mean 'val_loss/dataloader_idx_0'?"
    assert nearest("val_lss", ["val_loss", "val_acc"]) == " Did you mean 'val_loss'?"
    assert nearest("v", ["val_loss"]) == ""
