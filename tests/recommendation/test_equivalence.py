"""Which batch sizes are as good as the best, which are worse, and what is said of one where nothing ran."""

from __future__ import annotations

import math
from dataclasses import replace

import optuna
import pytest
from recommended_studies import best_log_lr, foreign, of_records, ours, trial

from bsopt.errors import ConfigError
from bsopt.laws.estimate import FitStatus
from bsopt.recommendation import Evidence, Recommendation, SizeState, answers, recommend, recommend_from
from bsopt.storage.attributes import read_info, read_records
from bsopt.trial.objective import Objective
from bsopt.trial.record import StopReason, StudyInfo


def test_sizes_that_are_equal_within_noise_are_ties_and_worse_ones_are_not(found: Recommendation) -> None:
    assert len(found.ties) >= 2
    assert max(found.ties) <= 256
    assert "tested to be as good" in found.sentence
    states = {finding.batch_size: finding for finding in found.sizes}
    assert states[512].state is SizeState.WORSE
    assert states[512].num_complete > 0


def test_batch_size_may_be_given_and_need_not_have_run() -> None:
    choice = recommend(foreign(50), at_batch_size=96).choice
    assert choice is not None
    assert choice.batch_size == 96
    assert abs(math.log2(choice.lr.value) - best_log_lr(math.log2(96))) < 0.6


def test_sizes_whose_trials_were_all_pruned_are_not_called_as_good() -> None:
    study = ours()
    records = read_records(study)
    pruned = [
        replace(r, outcome="pruned", stop_reason=StopReason.PRUNED_HOPELESS) if r.batch_size in (64, 128) else r
        for r in records
    ]
    found = recommend_from(Evidence.of(read_info(study), pruned))
    states = {finding.batch_size: finding for finding in found.sizes}
    assert found.choice is not None
    assert found.choice.batch_size not in (64, 128)
    for size in (64, 128):
        assert size not in found.ties
        assert states[size].num_complete == 0
        assert states[size].state in (SizeState.NOT_TESTED, SizeState.SUPPORTED, SizeState.WORSE)
    largest = {choice.goal: choice for choice in found.alternatives}.get("largest")
    assert largest is None or largest.batch_size not in (64, 128)


def test_a_size_that_ran_far_from_its_best_rate_is_not_tested_there() -> None:
    def found(lr_at_64: float) -> Recommendation:
        ran = [(b, octaves) for b in (16, 32, 128) for octaves in (-2, -1, 0, 1)] + [(64, math.log2(lr_at_64 / 0.01))]
        return of_records(*(trial(i, b, 0.01 * 2**o, 1 + 0.1 * o**2) for i, (b, o) in enumerate(ran)))

    far, near = ({size.batch_size: size for size in found(lr).sizes}[64] for lr in (0.2, 0.012))
    assert (far.state, near.state) == (SizeState.OPEN, SizeState.TESTED)
    assert far.num_complete == 1
    assert (far.words, near.words) == ("no trial near its best rate", "as good, tested")
    assert any(run.batch_size == 64 and run.lr < 0.03 for run in found(0.2).next_runs)


def test_a_worse_size_that_ran_far_from_its_best_rate_is_worse_by_the_fit() -> None:
    ran = [(b, octaves) for b in (16, 32, 128, 256) for octaves in (-2, -1, 0, 1)]
    ran = [(b, 3 if b == 128 else o) for b, o in ran if b != 128 or o == 0]
    found = of_records(
        *(trial(i, b, 0.01 * 2**o, 1 + 0.1 * o**2 + 0.5 * max(math.log2(b / 32), 0)) for i, (b, o) in enumerate(ran))
    )
    words = {size.batch_size: size.words for size in found.sizes}
    assert (words[128], words[256]) == ("worse, by the fit", "worse, tested")


