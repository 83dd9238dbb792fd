"""Scaling rules: their properties, and the published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsopt.errors import ConfigError
from bsopt.laws.scaling import (
    RULES,
    Reference,
    default_reference,
    default_rule,
    log2_scaling,
    scaled_adam,
    scaled_learning_rate,
    scaled_weight_decay,
    warmup_factor,
)

SIZES = st.floats(1, 1e6)
RATES = st.floats(1e-6, 10)


@given(size=st.integers(1, 10**6), lr=RATES, rule=st.sampled_from(RULES))
def test_every_rule_passes_through_the_reference(size: int, lr: float, rule: str) -> None:
    assert scaled_learning_rate(size, reference=Reference(size, lr), rule=rule) == pytest.approx(lr)


@given(size=SIZES, lr=RATES, factor=st.floats(1e-3, 1e3), rule=st.sampled_from(RULES))
def test_rules_are_proportional_to_the_reference_rate(size: float, lr: float, factor: float, rule: str) -> None:
    one = scaled_learning_rate(size, reference=Reference(32, lr), rule=rule)
    other = scaled_learning_rate(size, reference=Reference(32, lr * factor), rule=rule)
    assert other == pytest.approx(factor * one)


@given(sizes=st.tuples(SIZES, SIZES), rule=st.sampled_from(["linear", "sqrt", "power", "saturating", "none"]))
def test_all_but_the_surge_never_fall_with_the_batch_size(sizes: tuple[float, float], rule: str) -> None:
    low, high = scaled_learning_rate(np.array(sorted(sizes)), reference=Reference(32, 0.1), rule=rule)
    assert low <= high * (1 + 1e-12)


@given(size=SIZES, knee=st.floats(1, 1e5))
def test_saturating_rule_stays_below_the_linear_one_above_the_reference(size: float, knee: float) -> None:
    reference = Reference(32, 0.1)
    saturating = scaled_learning_rate(size, reference=reference, rule="saturating", noise_batch_size=knee)
    linear = scaled_learning_rate(size, reference=reference, rule="linear")
    assert (saturating <= linear * (1 + 1e-9)) == (size >= 32) or saturating == pytest.approx(linear)


def test_linear_rule_gives_goyals_learning_rate_for_8192_images() -> None:
    """Goyal et al. 2017: 0.1 at 256 becomes 3.2 at 8192, and 0.1·√32 by the square root."""
    reference = Reference(256, 0.1)
    assert scaled_learning_rate(8192, reference=reference, rule="linear") == pytest.approx(3.2)
    assert scaled_learning_rate(8192, reference=reference, rule="sqrt") == pytest.approx(0.1 * 32**0.5)


def test_sqrt_rule_doubles_lr_when_batch_quadruples() -> None:
    assert scaled_learning_rate(128, reference=Reference(32, 0.01), rule="sqrt") == pytest.approx(0.02)


def test_surge_peaks_at_its_noise_batch_size() -> None:
    sizes = 2.0 ** np.arange(3, 15)
    rates = scaled_learning_rate(sizes, reference=Reference(32, 0.01), rule="surge", noise_batch_size=1024)
    assert sizes[rates.argmax()] == 1024


def test_rule_may_be_a_function_of_the_ratio() -> None:
    assert scaled_learning_rate(320, reference=Reference(32, 0.01), rule=lambda k: k**0.7) == pytest.approx(
        0.01 * 10**0.7
    )


@given(octaves=st.floats(-8, 12), knee=st.floats(-4, 12), exponent=st.floats(0.1, 1.0))
def test_saturation_in_octaves_agrees_with_the_law(octaves: float, knee: float, exponent: float) -> None:
    fast = log2_scaling(np.array(octaves), knee=np.array(knee), exponent=np.array(exponent))
    law = scaled_learning_rate(
        1024 * 2.0**octaves, reference=Reference(1024, 1.0), rule="saturating", noise_batch_size=1024 * 2.0**knee
    )
    assert float(fast) == pytest.approx(exponent * np.log2(law), abs=1e-9)


@given(octaves=st.floats(-8, 8), knee=st.floats(-6, 6))
def test_surge_in_octaves_agrees_with_the_law(octaves: float, knee: float) -> None:
    fast = log2_scaling(np.array(octaves), knee=np.array(knee), exponent=np.array(1.0), shape="surge")
    law = scaled_learning_rate(
        1024 * 2.0**octaves, reference=Reference(1024, 1.0), rule="surge", noise_batch_size=1024 * 2.0**knee
    )
    assert float(fast) == pytest.approx(float(np.log2(law)), abs=1e-9)


@pytest.mark.parametrize(
    ("optimizer", "rule", "size", "lr"),
    [("sgd", "linear", 128, 0.1), ("torch.optim.AdamW", "sqrt", 32, 1e-3), ("Lion", "sqrt", 32, 1e-3)],
)
def test_defaults_follow_the_optimizers_name(optimizer: str, rule: str, size: int, lr: float) -> None:
    assert default_rule(optimizer) == rule
    assert default_reference(optimizer) == Reference(size, lr)


def test_defaults_are_as_published_at_the_length_they_were_published_for() -> None:
    assert default_reference("sgd", num_steps=64_000, decays_to_end=True).lr == pytest.approx(0.1)
    assert default_reference("adam", num_steps=3_000, decays_to_end=False).lr == pytest.approx(1e-3)
    constant, unknown = (default_reference("adam", num_steps=48_000, decays_to_end=d).lr for d in (False, None))
    assert constant == pytest.approx(1e-3 * 16**-0.4)
    assert unknown > constant


@given(ratio=st.floats(1e-2, 1e4), beta=st.floats(0.5, 0.9999))
def test_scaled_betas_stay_in_the_unit_interval(ratio: float, beta: float) -> None:
    scaled = scaled_adam(32 * ratio, reference_batch_size=32, beta1=beta, beta2=beta)
    assert 0 <= scaled.beta1 < 1
    assert (scaled.beta1 <= beta) == (ratio >= 1) or scaled.beta1 == pytest.approx(beta)


def test_adam_rule_multiplies_the_rest_of_beta_by_the_ratio() -> None:
    scaled = scaled_adam(128, reference_batch_size=32)
    assert (scaled.beta1, scaled.beta2) == pytest.approx((0.6, 0.996))
    assert scaled.eps == pytest.approx(5e-9)


@given(decay=st.floats(1e-6, 1.0), k=st.floats(0.1, 100), r=st.floats(0.1, 100))
def test_weight_decay_keeps_its_timescale_in_epochs(decay: float, k: float, r: float) -> None:
    scaled = scaled_weight_decay(decay, batch_size_ratio=k, lr_ratio=r)
    assert k / (r * scaled) == pytest.approx(1 / decay)


def test_warmup_starts_low_ends_at_one_and_is_linear_between() -> None:
    factors = [warmup_factor(s, warmup_samples=100, start=0.25) for s in (0, 50, 100, 500)]
    assert factors == pytest.approx([0.25, 0.625, 1.0, 1.0])


@pytest.mark.parametrize(("size", "lr"), [(0, 0.1), (32, 0.0), (32, -1.0), (32, float("nan"))])
def test_impossible_references_are_refused(size: int, lr: float) -> None:
    with pytest.raises(ConfigError):
        Reference(size, lr)


def test_unknown_rule_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'linear'"):
        scaled_learning_rate(64, reference=Reference(32, 0.1), rule="liner")


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="positive"):
        scaled_learning_rate(0, reference=Reference(32, 0.1))
