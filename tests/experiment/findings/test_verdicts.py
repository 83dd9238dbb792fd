"""Synthetic experiments whose truth is known."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from bsopt.errors import ConfigError
from bsopt.experiment.findings.table import ARMS, MEASUREMENTS, Run, arms_of
from bsopt.experiment.findings.verdicts import FINDINGS, Outcome, Verdict, verdicts
from bsopt.serialization import to_plain

SIZES = (32, 64, 128, 256)
LRS = (0.01, 0.02, 0.04, 0.08, 0.16)
Truth = Callable[[str, int, float], dict[str, float]]


def article(arm: str, B: int, lr: float) -> dict[str, float]:
    """The article's world: what matters is lr relative to 0.01·B/32, a large batch at 0.01 is slow and sharp."""
    lag = max(0.0, math.log2(0.01 * (B / 32) / lr))
    excess = max(0.0, math.log2(lr / (0.01 * (B / 32))))
    return {
        "best_val_loss": 0.345 * 1.05**lag * 1.04**excess,
        "early_train_loss": 0.5 * 1.1**lag,
        "seconds_per_epoch": 12.4 * (B / 32) ** -0.23,
        "epochs_to_best": 158 * 1.8**lag,
        "seconds_to_best": 158 * 1.8**lag * 12.4 * (B / 32) ** -0.23,
        "distance_from_init": 10 * 0.8**lag,
        "epoch_distance": 0.3 * 0.5**lag,
        "update_norm": 3.3e-3 * 0.77**lag,
        "sharpness": 1.14 * 2**lag * (B / 32) ** 0.8,
    }


def nothing_matters(arm: str, B: int, lr: float) -> dict[str, float]:
    return dict.fromkeys(MEASUREMENTS, 1.0)


def upside_down(arm: str, B: int, lr: float) -> dict[str, float]:
    return {name: 1 / value for name, value in article(arm, B, lr).items()}


def experiment(truth: Truth, *, seeds: int = 5, noise: float = 0.02, rng_seed: int = 0) -> list[Run]:
    """The whole grid, listed in every arm; each seed shifts all of its runs alike, and each run alone."""
    rng = np.random.default_rng(rng_seed)
    shared = {(seed, name): rng.normal(0, 0.1) for seed in range(seeds) for name in MEASUREMENTS}
    runs = []
    for B, lr, seed in itertools.product(SIZES, LRS, range(seeds)):
        shift = {name: shared[seed, name] + rng.normal(0, noise) for name in MEASUREMENTS}
        for arm in arms_of(B, lr, smallest_batch_size=SIZES[0], reference_lr=LRS[0]):
            values = {name: value * math.exp(shift[name]) for name, value in truth(arm, B, lr).items()}
            runs.append(Run(B, lr, arm, seed, values))
    return runs


def outcomes(runs: list[Run]) -> dict[str, Outcome]:
    return {verdict.key: verdict.outcome for verdict in verdicts(runs)}


def test_the_articles_world_supports_the_articles_findings() -> None:
    found = outcomes(experiment(article))
    assert [key for key, outcome in found.items() if outcome is not Outcome.SUPPORTED] == []


def test_an_upside_down_world_contradicts_them() -> None:
    found = outcomes(experiment(upside_down, noise=0.005))
    untold = {key for key, outcome in found.items() if outcome is not Outcome.CONTRADICTED}
    assert untold == {"scaling_closes_gap", "scaling_restores_distance"}  # there is no gap
    assert Outcome.SUPPORTED not in found.values()


def test_where_nothing_matters_false_verdicts_are_rare() -> None:
    families = [outcomes(experiment(nothing_matters, rng_seed=seed)) for seed in range(60)]
    wrong = sum(any(outcome is not Outcome.CANT_TELL for outcome in found.values()) for found in families)
    assert wrong / len(families) <= 0.10  # 5 % by design; 60 families are within 0.10 of it with p > 0.95


def test_five_seeds_see_an_effect_of_three_noise_widths_most_of_the_time() -> None:
    found = Counter(outcomes(experiment(article, noise=0.05, rng_seed=seed))["worse_minima"] for seed in range(30))
    assert found[Outcome.SUPPORTED] >= 20
    assert found[Outcome.CONTRADICTED] == 0


def test_effects_and_intervals_are_the_true_ones() -> None:
    found = {verdict.key: verdict for verdict in verdicts(experiment(article, noise=0.01))}
    truths = {
        "worse_minima": 1.05**3,
        "faster_epochs": 8**-0.23,
        "scaling_closes_gap": 1.0,
        "scaling_flattens": 1 / 8,
        "best_lr_grows": 1.0,
    }
    for key, truth in truths.items():
        verdict = found[key]
        assert verdict.effect == pytest.approx(truth, rel=0.1)
        assert verdict.interval is not None
        assert verdict.interval[0] <= truth <= verdict.interval[1]


