"""Coordinates, lattices and the way back to parameters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from bsopt.search.space import MOST_BATCH_SIZES, Space, batch_sizes_on


def space_of(**distributions: BaseDistribution) -> Space:
    return Space.of(distributions, batch_size="batch_size", lr="lr")


def test_powers_of_two_stay_inside_the_range() -> None:
    assert batch_sizes_on("pow2", IntDistribution(12, 300, log=True)).tolist() == [16, 32, 64, 128, 256]


def test_range_without_a_power_of_two_offers_every_size() -> None:
    assert batch_sizes_on("pow2", IntDistribution(5, 7)).tolist() == [5, 6, 7]


def test_multiples_are_on_the_lattice_and_the_distributions_step() -> None:
    sizes = batch_sizes_on({"multiple_of": 24}, IntDistribution(8, 200, step=8))
    assert sizes.tolist() == [24, 48, 72, 96, 120, 144, 168, 192]


@given(low=st.integers(1, 500), octaves=st.floats(0.0, 10.0), step=st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_every_lattice_stays_inside_any_range_and_is_never_empty(low: int, octaves: float, step: int) -> None:
    distribution = IntDistribution(low, int(low * 2**octaves), log=True)
    for lattice in ("pow2", "any", {"multiple_of": step}):
        sizes = batch_sizes_on(lattice, distribution)
        assert 1 <= len(sizes) <= MOST_BATCH_SIZES
        assert distribution.low <= sizes[0] <= sizes[-1] <= distribution.high
        assert (sizes == np.round(sizes)).all()


@pytest.mark.parametrize(
    ("distribution", "value"),
    [
        (IntDistribution(8, 512, log=True), 64),
        (IntDistribution(8, 512, step=8), 64),
        (FloatDistribution(8.0, 512.0, log=True), 64.0),
        (CategoricalDistribution([16, 48, 96]), 48),
    ],
)
def test_batch_size_of_any_distribution_survives_the_round_trip(distribution: BaseDistribution, value: float) -> None:
    space = space_of(batch_size=distribution, lr=FloatDistribution(1e-4, 1.0, log=True))
    back = space.decode(space.encode([{"batch_size": value, "lr": 0.01}])[0])
    assert back["batch_size"] == value
    assert type(back["batch_size"]) is type(value)
    assert back["lr"] == pytest.approx(0.01)


@given(at=st.floats(-3.0, 4.0))
@settings(deadline=None)
def test_snapped_rows_decode_into_the_distribution(at: float) -> None:
    distributions: dict[str, BaseDistribution] = {
        "batch_size": IntDistribution(10, 1000, log=True),
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
        "layers": IntDistribution(1, 9, step=2),
        "dropout": FloatDistribution(0.0, 0.5, step=0.1),
        "activation": CategoricalDistribution(["relu", "gelu", "tanh"]),
    }
    space = space_of(**distributions)
    row = np.array([c.low + at * (c.high - c.low) for c in space.columns])
    for name, value in space.decode(space.snap(row[None])[0]).items():
        assert distributions[name]._contains(distributions[name].to_internal_repr(value)), (name, value)


def test_learning_rate_counts_with_its_momentum() -> None:
    space = space_of(lr=FloatDistribution(1e-4, 1.0, log=True), momentum=FloatDistribution(0.0, 0.99))
    rows = space.encode([{"lr": 0.01, "momentum": 0.9}, {"lr": 0.1, "momentum": 0.0}])
    assert space.coordinates(rows).x == pytest.approx([np.log2(0.01)] * 2)


def test_weight_decay_counts_by_its_product_with_the_learning_rate_under_a_dotted_name() -> None:
    distributions: dict[str, BaseDistribution] = {
        "lr": FloatDistribution(1e-4, 1.0, log=True),
        "model.weight_decay": FloatDistribution(1e-6, 1e-2, log=True),
    }
    space = Space.of(distributions, batch_size="batch_size", lr="lr")
    rows = space.encode([{"lr": 0.01, "model.weight_decay": 1e-3}, {"lr": 0.1, "model.weight_decay": 1e-4}])
    numbers = space.coordinates(rows).numbers[:, 0]
    assert numbers[0] == pytest.approx(numbers[1])


def test_held_parameter_keeps_the_coordinates_of_the_others() -> None:
    space = space_of(lr=FloatDistribution(1e-4, 1.0, log=True), dropout=FloatDistribution(0.0, 0.5))
    held = space.restricted({"dropout": 0.2})
    row = held.snap(np.array([[-5.0, 0.45]]))
    assert held.decode(row[0])["dropout"] == pytest.approx(0.2)
    assert space.coordinates(row).numbers[0, 0] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("name", "distribution", "value", "size"),
    [
        ("log2_batch_size", IntDistribution(3, 9), 6, 64),
        ("log2_batch_size", CategoricalDistribution([3, 4, 6, 9]), 6, 64),
        ("log2_batch_size", FloatDistribution(3.0, 9.0), 6.0, 64),
        ("log2_batch_size", FloatDistribution(3.0, 9.0, step=0.5), 6.5, 2**6.5),
        ("log10_batch_size", FloatDistribution(1.0, 3.0, step=0.5), 1.5, 10**1.5),
        ("log2_batch_size", IntDistribution(8, 512, log=True), 64, 64),
        ("batch_size", CategoricalDistribution(["16", "64"]), "64", 64),
    ],
)
def test_a_batch_size_is_placed_by_what_its_name_and_values_stand_for(
    name: str, distribution: BaseDistribution, value: object, size: float
) -> None:
    space = Space.of({name: distribution}, batch_size=name, lr="lr")
    row = space.encode([{name: value}])
    assert space.coordinates(row).b[0] == pytest.approx(np.log2(size))
    assert space.decode(space.snap(row)[0]) == {name: value}


@pytest.mark.parametrize(
    ("name", "distribution", "value", "rate"),
    [
        ("log10_lr", FloatDistribution(-4.0, 0.0), -2.0, 0.01),
        ("log10_lr", FloatDistribution(-4.0, 0.0, step=0.5), -1.5, 10**-1.5),
        ("model.lr_log2", IntDistribution(-10, 0), -3, 0.125),
        ("log10_lr", CategoricalDistribution([-3, -2, -1]), -2, 0.01),
        ("lr", CategoricalDistribution([0.0, 0.01, 0.1]), 0.01, 0.01),
        ("lr", FloatDistribution(0.0, 0.5), 0.01, 0.01),
        ("lr", FloatDistribution(0.0, 0.5, step=0.1), 0.1, 0.1),
    ],
)
def test_a_learning_rate_is_placed_by_what_its_name_and_values_stand_for(
    name: str, distribution: BaseDistribution, value: float, rate: float
) -> None:
    space = Space.of({name: distribution}, batch_size="batch_size", lr=name)
    row = space.encode([{name: value}])
    assert space.coordinates(row).x[0] == pytest.approx(np.log2(rate))
    assert space.decode(space.snap(row)[0])[name] == pytest.approx(value)
    lowest = space.decode(space.snap(np.array([[-100.0]]))[0])[name]
    assert lowest != 0 or "log" in name, "a learning rate of 0 is never proposed"


def test_batch_sizes_from_zero_are_proposed_above_it() -> None:
    assert batch_sizes_on("pow2", IntDistribution(0, 64, step=16)).tolist() == [16, 32, 64]
    assert batch_sizes_on("any", IntDistribution(0, 3)).min() == 1


def test_continuous_exponents_keep_to_the_lattice() -> None:
    distributions: dict[str, BaseDistribution] = {"log2_bs": FloatDistribution(3.5, 6.5)}
    (column,) = Space.of(distributions, batch_size="log2_bs", lr="lr", lattice={"multiple_of": 24}).columns
    assert column.values is not None
    assert (2.0**column.values).tolist() == pytest.approx([24, 48, 72])


@pytest.mark.parametrize(("name", "distribution"), [
    ("lr", CategoricalDistribution(["low", "high"])),
    ("lr", FloatDistribution(-4.0, -1.0)),
    ("neg_log_lr", FloatDistribution(1.0, 4.0)),
])  # fmt: skip
def test_what_can_not_be_read_as_a_learning_rate_is_a_further_parameter(
    name: str, distribution: BaseDistribution
) -> None:
    (column,) = Space.of({name: distribution}, batch_size="batch_size", lr=name).columns
    assert column.role in ("number", "choice")