def test_a_large_size_that_ran_only_at_rates_of_a_small_one_is_not_called_worse() -> None:
    """Each octave of batch size moves the best rate by one; the tried ones end where 16 has its own, at 0.01."""
    records = [
        trial(10 * b + i, 2**b, lr, 1.0 + 0.02 * math.log2(lr / (0.01 * 2.0 ** (b - 4))) ** 2)
        for b in range(4, 8)
        for i, lr in enumerate((0.0006, 0.00125, 0.0025, 0.005, 0.01))
    ]
    info = StudyInfo("made", objective=Objective("loss"), batch_size_range=(16, 128), lr_range=(1e-4, 1.0))
    found = recommend_from(Evidence.of(info, records))
    sizes = {size.batch_size: size for size in found.sizes}
    assert (sizes[128].state, sizes[128].words) == (SizeState.OPEN, "no trial near its best rate")
    assert sizes[128].chance > 0.1
    run = found.next_runs[-1]
    assert (run.batch_size, run.lr, run.repeats) == (32, pytest.approx(0.02), None)
    assert run.reason == "whether 32 is as good as 16 at a learning rate above the highest that was tried, 0.01"
    quality = next(told for told in answers(Evidence.of(info, records)) if "accuracy" in told.question)
    assert quality.answer.endswith("A better one may lie beyond them for 128.")
    narrow = recommend_from(Evidence.of(replace(info, lr_range=(6e-4, 0.01)), records))
    asked = {size.batch_size: size for size in narrow.sizes}
    assert asked[128].state is SizeState.WORSE  # at the rates that may be used


def test_clearly_worse_sizes_of_a_noiseless_study_are_not_as_good() -> None:
    records = [
        trial(10 * b + i, 2**b, lr, 1.0 + 0.05 * abs(b - 5) + 0.1 * math.log2(lr / 0.01) ** 2)
        for b in range(3, 9)
        for i, lr in enumerate((0.005, 0.01, 0.02))
    ]
    found = of_records(*records)
    assert found.choice is not None
    assert found.choice.batch_size == 32
    assert found.ties == (32,)


def test_a_size_where_nothing_ran_is_not_given_another_sizes_value() -> None:
    few = foreign(4)
    assert 256 not in [trial.params["batch_size"] for trial in few.trials]
    found = recommend(few, at_batch_size=256)
    assert found.choice is not None
    assert found.choice.value is None
    assert found.choice.goal == "asked"
    assert "no trial ran to its end there" in found.sentence
    assert "best of 4 complete trials (" not in found.sentence
    assert found.choice.lr.value != few.best_params["lr"]
    assert "No trial ran at 256" in found.to_yaml()
    assert "No trial ran at 256" in found.to_lightning()


def test_a_size_that_was_asked_for_is_not_called_the_best() -> None:
    found = recommend(foreign(50), at_batch_size=512)
    assert found.choice is not None
    assert found.choice.goal == "asked"
    assert "it is worse than" in found.sentence
    assert next(choice.goal for choice in found.alternatives) == "quality"


@pytest.mark.parametrize(("direction", "perfect"), [("minimize", 0.0), ("maximize", 1.0)])
def test_a_wide_range_of_rates_makes_no_wide_margin(direction: str, perfect: float) -> None:
    """Half of the trials don't learn: 2 % of the way to them is 0.02, two thirds of the best loss."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), direction=direction)

    def objective(trial: optuna.Trial) -> float:
        off = math.log2(trial.suggest_float("lr", 1e-6, 10.0, log=True) / 0.01)
        trial.suggest_int("batch_size", 8, 128, log=True)
        return abs(perfect - min(0.03 + 0.005 * off**2, 0.9))

    study.optimize(objective, n_trials=25)
    found = recommend(study)
    assert found.margin == pytest.approx(0.1 * abs(study.best_value - perfect), rel=0.01)


def test_a_margin_of_ones_own_decides_what_is_as_good() -> None:
    wide, narrow = (recommend(foreign(50), margin=margin) for margin in (0.2, 0.0))
    assert wide.margin == 0.2
    assert len(wide.ties) > len(narrow.ties) == 1
    with pytest.raises(ConfigError, match="margin must be 0 or more"):
        recommend(foreign(1), margin=-1.0)


def test_states_do_not_depend_on_the_devices_asked_about() -> None:
    one, eight = (recommend(ours(), num_devices=k) for k in (1, 8))
    assert [(f.batch_size, f.state) for f in one.sizes] == [(f.batch_size, f.state) for f in eight.sizes]


def test_repeats_tell_who_is_as_good() -> None:
    around = (-0.005, 0.005, 0.0, -0.002, 0.002, 0.001)
    values = {size: [centre + step for step in around] for size, centre in {16: 0.305, 32: 0.305, 64: 0.405}.items()}
    records = [
        trial(100 * size + i, size, lr, value + 0.02 * math.log2(lr / 0.01) ** 2)
        for size, group in values.items()
        for i, value in enumerate(group)
        for lr in (0.0025, 0.005, 0.01, 0.02, 0.04)
    ]
    found = of_records(*records)
    assert found.status is FitStatus.OK
    assert found.ties == (16, 32)
    assert not any("noise between seeds" in caveat for caveat in found.caveats)
