"""Every question that people have is answered, with what it is known from, or why not."""

from __future__ import annotations

import math
import re

import numpy as np
import optuna
import pytest
from recommended_studies import evidence_of, foreign, loss, ours

from bsopt.laws.estimate import Estimate, FitStatus
from bsopt.recommendation import Answer, Evidence, Refusal, answers, recommend
from bsopt.recommendation.choices import _of_one_run
from bsopt.storage.attributes import read_info, read_records
from bsopt.testing.study import example_study


def asked(study: optuna.Study) -> list[Answer]:
    return answers(evidence_of(study))


def test_every_question_is_answered_with_its_basis() -> None:
    for study in (foreign(0), foreign(3), foreign(50), ours(batch_norm=True)):
        replies = asked(study)
        assert len(replies) == 9
        assert all(reply.answer and reply.basis for reply in replies)
    by_question = {reply.question: reply for reply in asked(foreign(0))}
    assert {reply.basis for reply in by_question.values()} == {"not measured"}


def test_measured_times_and_memory_answer_the_articles_questions() -> None:
    replies = {reply.question: reply.answer for reply in asked(ours())}
    assert "samples per second" in replies["What does it do to time?"]
    assert "MiB per sample" in replies["What does it do to memory?"]
    assert "by devices" in replies["What would more GPUs change?"]


def test_the_rule_that_holds_is_named_with_its_interval() -> None:
    answer = next(a for a in asked(ours()) if a.question == "Which scaling rule holds here?")
    assert re.search(r"grows as B\^0\.\d+ \(90 %: 0?\.?\S+ to \S+\)", answer.answer)  # 0.8 flattening at 256
    ridge = Evidence.of(read_info(ours()), read_records(ours())).fits.ridge
    assert ridge.exponent is not None
    fitting = answer.answer.split("rules out")[0]
    assert ("the square-root rule (0.5)" in fitting) == (0.5 in ridge.exponent)
    assert "a constant (0)" not in fitting


def test_rules_that_all_miss_are_named_and_a_saturating_one_is_not_denied() -> None:
    replies = {reply.question: reply.answer for reply in asked(example_study())}
    growth = r"The best learning rate grows as B\^0\.\d+ \(90 %: \S+ to \S+\)\."
    rules = r" It rules out the linear rule \(1\), the square-root rule \(0\.5\) and a constant \(0\)\."
    assert re.fullmatch(growth + rules, replies["Which scaling rule holds here?"])  # the study's own rule saturates
    assert re.search(growth, replies["Does scaling the learning rate close the gap, and by how much?"])


@pytest.mark.slow
def test_rates_that_are_as_good_rule_no_rule_out_and_are_told() -> None:
    study, rng = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)), np.random.default_rng(1)
    for size, octaves, noise in zip(
        rng.integers(3, 11, 60), rng.uniform(-12, -1, 60), rng.standard_normal(60), strict=True
    ):
        params = {"batch_size": int(2**size), "lr": float(2**octaves)}
        spaces = {
            "batch_size": optuna.distributions.IntDistribution(8, 1024, log=True),
            "lr": optuna.distributions.FloatDistribution(2.0**-12, 0.5, log=True),
        }
        value = 1.0 + 0.3 * max(octaves + 3.0, 0.0) ** 2 + 0.02 * noise
        study.add_trial(optuna.trial.create_trial(params=params, distributions=spaces, value=value))
    evidence = evidence_of(study)
    assert evidence.fits.ridge.is_flat
    said = {reply.question: reply.answer for reply in answers(evidence)}
    assert said["Which scaling rule holds here?"].startswith("None can be ruled out")
    assert any("are about as good" in caveat for caveat in recommend(study).caveats)


def test_of_one_batch_size_nothing_is_told_of_what_the_batch_size_does() -> None:
    rng = np.random.default_rng(0)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(
        lambda trial: loss(
            trial.suggest_int("batch_size", 64, 64),
            trial.suggest_float("lr", 1e-4, 1.0, log=True),
            0.002 * rng.standard_normal(),
        ),
        n_trials=12,
    )
    said = {a.question: a.answer for a in asked(study)}
    alone = "It can't be told yet: all trials ran at batch size 64."
    assert said["What does the batch size do to accuracy?"] == alone
    assert said["Does scaling the learning rate close the gap, and by how much?"] == alone
    assert said["Which scaling rule holds here?"].endswith("that takes batch sizes a factor of two apart.")
    found = recommend(study)
    assert found.sentence.endswith("; no other batch size was tried.")


