"""How many seeds a test needs, against published tables and by drawing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bsopt.experiment.findings.contrasts import Contrast, contrast
from bsopt.experiment.findings.power import MOST_SEEDS, power_of_t_test, seeds_to_decide


def test_power_is_cohen_s() -> None:
    # Cohen 1988, paired test: d = 0.5 takes 34 pairs, d = 0.8 15, at 5 % and 80 % power
    assert power_of_t_test(0.5, 34, alpha=0.05) == pytest.approx(0.81, abs=0.01)
    assert power_of_t_test(0.8, 15, alpha=0.05) == pytest.approx(0.82, abs=0.01)
    assert power_of_t_test(0.0, 10, alpha=0.05) == pytest.approx(0.025)
    assert power_of_t_test(1e6, 10, alpha=1e-6) == pytest.approx(1.0)


@pytest.mark.parametrize(("effect", "seeds"), [(0.5, 34), (0.8, 15), (1.0, 10)])
def test_the_seeds_that_decide_are_the_fewest_with_the_power(effect: float, seeds: int) -> None:
    test = Contrast(effect, 1.0 / np.sqrt(5), 4, 5, is_paired=True)
    assert seeds_to_decide([test], alpha=0.05) == seeds
    assert power_of_t_test(effect, seeds - 1, alpha=0.05) < 0.8 <= power_of_t_test(effect, seeds, alpha=0.05)


def test_several_tests_share_the_chance_to_miss() -> None:
    strong, weak = (Contrast(d, 1.0 / np.sqrt(5), 4, 5, is_paired=True) for d in (2.0, 0.8))
    both = seeds_to_decide([strong, weak], alpha=0.05)
    assert both is not None
    assert both > 15
    assert power_of_t_test(0.8, both, alpha=0.05) >= 0.9


def test_too_small_an_effect_has_no_number() -> None:
    test = Contrast(0.05, 1.0, 4, 5, is_paired=True)
    assert seeds_to_decide([test], alpha=0.05) is None
    assert seeds_to_decide([Contrast(0.0, 0.0, 4, 5, is_paired=True)], alpha=0.05) is None
    assert power_of_t_test(0.05 / np.sqrt(5), MOST_SEEDS, alpha=0.05) < 0.8


def test_power_is_how_often_a_test_finds_its_effect() -> None:
    rng, level, seeds = np.random.default_rng(0), 0.002, 8
    draws = rng.normal(1.5, 1.0, (4000, seeds))
    found = (stats.ttest_1samp(draws, 0.0, axis=1).pvalue < level).mean()
    assert found == pytest.approx(power_of_t_test(1.5, seeds, alpha=level), abs=0.025)


def test_groups_without_common_seeds_are_planned_by_welch_s_freedom() -> None:
    rng = np.random.default_rng(1)
    groups = [{i + 100 * k: float(v) for i, v in enumerate(rng.normal(0.5 * k, 1.0, 6))} for k in range(2)]
    test = contrast(groups, [-1.0, 1.0])
    needed = seeds_to_decide([test], alpha=0.05)
    assert not test.is_paired
    assert needed is None or needed >= 6
