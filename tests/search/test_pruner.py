"""Which trials the pruner ends, and what it says of them."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import pytest
from numpy.typing import ArrayLike, NDArray
from optuna.trial import TrialState
from pruned_studies import (
    FLAT,
    INF,
    NAN,
    STEPS,
    AlwaysPrunes,
    curve,
    flat_study,
    pruner,
    running,
    study_of,
    three_finished,
    trial_of,
)

import bsopt
from bsopt.errors import ConfigError
from bsopt.search.pruner import PlateauPruner, conclude
from bsopt.storage.attributes import DECAY_REMAINING, read_record
from bsopt.trial.record import StopReason

# Reasons and verdicts


def test_a_patience_of_ones_own_is_the_end_where_no_decay_is_to_come() -> None:
    stuck = running([1.0, 0.6, 0.45, 0.412, 0.412, 0.412, 0.412])
    without_decay = pruner(patience=3, decays_to_end=False).decide(three_finished(), stuck)
    assert without_decay.stop_reason is StopReason.CONVERGED
    assert "no learning-rate decay is to come" in without_decay.message
    assert pruner(patience=3).decide(three_finished(), stuck).outcome is None  # a decay may be to come
    assert pruner(decays_to_end=False).decide(three_finished(), stuck).outcome is None  # nobody said how long


@pytest.mark.parametrize(
    ("settings", "is_the_end"),
    [
        ({"patience": 5, "rule": "keras", "threshold": 0.0}, True),
        ({"patience": 5, "decays_to_end": False}, True),
        ({"patience": 5, "decays_to_end": True}, False),
        ({}, False),
    ],
)
def test_a_trial_longer_than_the_finished_ones_ends_by_a_patience_of_ones_own_alone(
    settings: dict[str, Any], is_the_end: bool
) -> None:
    """The first ones converged early, so that their last step isn't where trials end."""
    studied = study_of(*(trial_of([1.0, 0.6, *[0.4 + 0.01 * k] * 8]) for k in range(3)))
    improving = [2.0 / step for step in range(1, 15)]
    for values in (improving, [*improving, *[0.15] * 6]):
        decision = pruner(**settings).decide(studied, running(values))
        is_stuck = values is not improving
        assert decision.stop_reason is (StopReason.CONVERGED if is_the_end and is_stuck else None)
        assert (is_the_end and is_stuck) or decision.message.endswith("past where the finished trials ended")


def test_thousands_of_a_unit_are_written_out_in_the_reason() -> None:
    studied = study_of(*(trial_of(curve(f), steps=[504 * s for s in STEPS]) for f in (0.351, 0.4, 0.5)))
    stuck = running([3.0, 2.0, 1.5, 1.412, 1.412, 1.412, 1.412], steps=[504 * s for s in STEPS])
    decision = pruner(patience=1512, unit="samples").decide(studied, stuck)
    assert decision.message.startswith("plateaued at 1.412 for 1,512 samples; ")


def test_epochs_that_count_from_0_are_told_as_those_that_are_done() -> None:
    studied = study_of(*(trial_of(curve(f), steps=range(20)) for f in (0.35, 0.4, 0.5)))
    for first in (0.9, NAN):  # which says that epochs count from 0, too
        decision = pruner(unit="epochs").decide(studied, running([first, 0.8, 0.7], steps=range(3)))
        assert decision.message.startswith("at 0.7 after 3 epochs; ")


def test_the_reason_names_value_patience_best_and_chance() -> None:
    stuck = running([3.0, 2.0, 1.5, 1.412, 1.412, 1.412, 1.412])
    decision = pruner(patience=3000, unit="epochs", unit_size=1000).decide(
        study_of(*(trial_of(curve(f), steps=[1000 * s for s in STEPS]) for f in (0.351, 0.4, 0.5))),
        running([3.0, 2.0, 1.5, 1.412, 1.412, 1.412, 1.412], steps=[1000 * s for s in STEPS]),
    )
    assert decision.stop_reason == StopReason.PRUNED_PLATEAU
    assert decision.message == (
        "plateaued at 1.412 for 3 epochs; trial 0, the best, reached 0.351; the chance to end no more than a seed's "
        "0.018 behind is below 1 % (by 3 finished curves); with 0.6181 by now it would have gone on"
    )
    assert decision.best == 1.412
    assert pruner(patience=3).prune(three_finished(), stuck)


