"""What is asked of variants is told right: effects that are there, absent, or reversed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from bsopt.experiment.findings.table import Run
from bsopt.experiment.findings.variants import findings_of_variant
from bsopt.experiment.findings.verdicts import Outcome, Verdict, verdicts
from bsopt.testing.planted import planted_variant

ARMS = ("fixed_lr", "scaled_lr")


def _judged(runs: Sequence[Run], *, is_precision: bool = False) -> dict[str, Verdict]:
    judged = verdicts(runs, findings=findings_of_variant("v", ARMS, is_precision=is_precision))
    return {verdict.key.removeprefix("v:"): verdict for verdict in judged}


def _outcomes(runs: Sequence[Run], *, is_precision: bool = False) -> dict[str, Outcome]:
    return {key: verdict.outcome for key, verdict in _judged(runs, is_precision=is_precision).items()}


YES, NO, OPEN = Outcome.SUPPORTED, Outcome.CONTRADICTED, Outcome.CANT_TELL


def test_a_variant_that_closes_the_gap_is_told() -> None:
    found = _outcomes(planted_variant("v", largest=1 / 1.2, cost=1.0))
    assert found == {"helps_largest": YES, "smaller_gap": YES, "scaling_holds": YES, "scaling_gains": YES}


def test_a_variant_that_widens_it_is_told() -> None:
    found = _outcomes(planted_variant("v", largest=1.2, cost=1.0))
    assert found == {"helps_largest": NO, "smaller_gap": NO, "scaling_holds": NO, "scaling_gains": NO}


@pytest.mark.parametrize(("cost", "told"), [(0.7, YES), (1.4, NO)])
def test_what_a_precision_saves_and_costs_is_told(cost: float, told: Outcome) -> None:
    found = _outcomes(planted_variant("v", largest=1.0, cost=cost), is_precision=True)
    assert found == {"no_worse": YES, "faster_epochs": told, "less_memory": told}


def test_a_precision_that_costs_accuracy_is_told_with_its_limit() -> None:
    verdict = _judged(planted_variant("v", largest=1.3, cost=1.0), is_precision=True)["no_worse"]
    assert verdict.outcome is NO
    assert "held against 1.05" in verdict.sentence
    assert verdict.effect == pytest.approx(math.sqrt(1.3), rel=0.02)  # the mean over the two batch sizes
    assert verdict.interval is not None
    assert verdict.interval[0] > 1.05
    assert "best validation loss with v over that without" in verdict.sentence


@pytest.mark.slow
def test_where_nothing_matters_nothing_is_told() -> None:
    """At most 5 % of experiments may claim anything that isn't so; scaling really fails here, by 1.2 against 1.05."""
    wrong = 0
    for draw in range(100):
        found = _outcomes(planted_variant("v", largest=1.0, cost=1.0, noise=0.05, rng_seed=draw))
        wrong += any(found[key] is YES for key in ("helps_largest", "smaller_gap", "scaling_holds", "scaling_gains"))
    assert wrong <= 5


def test_runs_that_are_missing_are_told() -> None:
    own = [run for run in planted_variant("v", largest=1.0, cost=1.0) if "/" not in run.arm]
    found = _judged(own)
    assert {verdict.outcome for verdict in found.values()} == {OPEN}
    assert "no runs of the arm 'fixed_lr/v'" in found["helps_largest"].sentence
