"""A global batch size is realised exactly, with the least accumulation, or refused with the nearest that can be."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsopt.errors import PlanError
from bsopt.trial.plan import Limits, Plan, nearest_realisable, realise

limits_strategy = st.builds(
    Limits,
    num_devices=st.integers(1, 8),
    num_nodes=st.integers(1, 3),
    max_micro_batch_size=st.none() | st.integers(1, 300),
    max_global_batch_size=st.none() | st.integers(1, 5000),
    allow_accumulation=st.booleans(),
)


@given(st.integers(1, 4096), limits_strategy)
def test_realised_plan_is_exact_and_within_the_limits(size: int, limits: Limits) -> None:
    try:
        plan = realise(size, limits)
    except PlanError:
        return
    assert plan.global_batch_size == size
    assert (plan.num_devices, plan.num_nodes) == (limits.num_devices, limits.num_nodes)
    assert limits.max_micro_batch_size is None or plan.micro_batch_size <= limits.max_micro_batch_size
    assert limits.max_global_batch_size is None or size <= limits.max_global_batch_size
    assert limits.allow_accumulation or plan.accumulate_grad_batches == 1


@given(st.integers(1, 4096), limits_strategy)
def test_refusal_names_only_sizes_that_can_be_realised(size: int, limits: Limits) -> None:
    try:
        realise(size, limits)
    except PlanError as error:
        others = error.nearest
    else:
        return
    assert [realise(other, limits).global_batch_size for other in others] == sorted(others)


@given(st.integers(1, 2048), st.integers(1, 256))
def test_accumulation_uses_the_fewest_parts(size: int, most: int) -> None:
    try:
        plan = realise(size, Limits(max_micro_batch_size=most))
    except PlanError:
        return
    fewer = range(1, plan.accumulate_grad_batches)
    assert all(size % parts or size // parts > most for parts in fewer)


def test_no_limit_means_no_accumulation() -> None:
    plan = realise(4096, Limits(num_devices=4, num_nodes=2))
    assert plan == Plan(micro_batch_size=512, num_devices=4, num_nodes=2)
    assert str(plan) == "512 × 4 devices × 2 nodes = 4096"


def test_accumulation_says_why() -> None:
    plan = realise(96, Limits(max_micro_batch_size=40, why="your limit"))
    assert str(plan) == "32 × 3 accumulated = 96"
    assert plan.reason == "your limit allows 40 samples in one pass, 96 are needed"


def test_batch_size_above_the_training_set_is_refused_with_the_largest_that_fits() -> None:
    with pytest.raises(PlanError, match="the training set has 1437 samples") as caught:
        realise(2048, Limits(max_global_batch_size=1437))
    assert caught.value.nearest == (1437,)


def test_batch_size_that_devices_can_not_share_is_refused_with_both_neighbours() -> None:
    with pytest.raises(PlanError, match=r"no multiple of the 4 devices.*The nearest that can be: 8, 12") as caught:
        realise(10, Limits(num_devices=4))
    assert caught.value.nearest == (8, 12)


def test_prime_above_the_memory_is_refused_rather_than_cut_into_crumbs() -> None:
    with pytest.raises(PlanError, match="no equal parts of at most 64"):
        realise(127, Limits(max_micro_batch_size=64))


def test_accumulation_that_is_off_is_named() -> None:
    with pytest.raises(PlanError, match="accumulation is off"):
        realise(128, Limits(max_micro_batch_size=64, allow_accumulation=False))


def test_proposal_snaps_to_the_nearest_realisable_size() -> None:
    assert nearest_realisable(911, Limits(num_devices=4)).global_batch_size == 912
    assert nearest_realisable(64, Limits(num_devices=4)).global_batch_size == 64
    with pytest.raises(PlanError):
        nearest_realisable(2, Limits(num_devices=4, max_global_batch_size=3))


def test_plan_error_survives_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(PlanError("too large", nearest=(8, 16))))
    assert str(error) == "too large"
    assert error.nearest == (8, 16)