def test_less_than_half_a_gap_closed_contradicts_most_of_it() -> None:
    def little(arm: str, B: int, lr: float) -> dict[str, float]:
        return {
            "best_val_loss": {"fixed_lr": 0.4 if B > 32 else 0.3, "scaled_lr": 0.39 if B > 32 else 0.3}.get(arm, 0.4)
        }

    verdict = verdict_of("scaling_closes_gap", experiment(little, noise=0.005))
    assert verdict.outcome is Outcome.CONTRADICTED
    assert verdict.effect == pytest.approx(0.1, abs=0.1)


def verdict_of(key: str, runs: list[Run]) -> Verdict:
    return next(verdict for verdict in verdicts(runs) if verdict.key == key)


def test_no_gap_is_no_verdict_on_closing_it() -> None:
    def better(arm: str, B: int, lr: float) -> dict[str, float]:
        return {"best_val_loss": 1.0 - B / 1000}

    verdict = verdict_of("scaling_closes_gap", experiment(better))
    assert verdict.outcome is Outcome.CANT_TELL
    assert "no gap" in verdict.sentence


def test_separate_seeds_are_compared_unpaired() -> None:
    runs = [
        Run(r.batch_size, r.lr, r.arm, r.seed + 100 * r.batch_size, r.measurements)
        for r in experiment(article, seeds=8)
    ]
    verdict = verdict_of("smaller_updates", runs)
    assert verdict.test == "Welch's t-test"
    assert verdict.outcome is Outcome.SUPPORTED


def test_four_seeds_cant_tell_and_say_why() -> None:
    found = verdicts(experiment(article, seeds=4))
    assert {verdict.outcome for verdict in found} == {Outcome.CANT_TELL}
    assert all("at least 5" in verdict.sentence and verdict.p is None for verdict in found)


def test_an_unmeasured_quantity_and_a_missing_arm_cost_only_their_own_findings() -> None:
    runs = [
        Run(r.batch_size, r.lr, r.arm, r.seed, {k: v for k, v in r.measurements.items() if k != "sharpness"})
        for r in experiment(article)
        if r.arm != "grid"
    ]
    untold = {key for key, outcome in outcomes(runs).items() if outcome is Outcome.CANT_TELL}
    assert untold == {"sharper", "scaling_flattens", "still_sharper", "best_lr_grows"}
    assert "sharpness" in verdict_of("sharper", runs).sentence


def test_a_diverged_run_counts_as_not_measured() -> None:
    runs = experiment(article, seeds=6)
    index = next(i for i, r in enumerate(runs) if r.arm == "fixed_lr" and r.batch_size == 64)
    runs[index] = Run(64, 0.01, "fixed_lr", runs[index].seed, {"best_val_loss": math.nan, "sharpness": math.inf})
    verdict = verdict_of("worse_minima", runs)
    assert verdict.num_seeds == 5
    assert verdict.outcome is Outcome.SUPPORTED


def test_the_correction_covers_all_findings_that_were_tested() -> None:
    found = verdicts(experiment(article, noise=0.2))
    tested = [verdict for verdict in found if verdict.p is not None]
    smallest = min(tested, key=lambda verdict: verdict.p)
    assert smallest.corrected_p == pytest.approx(min(1.0, len(tested) * smallest.p))


def test_a_sentence_names_groups_effect_interval_test_and_p() -> None:
    sentence = verdict_of("worse_minima", experiment(article)).sentence
    assert sentence.startswith("Supported: best validation loss at 256 over that at 32 is 1.1")
    for part in ("95 % interval 1.", "paired t-test over 5 seeds", "after Holm's correction"):
        assert part in sentence


def test_verdicts_become_json() -> None:
    stored = json.loads(json.dumps(to_plain(verdicts(experiment(article)))))
    assert stored[0]["outcome"] == "supported"


def test_the_grid_of_the_article_holds_all_of_its_arms() -> None:
    cells = {(B, lr): arms_of(B, lr, smallest_batch_size=32, reference_lr=0.01) for B in SIZES for lr in LRS}
    assert cells[32, 0.01] == ("grid", "fixed_lr", "scaled_lr")
    assert [cell for cell, arms in cells.items() if "scaled_lr" in arms] == [
        (32, 0.01), (64, 0.02), (128, 0.04), (256, 0.08)
    ]  # fmt: skip
    assert [cell for cell, arms in cells.items() if "higher_lr" in arms] == [(B, 0.08) for B in SIZES]
    assert arms_of(64, 0.08, smallest_batch_size=32, reference_lr=0.01, higher_lr=0.16) == ("grid",)


def test_findings_are_told_apart_and_use_known_arms_and_measurements() -> None:
    assert len({finding.key for finding in FINDINGS}) == len(FINDINGS) == 17
    assert {run.arm for run in experiment(article)} == set(ARMS)


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