def test_an_audit_at_a_plateau_out_of_reach_runs_on_instead_of_having_converged() -> None:
    stuck = [3.0, 2.0, 1.5, 1.412, 1.412, 1.412, 1.412]
    found = {}
    for number in range(1000, 1040):
        decision = pruner(patience=3, audit_every=8).decide(three_finished(), running(stuck, number=number))
        found.setdefault(decision.outcome, []).append(decision)
    assert set(found) == {None, "pruned"}
    assert all("runs on as a check" in decision.message for decision in found[None])


def test_a_plateau_has_converged_where_finished_curves_stayed_flat() -> None:
    decision = pruner(patience=3).decide(flat_study(), running(FLAT))
    assert decision.stop_reason is StopReason.CONVERGED
    assert decision.best == 0.33
    assert "the best so far" in decision.message
    assert "those flat here stayed so" in decision.message


def test_nothing_converges_where_finished_curves_fell_after_their_plateau() -> None:
    for decays in (None, False):
        told = PlateauPruner(decays_to_end=decays, audit_every=0)
        assert told.decide(flat_study(late=0.7), running(FLAT)).outcome is None
    assert pruner(patience=3).decide(flat_study(late=0.7), running(FLAT)).outcome is None


def test_two_flat_curves_are_too_few_to_believe_in_plateaus() -> None:
    two = study_of(*(trial_of([3 * f, 2 * f, 1.1 * f, *[f] * 17]) for f in (0.35, 0.36)), trial_of(curve(0.4)))
    assert pruner(patience=3).decide(two, running(FLAT)).outcome is None


def test_curves_that_ended_early_are_no_evidence_for_plateaus() -> None:
    early = [trial_of([3 * f, 2 * f, 1.1 * f, *[f] * 4]) for f in (0.35, 0.36, 0.37)]
    study = study_of(*early, trial_of(curve(0.4)))
    assert pruner(patience=3).decide(study, running(FLAT)).outcome is None


def test_nothing_converges_while_learning_rate_decay_remains() -> None:
    study = flat_study()
    assert pruner(patience=3).decide(study, running(FLAT)).outcome == "complete"
    assert pruner(patience=3).decide(study, running(FLAT), decay_remaining=True).outcome is None
    assert pruner(patience=3, decays_to_end=True).decide(study, running(FLAT)).outcome is None
    attributed = running(FLAT, **{DECAY_REMAINING: True})
    assert pruner(patience=3).decide(study, attributed).outcome is None
    assert pruner(patience=3, decays_to_end=True).decide(study, attributed, decay_remaining=False).outcome == "complete"


def test_a_hopeless_trial_is_pruned_while_it_still_improves() -> None:
    decision = pruner().decide(three_finished(), running(curve(2.0)[:5]))
    assert decision.stop_reason is StopReason.PRUNED_HOPELESS
    assert decision.probability < 0.05
    assert "trial 0, the best, reached 0.35" in decision.message


def test_a_verdict_says_with_what_value_the_trial_would_have_gone_on() -> None:
    study, values = three_finished(), curve(2.0)[:5]
    message = pruner().decide(study, running(values)).message
    saving = float(message.split("; with ")[1].split(" by now")[0])
    assert 0.35 < saving < values[-1]
    assert pruner().decide(study, running([*values[:-1], saving * 0.999])).outcome is None
    assert pruner().decide(study, running([*values[:-1], saving * 1.01])).outcome == "pruned"


def test_a_trial_a_seed_behind_the_best_is_not_hopeless() -> None:
    rng = np.random.default_rng(1)
    noisy = [trial_of(list(np.array(curve(f)) * np.exp(0.1 * rng.standard_normal(20)))) for f in [0.35] * 6]
    behind = running(list(np.array(curve(0.38)[:12]) * np.exp(0.1 * rng.standard_normal(12))))
    assert pruner().decide(study_of(*noisy), behind).outcome is None


def test_a_trial_that_is_behind_now_but_falls_faster_goes_on() -> None:
    crossing = [trial_of(curve(f, exponent=e), lr=lr) for f, e, lr in ((0.35, 0.1, 0.001), (0.4, 0.2, 0.003))]
    study = study_of(*crossing, trial_of(curve(0.36, exponent=0.9), lr=0.1))
    behind = running(curve(0.30, exponent=0.9)[:8], lr=0.1)
    assert behind.intermediate_values[8] > curve(0.35, exponent=0.1)[7]
    assert pruner().decide(study, behind).outcome is None


