"""Callbacks that observe change no bit: weights, running statistics and optimizer state are the same without them."""

from __future__ import annotations

import pytest
from dropout_net import OBSERVING, state_after


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.parametrize("accumulate", [1, 3])
def test_training_with_observers_is_bit_identical(accumulate: int) -> None:
    plain = state_after([], accumulate_grad_batches=accumulate)
    assert state_after([], accumulate_grad_batches=accumulate) == plain
    for name, make in OBSERVING.items():
        assert state_after([make()], accumulate_grad_batches=accumulate) == plain, name
    assert state_after([make() for make in OBSERVING.values()], accumulate_grad_batches=accumulate) == plain
