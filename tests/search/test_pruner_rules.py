"""Rules of patience with published semantics, and trials that end at a target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from pruned_studies import STEPS, pruner, running, study_of, three_finished, trial_of

from bsopt.errors import ConfigError
from bsopt.search.pruner import PlateauPruner
from bsopt.trial.record import StopReason


def first_stop(rule_pruner: PlateauPruner, values: Sequence[float]) -> int | None:
    """Return the first report at which a rule alone would end a trial."""
    study = study_of()
    for count in range(1, len(values) + 1):
        if rule_pruner.decide(study, running(values[:count])).outcome == "complete":
            return count
    return None


def test_the_articles_rule_is_one_line() -> None:
    rule = PlateauPruner(patience=100, rule="keras", threshold=0.0)
    values = [1.0 / (1 + min(i, 30)) for i in range(200)]
    study = study_of()
    ended = next(i for i in range(1, 201) if rule.decide(study, running(values[:i], steps=range(1, i + 1))).is_stop)
    assert ended == 31 + 100  # the best is report 31


def test_each_rule_stops_where_its_source_says() -> None:
    values = [1.0, 0.95, 0.91, 0.89, 0.885, 0.884, 0.9, 0.93, 0.96, 0.99, 1.02]
    assert first_stop(pruner(patience=2, rule="keras", min_delta=0.1, threshold=0.0), values) == 3
    assert first_stop(pruner(patience=3, rule="keras", threshold=0.0), values) == 9
    assert first_stop(pruner(patience=3, rule="relative", min_delta=0.02, threshold=0.0), values) == 7
    assert first_stop(pruner(patience=1, rule="prechelt_gl", min_delta=5.0, threshold=0.0), values) == 8
    assert first_stop(pruner(patience=3, rule="prechelt_up", threshold=0.0), values) == 9


def test_prechelts_loss_needs_values_that_are_not_negative_and_says_so_at_the_first() -> None:
    with pytest.raises(ConfigError, match="1 - accuracy"):
        pruner(patience=1, rule="prechelt_gl").decide(study_of(), running([-1.0]))


def test_prechelts_loss_beside_an_error_of_exactly_0_is_worse_without_end() -> None:
    rule = pruner(patience=1, rule="prechelt_gl", min_delta=5.0, threshold=0.0)
    assert first_stop(rule, [0.5, 0.1, 0.0, 0.0, 0.0]) is None
    assert first_stop(rule, [0.5, 0.1, 0.0, 0.0, 0.01]) == 5


def test_by_default_a_noisy_flat_curve_is_a_plateau_and_a_slow_steady_one_is_not() -> None:
    rng = np.random.default_rng(0)
    flat = 0.3 + 0.02 * rng.standard_normal(40)
    slow = 0.6 - 0.008 * np.arange(40) + 0.02 * rng.standard_normal(40)
    steps = range(1, 41)
    rule = pruner(patience=10, threshold=0.0)
    assert rule.decide(study_of(), running(list(flat), steps=steps)).outcome == "complete"
    assert rule.decide(study_of(), running(list(slow), steps=steps)).outcome is None


def test_without_patience_a_tenth_of_a_finished_run_is_taken_but_at_least_three_reports() -> None:
    study = study_of(trial_of([0.5] * 100, steps=range(1, 101)))
    flat = [1.0, 0.5, 0.4, *[0.3] * 20]
    rule = pruner(threshold=0.0)
    stops = [n for n in range(4, 24) if rule.decide(study, running(flat[:n], steps=range(1, n + 1))).is_stop]
    assert stops[0] == 4 + 10
    assert not rule.decide(study_of(), running(flat, steps=range(1, 24))).is_stop


# Targets


def test_a_trial_ends_at_its_target() -> None:
    decision = pruner(target=0.4).decide(study_of(), running([1.0, 0.6, 0.39]))
    assert decision.stop_reason is StopReason.TARGET_REACHED
    assert "at 3 steps" in decision.message
    up = pruner(target=0.9).decide(study_of(direction="maximize"), running([0.5, 0.91]))
    assert up.stop_reason == StopReason.TARGET_REACHED


def test_a_trial_that_cannot_reach_the_target_in_time_is_pruned() -> None:
    study = three_finished()  # the best of them is at 0.6 after 4 steps
    missed = pruner(target=0.6).decide(study, running([1.0, 0.9, 0.8, 0.7]))
    assert missed.stop_reason is StopReason.PRUNED_HOPELESS
    late = study_of(*(trial_of([2.0 - 0.05 * s for s in STEPS]) for _ in range(3)))  # 1.2 at 16
    assert pruner(target=1.2).decide(late, running([2.0, 1.995, 1.99, 1.985, 1.98, 1.975])).outcome == "pruned"
    assert pruner(target=1.2).decide(late, running([2.0, 1.9, 1.8, 1.7, 1.6])).outcome is None


def test_the_time_to_a_target_is_compared_in_the_values_own_unit() -> None:
    seconds = study_of(*(trial_of([1.0, 0.7, 0.5], value=v) for v in (30.0, 40.0, 50.0)))
    slow = running([1.0, 0.9])
    assert pruner(target=0.5).decide(seconds, slow, spent=31.0).outcome == "pruned"
    assert pruner(target=0.5).decide(seconds, slow, spent=5.0).outcome is None


def test_epochs_that_count_from_0_are_told_as_those_done_on_the_way_to_a_target() -> None:
    rule = pruner(target=0.5, unit="epochs", min_finished=1)
    study = study_of(trial_of([0.6, 0.4, 0.3], steps=range(3)))
    reached = rule.decide(study, running([0.5], steps=range(1)))
    assert reached.message == "reached the target 0.5 at 1 epoch"
    missed = rule.decide(study, running([0.9, 0.8], steps=range(2)))
    assert missed.message == "the target 0.5 was missed: 0.8 after the 2 epochs of the best trial"
    assert rule.decide(study, running([0.9], steps=range(1))).outcome is None