def test_a_rate_of_its_own_that_does_no_better_closes_nothing_of_the_gap() -> None:
    rng = np.random.default_rng(0)
    study = optuna.create_study()
    for B in (32, 128, 512):
        for lr in (0.01, 0.03, 0.1):
            for _ in range(6):
                trial = study.ask()
                trial.suggest_int("batch_size", B, B)
                trial.suggest_float("lr", lr, lr)
                away = math.log2(lr / 0.02) - 0.5 * math.log2(B / 32)
                worse = 0.03 * away**2 + 0.02 * max(math.log2(B / 64), 0.0) ** 2
                study.tell(trial, 0.1 + worse + 0.1 * rng.standard_normal())
    said = next(a.answer for a in asked(study) if a.question.startswith("Does scaling"))
    assert "-" not in said.split("of the gap")[0]


def test_every_cost_goal_is_answered_or_refused_with_a_reason_for_the_devices_asked() -> None:
    found = recommend(ours(), num_devices=8)
    told = {choice.goal: choice for choice in found.alternatives} | {
        refusal.goal: refusal for refusal in found.refusals
    }
    assert {"fastest", "cheapest", "frugal"} <= set(told)
    for goal in ("fastest", "cheapest"):
        choice = told[goal]
        assert not isinstance(choice, Refusal)
        assert choice.cost is not None
        assert choice.cost.plan.num_devices == 8
    frugal = told["frugal"]
    assert isinstance(frugal, Refusal)
    assert "energy" in frugal.reason


def test_a_loss_whose_values_span_decades_is_not_expected_below_zero() -> None:
    below = _of_one_run(Estimate(-0.006, -0.02, 0.001), 0.001, perfect=0.0, sign=1.0)
    assert (below.value, below.low) == (0.0, 0.0)
    assert _of_one_run(Estimate(-0.006, -0.02, 0.001), None, perfect=0.0, sign=1.0).value == 0.0
    rng = np.random.default_rng(0)
    study = optuna.create_study()
    for _ in range(40):
        trial = study.ask()
        B, lr = 2 ** int(rng.integers(3, 11)), 10.0 ** float(rng.uniform(-4, 0))
        trial.suggest_int("batch_size", B, B)
        trial.suggest_float("lr", lr, lr)
        worse = min(0.2 * (math.log2(lr / 0.02) - 0.5 * math.log2(B / 32)) ** 2, 4.0)
        study.tell(trial, 1e-4 * 10.0**worse)
    told = next(a.answer for a in asked(study) if a.question.startswith("What does the batch size do to accuracy"))
    assert " -" not in told
    assert all(size.value is None or size.value.value >= 0.0 for size in recommend(study).sizes)


def test_where_the_noise_is_unknown_one_more_run_has_no_interval() -> None:
    study = foreign(6)
    few = recommend(study)
    assert few.status is FitStatus.OK
    assert few.choice is not None
    assert few.choice.value is not None
    assert not few.choice.value.is_bounded
    assert few.choice.lr.is_bounded
    assert ": expect value" in few.sentence
    assert any("How far one more run may end" in caveat for caveat in few.caveats)
    assert not re.search(r"\b(inf|nan)\b", " ".join([few.sentence, *few.caveats, *(a.answer for a in asked(study))]))


def test_without_a_target_the_quickest_is_one_as_good_as_the_best_over_the_budget() -> None:
    found = recommend(example_study(40), goal="fastest")
    assert found.choice is not None
    assert found.choice.batch_size in found.ties
    assert any("over the budget" in reason for reason in found.choice.reasons)
    right = next(a for a in asked(example_study(40)) if a.question.startswith("Is my batch size too large"))
    assert "which tells the batch sizes apart" in right.answer  # the critical batch size has a target of its own
