"""The answer follows known laws, says how sure it is, and never makes up a number."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from itertools import pairwise
from typing import cast

import numpy as np
import optuna
import pytest
import yaml
from recommended_studies import best_log_lr, evidence_of, foreign, loss, of_records, ours, trial

import bsopt
from bsopt.errors import ConfigError
from bsopt.laws.estimate import Estimate, FitStatus
from bsopt.laws.lr_ridge import LrPrediction
from bsopt.recommendation import Evidence, Recommendation, recommend, recommend_from
from bsopt.recommendation.choices import _of_one_run
from bsopt.recommendation.fits import fit_laws
from bsopt.recommendation.result import SizeState
from bsopt.serialization import to_json
from bsopt.storage.attributes import read_info, read_records, write_info
from bsopt.testing.study import example_study
from bsopt.trial.objective import Objective
from bsopt.trial.plan import Plan
from bsopt.trial.record import StopReason, StudyInfo


def test_best_quality_is_near_the_known_optimum(found: Recommendation) -> None:
    assert found.status is FitStatus.OK
    assert found.choice is not None
    assert found.choice.batch_size <= 256
    assert abs(math.log2(found.choice.lr.value) - best_log_lr(math.log2(found.choice.batch_size))) < 0.6
    assert found.choice.value is not None
    assert found.choice.value.value == pytest.approx(0.3, abs=0.02)
    assert found.choice.lr.low < found.choice.lr.value < found.choice.lr.high


def test_largest_size_without_loss_is_at_least_the_best_one() -> None:
    largest = recommend(foreign(50), goal="largest").choice
    assert largest is not None
    assert largest.goal == "largest"
    assert 64 <= largest.batch_size <= 256


def test_maximised_metric_gives_the_mirrored_answer(found: Recommendation) -> None:
    mirrored = recommend(foreign(50, direction="maximize")).choice
    assert mirrored is not None
    assert found.choice is not None
    assert mirrored.batch_size == found.choice.batch_size
    assert mirrored.lr.value == pytest.approx(found.choice.lr.value)


def test_package_name_is_the_function_and_the_module() -> None:
    assert bsopt.recommend(foreign(1)).choice is not None


def test_no_trial_has_no_choice() -> None:
    empty = recommend(foreign(0))
    assert empty.choice is None
    assert empty.status is FitStatus.TOO_FEW
    assert empty.to_yaml() == empty.to_lightning() == ""


@pytest.mark.parametrize("num", [1, 3])
def test_few_trials_give_the_best_so_far_without_an_interval(num: int) -> None:
    few = recommend(foreign(num))
    assert few.status is FitStatus.TOO_FEW
    assert few.choice is not None
    assert few.choice.lr.low == 0.0
    assert math.isinf(few.choice.lr.high)
    assert "too few" in few.sentence
    assert few.alternatives == ()


def test_learning_rate_at_the_edge_of_what_was_tried_is_said_within_a_wider_range() -> None:
    records = [r for r in read_records(foreign(40)) if r.lr is not None and r.lr < 2e-3]
    info = StudyInfo("made", lr_range=(1e-4, 1.0))
    said = recommend_from(Evidence.of(info, records))
    assert said.status is FitStatus.OK
    assert any("at the edge of the rates that were tried" in caveat for caveat in said.caveats)


def test_many_trials_that_tell_nothing_are_not_said_to_be_few() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda t: 0.1 + 0.0 * t.suggest_int("batch_size", 8, 64) * t.suggest_float("lr", 0.01, 1.0), 30)
    found = recommend(study)
    assert found.status is FitStatus.CONTRADICTORY
    assert found.sentence.endswith("as every one of 30 complete trials did, which don't say what is best.")
    assert {size.words for size in found.sizes if size.num_complete} == {"can't be told yet", "as good, tested"}
    other = next(size.batch_size for size in found.sizes if size.words == "can't be told yet")
    assert "too few" not in recommend(study, at_batch_size=other).sentence


def test_trials_of_one_value_have_no_best_one() -> None:
    found = of_records(*(trial(number, 8 * 2 ** (number % 3), 1e-3 * 1.5**number, 0.5) for number in range(9)))
    assert found.sentence == (
        "Batch size 8 with learning rate 0.001 ended at loss 0.5, as every one of 9 complete trials did, which don't "
        "say what is best."
    )
    assert found.choice is not None
    assert found.choice.reasons == ("It is the first of 9 complete trials that all ended at the same value.",)


def test_learning_rate_at_the_edge_of_the_range_is_said() -> None:
    edge = recommend(foreign(40, lr_high=2e-3), at_batch_size=1024)
    assert any("edge of the searched range" in caveat for caveat in edge.caveats)


def test_fastest_names_a_faster_size_that_may_be_as_good_and_none_that_is_slower() -> None:
    study = ours()
    known = recommend(study, goal="fastest").choice
    assert known is not None
    assert known.reasons[0].endswith("the least of those known to be as good as the best.")
    assert not any("can't be told yet" in reason for reason in known.reasons)
    strict = recommend(study, goal="fastest", margin=0.002)
    assert strict.choice is not None
    is_open = [found.batch_size for found in strict.sizes if found.state is SizeState.OPEN]
    faster = [size for size in is_open if size > strict.choice.batch_size]
    assert faster
    said = strict.choice.reasons[1]
    assert said.startswith(f"{max(faster)} would take ")
    assert said.endswith("but whether it is as good can't be told yet.")


def test_more_devices_are_faster_and_cost_more_device_hours() -> None:
    study = ours()
    one, two = (recommend(study, goal="fastest", num_devices=k).choice for k in (1, 2))
    assert one is not None
    assert two is not None
    assert one.cost is not None
    assert two.cost is not None
    assert two.plan.num_devices == 2
    assert two.cost.seconds.value < one.cost.seconds.value
    assert one.cost.seconds.low < one.cost.seconds.value < one.cost.seconds.high


@pytest.mark.parametrize(
    ("num_devices", "num_nodes", "bandwidth", "words"),
    [
        (2, 1, None, r"An update takes [\d.]+ ms \(90 %: .*\) on 2 devices, as measured there\."),
        (8, 1, None, r"ms .* on 8 devices: predicted, not measured there\. The all-reduce takes .* over 2 ranks"),
        (8, 1, 25e9, r"ms .* on 8 devices: predicted, .* follows from a given bandwidth of 25 GB/s; none was measured"),
        (2, 2, None, r"What an update takes on 2 nodes of 2 devices isn't known: The all-reduce takes"),
    ],
)
def test_an_answer_for_several_devices_says_what_it_is_known_from(
    num_devices: int, num_nodes: int, bandwidth: float | None, words: str
) -> None:
    study = ours()
    write_info(study, replace(read_info(study), environment={"num_parameters": 1_000_000}))
    found = recommend(study, num_devices=num_devices, num_nodes=num_nodes, bandwidth=bandwidth, at_batch_size=64)
    assert found.choice is not None
    assert re.search(words, " ".join(found.choice.reasons)), found.choice.reasons


def test_an_answer_for_one_device_says_nothing_of_others() -> None:
    choice = recommend(ours(), num_devices=1, at_batch_size=64).choice
    assert choice is not None
    assert not any("An update takes" in reason for reason in choice.reasons)


def test_trials_of_eight_devices_alone_tell_of_eight_devices_alone() -> None:
    study = ours()
    records = [
        replace(record, plan=Plan(record.plan.global_batch_size // 8, 1, 8)) if record.plan is not None else record
        for record in read_records(study)
    ]
    info = read_info(study)
    there = recommend_from(Evidence.of(info, records, num_devices=8), at_batch_size=64).choice
    assert there is not None
    assert any("on 8 devices, as measured there" in reason for reason in there.reasons)
    elsewhere = recommend_from(Evidence.of(info, records, num_devices=4), at_batch_size=64).choice
    assert elsewhere is not None
    assert any("on 4 devices isn't known" in reason for reason in elsewhere.reasons)


def test_pareto_set_trades_time_for_device_hours() -> None:
    pareto = recommend(ours(), num_devices=4).pareto
    assert len(pareto) >= 2
    assert all(a.seconds.value <= b.seconds.value for a, b in pairwise(pareto))
    assert all(a.device_hours.value > b.device_hours.value for a, b in pairwise(pareto))


def test_other_nodes_are_refused_with_a_reason() -> None:
    answer = recommend(ours(), goal="fastest", num_devices=2, num_nodes=2)
    assert any("Times on 2 nodes of 2 devices can't be predicted" in caveat for caveat in answer.caveats)


def test_memory_forces_accumulation_and_batch_norm_is_warned_of() -> None:
    choice = recommend(ours(max_micro=8, batch_norm=True), at_batch_size=64)
    assert choice.choice is not None
    assert choice.choice.plan == Plan(8, 8, 1, 1, choice.choice.plan.reason)
    assert any("accumulated" in reason for reason in choice.choice.reasons)
    assert any("BatchNorm" in caveat for caveat in choice.caveats)


def test_longer_budget_is_said_not_to_be_the_studys() -> None:
    longer = recommend(ours(), budget="40 epochs")
    assert any("at the study's own budget" in caveat for caveat in longer.caveats)


def test_unknown_goal_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="fastest"):
        recommend(foreign(1), goal="fastes")


def test_settings_to_paste_follow_the_study_files_inject() -> None:
    study = ours()
    write_info(study, replace(read_info(study), config={"inject": {"lr": "cfg.optim.lr", "batch_size": "loader.bs"}}))
    found = recommend(study)
    assert found.choice is not None
    settings = yaml.safe_load(found.to_yaml())
    assert settings["model"] == {"cfg": {"optim": {"lr": pytest.approx(found.choice.lr.value, rel=1e-3)}}}
    assert settings["data"] == {"loader": {"bs": found.choice.plan.micro_batch_size}}


def test_values_far_from_zero_are_told_apart_in_their_interval() -> None:
    study = foreign(30)
    far = [replace(record, value=cast(float, record.value) + 10230.0) for record in read_records(study)]
    found = recommend_from(Evidence.of(read_info(study), far))
    said = re.search(r"expect value (\S+) \(90 %: (\S+) to (\S+)\)", found.sentence)
    assert said is not None, found.sentence
    value, low, high = map(float, said.groups())
    assert 10230.0 < low < value < high


def test_answer_can_be_pasted_and_stored(found: Recommendation) -> None:
    settings = yaml.safe_load(found.to_yaml())
    assert found.choice is not None
    assert settings["data"]["batch_size"] == found.choice.plan.micro_batch_size
    compile(found.to_lightning(), "snippet", "exec")
    stored = json.loads(json.dumps(to_json(found), allow_nan=False))
    assert stored["choice"]["batch_size"] == found.choice.batch_size
    assert stored["status"] == "ok"


@pytest.mark.slow
def test_a_given_bandwidth_stands_in_for_measured_placements() -> None:
    study = ours()
    write_info(study, replace(read_info(study), environment={"num_parameters": 1_000_000}))
    options = {"goal": "fastest", "num_devices": 2, "num_nodes": 2}
    answer = recommend(study, **options, bandwidth=25e9)  # type: ignore[arg-type]
    assert answer.choice is not None
    assert answer.choice.cost is not None
    assert answer.choice.cost.plan.num_nodes == 2
    slow = recommend(study, **options, bandwidth=1e7).choice  # type: ignore[arg-type]
    assert slow is not None
    assert slow.cost is not None
    assert slow.cost.seconds.value > answer.choice.cost.seconds.value
    with pytest.raises(ConfigError, match="number of parameters"):
        recommend(ours(), bandwidth=1e9)


def test_momentum_moves_with_the_batch_size() -> None:
    study = ours()
    config = {"task": {"model": {"class_path": "m.M", "init_args": {"momentum": 0.9}}}}
    write_info(study, replace(read_info(study), config=config))
    best = recommend(study).choice
    assert best is not None
    trained = study.best_trial.params["batch_size"]
    asked = recommend(study, at_batch_size=2 * trained).choice
    assert asked is not None
    assert asked.companions is not None
    assert asked.companions["momentum"] == pytest.approx(0.81)


@pytest.mark.slow
def test_times_are_told_to_the_target_that_is_asked_for_or_why_not() -> None:
    study = example_study(40)
    target = fit_laws(read_records(study), read_info(study)).steps.target
    assert target is not None
    named = recommend(study, goal="fastest", target=target)
    assert named.choice is not None
    assert any(f"to val_loss {target:.4g}" in reason for reason in named.choice.reasons)
    never = recommend(study, goal="fastest", target=1e-6)
    assert any(caveat.startswith("Times and costs are over the budget: those to val_loss") for caveat in never.caveats)
    write_info(study, replace(read_info(study), objective=Objective("val_loss", target=target)))
    assert recommend(study, goal="fastest").choice == named.choice


def test_another_target_than_the_one_that_trials_ended_at_is_refused() -> None:
    study = example_study(20)
    write_info(study, replace(read_info(study), objective=Objective("val_loss", target=0.4, cost="seconds")))
    with pytest.raises(ConfigError, match="trials ended there"):
        recommend(study, target=0.3)
    with pytest.raises(ConfigError, match="finite"):
        recommend(study, target=math.nan)


def test_companions_are_told_only_near_the_best_trials_own_size() -> None:
    study = ours()
    trained = study.best_trial.params["batch_size"]
    far = recommend(study, at_batch_size=16 * trained).choice
    assert far is not None
    assert far.companions is None


@pytest.mark.slow
def test_records_alone_are_answered_as_their_study_is() -> None:
    study = foreign(50)
    alone, found = recommend_from(Evidence.of(read_info(study), read_records(study))), recommend(study)
    assert (alone.sentence, alone.ties) == (found.sentence, found.ties)


def test_the_best_of_a_few_records_has_no_interval() -> None:
    few = of_records(trial(0, 32, 0.1, 0.5), trial(1, 64, 0.1, 0.4))
    assert few.status is FitStatus.TOO_FEW
    assert few.choice is not None
    assert few.choice.batch_size == 64
    assert few.choice.value is not None
    assert (few.choice.value.value, few.choice.value.low) == (0.4, -math.inf)
    assert few.ties == (64,)


def test_an_infinite_value_is_never_the_best() -> None:
    choice = of_records(trial(0, 8, 0.1, -math.inf), trial(1, 16, 0.1, 0.9)).choice
    assert choice is not None
    assert choice.batch_size == 16


@pytest.mark.parametrize("reason", [StopReason.DIVERGED, StopReason.OUT_OF_MEMORY])
def test_a_trial_that_broke_off_is_never_recommended(reason: StopReason) -> None:
    assert of_records(trial(0, 32, 0.1, 0.5, reason)).choice is None
    choice = of_records(trial(0, 32, 0.1, 0.5, reason), trial(1, 16, 0.1, 0.6, StopReason.PRUNED_PLATEAU)).choice
    assert choice is not None
    assert choice.batch_size == 16


def test_both_ends_of_the_searched_ranges_are_told() -> None:
    for size in (8, 10):  # TPE and others seldom propose the very end
        caveats = of_records(trial(0, size, 0.99, 0.1)).caveats
        assert len([caveat for caveat in caveats if "edge of the searched range" in caveat]) == 2


def test_several_objectives_are_answered_by_their_pareto_front() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=optuna.samplers.RandomSampler(0))

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        B = trial.suggest_int("batch_size", 8, 1024, log=True)
        return loss(B, trial.suggest_float("lr", 1e-4, 1.0, log=True), 0.0), float(B)

    study.optimize(objective, n_trials=30)
    for goal in ("quality", "fastest"):
        found = recommend(study, goal=goal)
        assert found.choice is None
        assert {point.trial for point in found.front} == {trial.number for trial in study.best_trials}
        assert "no single best batch size" in found.sentence


def test_a_cost_to_a_target_is_named_in_the_sentence() -> None:
    info = StudyInfo("made", objective=Objective("loss", target=0.1, cost="seconds"))
    found = recommend_from(Evidence.of(info, [trial(0, 32, 0.1, 12.5)]))
    assert "(seconds to the target 12.5)" in found.sentence


@pytest.mark.parametrize(
    ("value", "perfect", "low", "high"),
    [
        (Estimate(1.0, 0.9, 1.2), None, 1.0 - math.hypot(0.1, 1.645), 1.0 + math.hypot(0.2, 1.645)),
        (Estimate(1.0, 0.9, 1.2), 0.0, 0.0, 1.0 + math.hypot(0.2, 1.645)),
        (Estimate(1.0, -90.0, 1.2), 0.0, 0.0, 1.0 + math.hypot(0.2, 1.645)),  # losses over decades
        (Estimate(0.8, 0.7, 0.85), 1.0, 0.8 - math.hypot(0.1, 1.645), 1.0),
        (Estimate(0.9, 0.8, 1.004), 1.0, 0.9 - math.hypot(0.1, 1.645), 1.0),  # the law passes a perfect accuracy
        (Estimate(100.0, 99.9, 100.2), 0.0, 100.0 - math.hypot(0.1, 1.645), 100.0 + math.hypot(0.2, 1.645)),
    ],
)
def test_one_more_run_has_noise_and_never_beats_a_perfect_value(
    value: Estimate, perfect: float | None, low: float, high: float
) -> None:
    sign = -1.0 if perfect == 1.0 else 1.0
    found = _of_one_run(value, 1.0, perfect=perfect, sign=sign)
    assert (found.low, found.value, found.high) == pytest.approx((low, value.value, high), rel=1e-3)


def test_a_size_that_is_chosen_for_its_little_doubt_is_not_said_to_have_the_best_predicted_value() -> None:
    evidence = evidence_of(foreign(40))
    sure = LrPrediction(32.0, Estimate(0.1, 0.1, 0.1), 0.1, 0.1, Estimate(0.5, 0.5, 0.5), False, False)
    vague, draws = replace(sure, batch_size=64.0, value=Estimate(0.4, 0.1, 0.9)), ((0.5, 0.4),) * 2
    evidence = Evidence.of(
        StudyInfo("made"),
        [trial(0, 32, 0.1, 0.5), trial(1, 64, 0.1, 0.9)],
        fits=replace(
            evidence.fits,
            ridge=replace(evidence.fits.ridge, table=(sure, vague), value_draws=draws, anywhere_draws=draws),
        ),
    )
    found = recommend_from(evidence).choice
    assert found is not None
    assert found.batch_size == 32
    assert found.reasons[0].startswith("Its predicted value, doubt counted against it, is the best of all")


def test_repeats_of_the_very_same_value_are_not_said_to_be_missing() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for lr in (0.003, 0.01, 0.03):
        for _ in range(4):
            study.enqueue_trial({"batch_size": 64, "lr": lr})
    study.optimize(
        lambda trial: loss(
            trial.suggest_int("batch_size", 64, 64), trial.suggest_float("lr", 1e-4, 1.0, log=True), noise=0.0
        ),
        n_trials=16,
    )
    said = " ".join(recommend(study).caveats)
    assert "often enough" not in said
    assert "Repeated settings gave the very same values" in said


@pytest.mark.slow
def test_noise_that_few_trials_tell_widens_what_one_run_is_expected_to_show() -> None:
    few, many = (Evidence.of(read_info(study), read_records(study)) for study in (foreign(10), foreign(120)))
    widening = [cast(float, e.fits.run_sd) / cast(float, e.fits.noise_sd) for e in (few, many)]
    assert widening[0] > 1.15
    assert widening[1] == pytest.approx(1.0, abs=0.1)


def test_repeats_tell_the_noise_where_few_trials_ran() -> None:
    again = [trial(i, 64, 0.04, 0.3 + 0.01 * i) for i in range(4)]
    few = of_records(*again, trial(4, 64, 0.01, 0.5), trial(5, 8, 0.01, 0.4), trial(6, 256, 0.1, 0.35))
    assert few.status is FitStatus.OK
    assert few.choice is not None
    assert few.choice.value is not None
    assert few.choice.value.is_bounded


@pytest.mark.slow
def test_few_trials_promise_no_more_than_their_noise_allows() -> None:
    """After 8 trials an interval for one more run holds most new runs, though no setting was repeated."""
    held = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        for _ in range(8):
            asked = study.ask()
            size, lr = asked.suggest_int("batch_size", 8, 1024, log=True), asked.suggest_float("lr", 1e-3, 1, log=True)
            study.tell(asked, loss(size, lr, 0.03 * rng.standard_normal()))
        choice = recommend(study).choice
        if choice is not None and choice.value is not None:
            new = loss(choice.batch_size, choice.lr.value, 0.0) + 0.03 * rng.standard_normal(40)
            held.append(np.mean((choice.value.low <= new) & (new <= choice.value.high)))
    assert np.mean(held) > 0.8


def test_trials_that_were_all_stopped_early_are_not_called_complete() -> None:
    choice = of_records(*(trial(i, 16 * 2**i, 0.01, 1.0 + i, StopReason.PRUNED_HOPELESS) for i in range(3))).choice
    assert choice is not None
    assert choice.reasons[0] == "It is the best of the trials that were stopped early so far."


def test_one_learning_rate_is_no_range_to_widen() -> None:
    info = StudyInfo("made", batch_size_range=(8, 64), lr_range=(0.01, 0.01))
    caveats = recommend_from(Evidence.of(info, [trial(i, 16 * 2**i, 0.01, 1.0 + i) for i in range(3)])).caveats
    assert "Only the learning rate 0.01 was searched: a better one may lie anywhere." in caveats


@pytest.mark.parametrize(
    ("num", "said"),
    [
        (0, "No trial has run yet, so there is no answer."),
        (1, "The only trial hasn't ended with a finite value, so there is no answer yet."),
        (3, "None of 3 trials ended with a finite value, so there is no answer yet."),
    ],
)
def test_no_answer_says_how_many_trials_gave_none(num: int, said: str) -> None:
    found = of_records(*(trial(i, 16, 0.01, math.nan, StopReason.DIVERGED) for i in range(num)))
    assert (found.choice, found.sentence) == (None, said)