def test_maximising_mirrors_minimising() -> None:
    for values in (curve(2.0)[:5], [1.0, 0.5, 0.34, 0.33, 0.33, 0.33, 0.33], curve(0.34)[:6]):
        down = pruner(patience=3).decide(three_finished(), running(values))
        up_study = study_of(*(trial_of([10 - v for v in curve(f)]) for f in (0.35, 0.4, 0.5)), direction="maximize")
        up = pruner(patience=3).decide(up_study, running([10 - v for v in values]))
        assert up.outcome == down.outcome


# Divergence


@pytest.mark.parametrize("tail", [[NAN, NAN], [INF, NAN], [INF, INF], [60.0, 900.0]])
def test_divergence_is_told_apart_even_in_the_first_trial(tail: list[float]) -> None:
    decision = pruner().decide(study_of(), running([2.3, 2.0, 1.9, *tail]))
    assert decision.stop_reason is StopReason.DIVERGED
    assert "diverged" in decision.message
    assert decision.best == 1.9


def test_what_diverged_is_told_as_it_was_reported() -> None:
    decision = pruner().decide(study_of(direction="maximize"), running([0.1, INF, INF]))
    assert decision.message == "diverged: the last two reports are inf and inf"


@pytest.mark.parametrize("values", [[NAN], [2.3, NAN], [2.3, INF], [2.3, NAN, 2.0], [2.3, 2.0, 1.9, 2.6, 2.7]])
def test_one_bad_report_or_a_small_rise_is_no_divergence(values: list[float]) -> None:
    assert pruner().decide(study_of(), running(values)).outcome is None


@pytest.mark.parametrize("values", [[0.0, -0.01, -0.02], [0.01, -0.2, -0.3]])
def test_a_small_step_down_from_near_zero_is_no_divergence(values: list[float]) -> None:
    assert pruner().decide(study_of(direction="maximize"), running(values)).outcome is None


def test_a_score_far_below_its_first_has_diverged() -> None:
    decision = pruner().decide(study_of(direction="maximize"), running([0.2, -50.0, -80.0]))
    assert decision.stop_reason is StopReason.DIVERGED


def test_a_loss_that_starts_at_zero_is_not_said_to_diverge() -> None:
    assert pruner().decide(study_of(), running([0.0, 0.01, 0.02])).outcome is None


def test_a_trial_without_reports_goes_on() -> None:
    assert not pruner().prune(three_finished(), running([]))
    assert pruner().decide(three_finished(), running([])).outcome is None


def test_missing_reports_are_tolerated() -> None:
    values = [NAN if step % 2 else value for step, value in zip(STEPS, curve(2.0), strict=True)][:9]
    assert pruner().prune(three_finished(), running(values))


# Not confirming itself


def test_nothing_is_pruned_for_its_chance_before_three_have_finished() -> None:
    hopeless = running(curve(9.0)[:10])
    assert not pruner().prune(study_of(trial_of(curve(0.3)), trial_of(curve(0.4))), hopeless)
    assert pruner().prune(three_finished(), hopeless)
    assert not pruner(min_finished=4).prune(three_finished(), hopeless)


def test_an_earlier_studys_curves_let_the_second_trial_be_pruned() -> None:
    earlier, study = three_finished(study_name="earlier"), study_of(trial_of(curve(0.35)))
    hopeless = running([9.0, 8.9, 8.8, 8.75, 8.7])
    assert not pruner().decide(study, hopeless).is_stop
    study.pruner = pickle.loads(pickle.dumps(pruner(prior_from=earlier)))
    decision = study.pruner.decide(study, hopeless)
    assert decision.stop_reason is StopReason.PRUNED_HOPELESS
    assert "by 4 finished curves" in decision.message
    assert "prior_from='earlier'" in repr(study.pruner)
    assert not study.pruner.decide(study_of(), hopeless).is_stop  # nothing of its own to compare with


def test_an_earlier_study_that_goes_the_other_way_is_refused() -> None:
    earlier = optuna.create_study(study_name="earlier", direction="maximize")
    assert pruner(prior_from=earlier).decide(study_of(), running(curve(0.4)[:5])).outcome is None  # it has no curves
    earlier.add_trials([trial_of(curve(0.35))])
    with pytest.raises(ConfigError, match="'earlier', which is to be maximised while this one is to be minimised"):
        pruner(prior_from=earlier).decide(study_of(), running(curve(0.4)[:5]))


def test_an_earlier_study_with_longer_trials_says_nothing_of_these() -> None:
    longer = study_of(*(trial_of(curve(final), steps=range(2, 41, 2)) for final in (0.35, 0.4, 0.5)))
    study = study_of(trial_of(curve(0.35)), pruner=pruner(prior_from=longer))
    assert not study.pruner.decide(study, running([9.0, 8.9, 8.8, 8.75, 8.7])).is_stop


