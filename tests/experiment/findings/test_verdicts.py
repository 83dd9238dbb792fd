"""Synthetic experiments whose truth is known."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from bsopt.errors import ConfigError
from bsopt.experiment.findings.table import ARMS, MEASUREMENTS, Run, arms_of
from bsopt.experiment.findings.verdicts import FINDINGS, Outcome, Verdict, verdicts
from bsopt.serialization import to_plain
from bsopt.testing.planted import PLANTED_LR, PLANTED_SIZES, World, planted_experiment

NO_EFFECT = {"ratio": (1.0,), "fraction": (0.5, 1.5), "exponent": (0.0,)}
GAPS = {"scaling_closes_gap", "scaling_restores_distance"}


def outcomes(runs: list[Run]) -> dict[str, Outcome]:
    return {verdict.key: verdict.outcome for verdict in verdicts(runs)}


def verdict_of(key: str, runs: list[Run]) -> Verdict:
    return next(verdict for verdict in verdicts(runs) if verdict.key == key)


def without(runs: list[Run], measurements: Mapping[str, object] | set[str]) -> list[Run]:
    return [
        replace(run, measurements={k: v for k, v in run.measurements.items() if k not in measurements}) for run in runs
    ]


def test_the_articles_world_supports_the_articles_findings() -> None:
    found = outcomes(planted_experiment("present"))
    assert [key for key, outcome in found.items() if outcome is not Outcome.SUPPORTED] == []


def test_an_upside_down_world_contradicts_them() -> None:
    found = outcomes(planted_experiment("reversed", noise=0.005))
    untold = {key for key, outcome in found.items() if outcome is not Outcome.CONTRADICTED}
    assert untold == GAPS  # there is no gap
    assert Outcome.SUPPORTED not in found.values()


@pytest.mark.slow
def test_where_nothing_matters_false_verdicts_are_rare() -> None:
    families = [outcomes(planted_experiment("absent", rng_seed=seed)) for seed in range(40)]
    wrong = sum(any(outcome is not Outcome.CANT_TELL for outcome in found.values()) for found in families)
    assert wrong <= 5  # 5 % by design, 2 of 40; more than 5 with a chance of 1.4 %


@pytest.mark.parametrize("world", ["present", "absent", "reversed", "little", "overshoot"])
@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_the_interval_leaves_out_no_effect_exactly_where_there_is_a_verdict(world: World, noise: float) -> None:
    for seed in range(3):
        for verdict in verdicts(planted_experiment(world, noise=noise, rng_seed=seed)):
            if verdict.interval is None:
                continue
            low, high = verdict.interval
            has_no_effect = any(low <= value <= high for value in NO_EFFECT[verdict.kind])
            assert has_no_effect == (verdict.outcome is Outcome.CANT_TELL), verdict.sentence


def test_effects_and_intervals_are_the_true_ones() -> None:
    found = {verdict.key: verdict for verdict in verdicts(planted_experiment("present", noise=0.01))}
    truths = {
        "worse_minima": 1.05**3,
        "faster_epochs": 0.85**3,
        "scaling_closes_gap": 1.0,
        "steeper_line": 1.7**3,
        "best_lr_grows": 1.0,
    }
    for key, truth in truths.items():
        verdict = found[key]
        assert verdict.effect == pytest.approx(truth, rel=0.1)
        assert verdict.interval is not None
        assert verdict.interval[0] <= truth <= verdict.interval[1]


@pytest.mark.parametrize(
    ("world", "effect", "words"), [("little", 0.1, "power"), ("overshoot", 2.5, "goes past 32 by more than half")]
)
def test_a_gap_that_is_hardly_closed_or_overshot_is_not_closed(world: World, effect: float, words: str) -> None:
    found = {verdict.key: verdict for verdict in verdicts(planted_experiment(world, noise=0.004))}
    assert {found[key].outcome for key in GAPS} == {Outcome.CONTRADICTED}
    assert found["scaling_closes_gap"].effect == pytest.approx(effect, abs=0.25)
    assert (words in found["scaling_closes_gap"].sentence) == (world == "overshoot")


def test_measures_of_sharpness_that_disagree_are_no_verdict_and_are_named() -> None:
    runs = [
        replace(run, measurements={**run.measurements, "adaptive_sharpness": 1 / run.measurements["sharpness"]})
        for run in planted_experiment("present")
    ]
    verdict = verdict_of("sharper", runs)
    assert verdict.outcome is Outcome.CANT_TELL
    assert "The measures do not agree: Keskar's sharpness 4" in verdict.sentence
    assert "scale-free sharpness 0.0" in verdict.sentence
    assert "More seeds don't decide that." in verdict.sentence
    assert verdict.seeds_to_decide is None


def test_sharpness_by_the_only_measure_that_was_taken_says_so() -> None:
    runs = without(planted_experiment("present"), {"sharpness_subspace", "adaptive_sharpness", "top_curvature"})
    verdict = verdict_of("sharper", runs)
    assert verdict.outcome is Outcome.SUPPORTED
    assert "By one measure alone: Keskar's sharpness." in verdict.sentence


@pytest.mark.slow
def test_as_many_seeds_as_a_verdict_asks_for_mostly_decide() -> None:
    right = []
    for seed in range(12):
        runs = planted_experiment("present", noise=0.08, rng_seed=seed)
        verdict = verdict_of("worse_minima", runs)
        if verdict.seeds_to_decide is None:
            continue
        assert verdict.outcome is Outcome.CANT_TELL
        assert verdict.seeds_to_decide > 5
        assert f"{verdict.seeds_to_decide} seeds would decide (80% power)" in verdict.sentence
        more = planted_experiment("present", seeds=verdict.seeds_to_decide, noise=0.08, rng_seed=100 + seed, look=1)
        right.append(verdict_of("worse_minima", more).outcome is Outcome.SUPPORTED)
    assert len(right) >= 6
    assert sum(right) / len(right) >= 0.6  # the seen effect is the true one's estimate from five seeds


def test_a_second_look_counts_double() -> None:
    one = verdict_of("worse_minima", planted_experiment("present", noise=0.05))
    two = verdict_of("worse_minima", planted_experiment("present", noise=0.05, look=1))
    assert (one.num_looks, two.num_looks) == (1, 2)
    assert one.p == two.p
    assert "look 2" in two.sentence
    assert one.corrected_p is not None
    assert two.corrected_p is not None
    assert two.corrected_p >= min(1.0, 2 * one.corrected_p) * 0.999


def test_seeds_that_another_finding_asked_for_are_no_new_look() -> None:
    runs = planted_experiment("present")
    more = planted_experiment("present", seeds=3, first_seed=5, rng_seed=1, look=1)
    runs += [run for run in more if run.arm == "fixed_lr" and run.batch_size in (32, 256)]
    found = {verdict.key: verdict for verdict in verdicts(runs)}
    assert (found["worse_minima"].num_looks, found["worse_minima"].num_seeds) == (1, 5)
    assert (found["steeper_line"].num_looks, found["steeper_line"].num_seeds) == (2, 8)


def test_no_gap_is_no_verdict_on_closing_it() -> None:
    verdict = verdict_of("scaling_closes_gap", planted_experiment("reversed"))
    assert verdict.outcome is Outcome.CANT_TELL
    assert "no gap" in verdict.sentence


def test_separate_seeds_are_compared_unpaired() -> None:
    runs = [
        Run(r.batch_size, r.lr, r.arm, r.seed + 100 * r.batch_size, r.measurements)
        for r in planted_experiment("present", seeds=8)
    ]
    verdict = verdict_of("smaller_updates", runs)
    assert verdict.test == "Welch's t-test"
    assert verdict.outcome is Outcome.SUPPORTED


def test_four_seeds_cant_tell_and_say_why() -> None:
    found = verdicts(planted_experiment("present", seeds=4))
    assert {verdict.outcome for verdict in found} == {Outcome.CANT_TELL}
    assert all("at least 5" in verdict.sentence and verdict.p is None for verdict in found)


def test_an_unmeasured_quantity_and_a_missing_arm_cost_only_their_own_findings() -> None:
    sharpness = {name for name in MEASUREMENTS if "sharpness" in name} | {"top_curvature"}
    runs = without([run for run in planted_experiment("present") if run.arm != "grid"], sharpness)
    untold = {key for key, outcome in outcomes(runs).items() if outcome is Outcome.CANT_TELL}
    assert untold == {"sharper", "scaling_flattens", "still_sharper", "best_lr_grows"}
    assert "sharpness" in verdict_of("sharper", runs).sentence


@pytest.mark.parametrize(
    ("missing", "key", "words"),
    [
        ({"overfitting"}, "more_overfitting", 'self.log("train_loss"'),
        ({"epochs_to_train_loss"}, "slower_descent", 'self.log("train_loss"'),
        ({"sharpness", "sharpness_subspace", "adaptive_sharpness", "top_curvature"}, "sharper", "bsopt study analyze"),
        ({"line_rise"}, "steeper_line", "bsopt study analyze"),
        ({"peak_memory"}, "more_memory", "has peak memory at 0 batch sizes"),
    ],
)
def test_what_was_not_measured_says_what_to_do(missing: set[str], key: str, words: str) -> None:
    assert words in verdict_of(key, without(planted_experiment("present"), missing)).sentence


def test_an_arm_that_was_left_out_and_a_measurement_of_too_few_runs_are_named() -> None:
    runs = planted_experiment("present")
    higher = verdict_of("larger_wins_at_higher_lr", [run for run in runs if run.arm != "higher_lr"])
    assert higher.sentence == "Can't tell: there are no runs of the arm 'higher_lr'."
    rare = [r if r.seed < 2 or r.batch_size < 256 else without([r], {"peak_memory"})[0] for r in runs]
    told = "Can't tell: peak memory: 2 runs in the smallest group, at least 5 are needed."
    assert verdict_of("more_memory", rare).sentence == told


def test_a_diverged_run_counts_as_not_measured() -> None:
    runs = planted_experiment("present", seeds=6)
    index = next(i for i, r in enumerate(runs) if r.arm == "fixed_lr" and r.batch_size == 64)
    runs[index] = Run(64, 0.01, "fixed_lr", runs[index].seed, {"best_val_loss": math.nan, "sharpness": math.inf})
    verdict = verdict_of("worse_minima", runs)
    assert verdict.num_seeds == 5
    assert verdict.outcome is Outcome.SUPPORTED


def test_the_correction_covers_all_findings_that_were_tested() -> None:
    found = verdicts(planted_experiment("present", noise=0.2))
    tested = [verdict for verdict in found if verdict.p is not None]
    smallest = min(tested, key=lambda verdict: verdict.p)
    assert smallest.corrected_p == pytest.approx(min(1.0, len(tested) * smallest.p))


def test_a_sentence_names_groups_effect_interval_test_and_p() -> None:
    sentence = verdict_of("worse_minima", planted_experiment("present")).sentence
    assert sentence.startswith("Supported: best validation loss at 256 over that at 32 is 1.1")
    for part in ("95 % interval 1.", "paired t-test over 5 seeds", "after Holm's correction", "alone)"):
        assert part in sentence


def test_verdicts_become_json() -> None:
    stored = json.loads(json.dumps(to_plain(verdicts(planted_experiment("present")))))
    assert stored[0]["outcome"] == "supported"


def test_the_grid_of_the_article_holds_all_of_its_arms() -> None:
    cells = {
        (B, lr): arms_of(B, lr, smallest_batch_size=32, reference_lr=0.01) for B in PLANTED_SIZES for lr in PLANTED_LR
    }
    assert cells[32, 0.01] == ("grid", "fixed_lr", "scaled_lr")
    assert [cell for cell, arms in cells.items() if "scaled_lr" in arms] == [
        (32, 0.01), (64, 0.02), (128, 0.04), (256, 0.08)
    ]  # fmt: skip
    assert [cell for cell, arms in cells.items() if "higher_lr" in arms] == [(B, 0.08) for B in PLANTED_SIZES]
    assert arms_of(64, 0.08, smallest_batch_size=32, reference_lr=0.01, higher_lr=0.16) == ("grid",)


def test_findings_are_told_apart_and_use_known_arms_and_measurements() -> None:
    assert len({finding.key for finding in FINDINGS}) == len(FINDINGS) == 24
    assert {run.arm for run in planted_experiment("present")} == set(ARMS)


@pytest.mark.parametrize(
    ("runs", "arguments", "words"),
    [
        ([], {"alpha": 1.5}, "alpha"),
        ([], {"min_seeds": 1}, "min_seeds"),
        ([Run(32, 0.01, "fixed_lr", 0, {}), Run(32, 0.01, "fixed_lr", 0, {})], {}, "two runs"),
        ([Run(32, 0.01, "fixed_lr", 0, {}), Run(32, 0.02, "fixed_lr", 1, {})], {}, "several learning rates"),
    ],
)
def test_contradictory_tables_and_wrong_arguments_are_refused(
    runs: list[Run], arguments: dict[str, float], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        verdicts(runs, **arguments)