def test_nothing_is_pruned_for_its_chance_before_the_third_report() -> None:
    assert not pruner().prune(three_finished(), running(curve(9.0)[:2]))
    assert pruner().prune(three_finished(), running(curve(9.0)[:3]))


@pytest.mark.slow
def test_about_one_prunable_trial_in_eight_runs_on_whatever_process_asks() -> None:
    study, hopeless = three_finished(), curve(9.0)[:5]
    spared = [n for n in range(400) if not PlateauPruner().prune(study, running(hopeless, number=n))]
    assert 35 <= len(spared) <= 65
    assert max(np.diff(spared)) < 40
    again = pickle.loads(pickle.dumps(PlateauPruner()))
    assert all(not again.prune(study, running(hopeless, number=n)) for n in spared[:10])


def test_after_three_prunes_at_the_first_possible_report_the_next_trial_runs_on() -> None:
    done = [trial_of(curve(f)) for f in (0.35, 0.4, 0.5)]
    early = [trial_of(curve(9.0)[:3], state=TrialState.PRUNED) for _ in range(3)]
    late = trial_of(curve(9.0)[:6], state=TrialState.PRUNED)
    assert not pruner().prune(study_of(*done, *early), running(curve(9.0)[:4], number=6))
    assert pruner().prune(study_of(*done, *early[:2]), running(curve(9.0)[:4], number=5))
    assert pruner().prune(study_of(*done, *early[:2], late), running(curve(9.0)[:4], number=6))


def test_a_trial_that_has_come_to_where_trials_end_is_not_pruned() -> None:
    assert pruner().prune(three_finished(), running(curve(9.0)[:19]))
    at_the_end = pruner().decide(three_finished(), running(curve(9.0)))
    assert at_the_end.outcome is None
    assert "where trials end" in at_the_end.message


def test_the_best_trial_is_never_pruned_for_its_chance() -> None:
    ahead = running([5.0, 0.2, 4.0, 4.5, 4.4])  # its best so far already beats every finished trial
    assert not pruner().prune(three_finished(), ahead)


# Other studies, other pruners, other samplers


def test_several_objectives_have_no_best_to_be_out_of_reach_of() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    decision = pruner().decide(study, running(curve(9.0)[:9]))
    assert decision.outcome is None
    assert "several objectives" in decision.message
    assert pruner().decide(study, running([1.0, NAN, NAN])).stop_reason == StopReason.DIVERGED


def test_a_wrapped_pruner_counts_once_a_trial_no_longer_improves() -> None:
    wrapping = pruner(patience=3, wrapped_pruner=AlwaysPrunes())
    improving = running([1.0, 0.9, 0.8, 0.7, 0.6, 0.5])
    stuck = running([1.0, 0.5, 0.34, 0.33, 0.33, 0.33, 0.33])
    assert not wrapping.prune(study_of(), improving)
    decision = wrapping.decide(study_of(), stuck)
    assert decision.stop_reason is StopReason.PRUNED
    assert "AlwaysPrunes" in decision.message
    assert wrapping.decide(study_of(), stuck, decay_remaining=True).outcome == "pruned"


@dataclass
class Certain:
    mean: float
    sd: float
    noise: float = 0.0
    noise_sd: float = 0.0

    def transform(self, values: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(values, dtype=float)


class CertainSampler(optuna.samplers.RandomSampler):
    def __init__(self, mean: float) -> None:
        super().__init__(seed=0)
        self._mean = mean

    def predict(self, study: optuna.Study, params: dict) -> Certain:
        return Certain(self._mean, 0.01)


def test_the_samplers_belief_about_the_point_counts() -> None:
    values = curve(0.37)[:4]
    chances = {
        mean: pruner().decide(three_finished(sampler=CertainSampler(mean)), running(values)).probability
        for mean in (0.2, 0.6)
    }
    assert chances[0.2] > 0.5
    assert chances[0.6] < 0.05


def test_our_sampler_and_pruner_work_together_in_plain_optuna() -> None:
    study = optuna.create_study(sampler=bsopt.ScalingSampler(seed=0), pruner=PlateauPruner(patience=3))

    def objective(trial: optuna.Trial) -> float:
        size = trial.suggest_int("batch_size", 8, 512, log=True)
        lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
        final = 0.3 + 0.03 * math.log2(lr / (0.02 * math.sqrt(size / 32))) ** 2
        for step, value in zip(STEPS, curve(final), strict=True):
            trial.report(value, step)
            if (best := conclude(trial)) is not None:
                return best
        return final

    study.optimize(objective, n_trials=14)
    states = [t.state for t in study.trials]
    assert TrialState.PRUNED in states
    assert states.count(TrialState.COMPLETE) >= 4
    assert study.best_value < 0.35
    pruned = next(t for t in study.trials if t.state == TrialState.PRUNED)
    record = read_record(study, pruned)
    assert record.stop_reason is not None
    assert record.stop_reason.outcome == "pruned"
    assert "the best, reached" in record.message
    assert record.value == min(pruned.intermediate_values.values())


def test_a_trial_without_batch_size_or_learning_rate_is_judged_by_its_curve() -> None:
    study = study_of()
    for final in (0.35, 0.4, 0.5):
        study.add_trial(
            optuna.trial.create_trial(
                value=final, params={}, distributions={},
                intermediate_values=dict(zip(STEPS, curve(final), strict=True)),
            )
        )  # fmt: skip
    assert pruner().prune(study, running(curve(9.0)[:5]))
    assert not pruner().prune(study, running(curve(0.3)[:5]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patience": 0}, "patience must be above 0, in the steps that trials report, got 0"),
        ({"patience": NAN}, "patience must be above 0"),
        ({"min_delta": -1.0}, "min_delta must be at least 0"),
        ({"threshold": 1.0}, "threshold must be in"),
        ({"margin": -0.1}, "margin must be in"),
        ({"min_finished": 0}, "min_finished must be at least 1"),
        ({"min_reports": 0}, "min_reports must be at least 1"),
        ({"audit_every": 1}, "audit_every must be 0 or at least 2"),
        ({"target": INF}, "target must be a finite number"),
        ({"unit_size": 0}, "unit_size must be above 0"),
        ({"prior_from": "earlier"}, "prior_from must be an Optuna study"),
        ({"rule": "kers"}, "Did you mean 'keras'"),
        ({"patience": "3 epochs"}, "patience must be above 0, in the steps that trials report, got '3 epochs'"),
        ({"lr": 0.1}, "lr must be the name of a parameter"),
        ({"wrapped_pruner": 3}, "wrapped_pruner must be an Optuna pruner, got 3"),
    ],
)
def test_mistakes_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PlateauPruner(**arguments)


def _median_seconds(function: Callable[[], object], repeats: int = 15) -> float:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return float(np.median(times))


def test_a_decision_takes_milliseconds_with_300_finished_trials() -> None:
    rng = np.random.default_rng(0)
    trials = [
        trial_of(curve(0.3 + rng.random()), batch_size=int(2 ** rng.uniform(3, 10)), lr=10 ** rng.uniform(-4, 0))
        for _ in range(300)
    ]
    study, decider = study_of(*trials), pruner(patience=3)
    going, hopeless = running(curve(0.3)[:10]), running(curve(3.0)[:10])
    assert _median_seconds(lambda: decider.decide(study, going)) < 0.005
    assert _median_seconds(lambda: decider.decide(study, hopeless)) < 0.025  # once a trial


def test_representation_rebuilds_the_pruner() -> None:
    made = bsopt.PlateauPruner(patience=3, rule="keras", decays_to_end=True, lr="eta")
    assert repr(made) == "PlateauPruner(patience=3, rule='keras', decays_to_end=True, lr='eta')"
    assert vars(eval(repr(made), {"PlateauPruner": bsopt.PlateauPruner})) == vars(made)


@pytest.mark.parametrize(
    ("reports", "num_trials", "value", "told"),
    [
        (0, 5, 1.0, "no trial reports anything. Call trial.report"),
        (2, 5, 0.5, "trials report at most 2 times, and none is judged before it has made 3"),
        (6, 2, 0.2, "the first 3 trials run to their end, and 2 have finished"),
        (6, 5, 1.0 / 6.0, "it must call bsopt.conclude"),
        (6, 5, 40.0, "trials return something else than they report"),
    ],
)
def test_a_pruner_that_prunes_nothing_says_why(reports: int, num_trials: int, value: float, told: str) -> None:
    study = optuna.create_study(pruner=bsopt.PlateauPruner())
    for trial in (study.ask() for _ in range(num_trials)):
        for step in range(reports):
            trial.report(1.0 / (1 + step), step)
        study.tell(trial, value)
    assert told in study.pruner.explain(study)
