"""What a choice says of itself: what makes its settings doubtful, and what it was chosen by."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

from recommended_studies import foreign, trial

from bsopt.laws.estimate import Estimate
from bsopt.laws.lr_ridge import Valley
from bsopt.recommendation import Evidence, recommend, recommend_from
from bsopt.recommendation.result import SizeState
from bsopt.storage.attributes import read_info, read_records
from bsopt.testing.study import example_study
from bsopt.trial.record import StudyInfo
from bsopt.units import format_duration


def test_two_places_of_the_best_learning_rate_are_both_told() -> None:
    study = example_study()
    found = Evidence.of(read_info(study), read_records(study), study=study)
    valleys = (Valley(Estimate(0.002, 0.001, 0.003), 0.25), Valley(Estimate(0.06, 0.05, 0.07), 0.75))
    ridge = found.fits.ridge
    table = tuple(replace(row, valleys=valleys) for row in ridge.table)
    choice = recommend_from(replace(found, fits=replace(found.fits, ridge=replace(ridge, table=table)))).choice
    assert choice is not None
    told = f"The best learning rate at {choice.batch_size} is near 0.002 (25%) or near 0.06 (75%); a trial at each"
    assert any(doubt.startswith(told) for doubt in choice.doubts)


def test_a_size_that_was_searched_is_realised_though_it_is_above_the_number_of_samples() -> None:
    study = example_study()
    info = read_info(study)
    assert info.batch_size_range is not None
    largest = info.batch_size_range[1]
    in_tokens = replace(info, num_train_samples=largest // 4)
    found = Evidence.of(in_tokens, read_records(study), study=study)
    assert found.plan(largest).global_batch_size == largest


def test_other_devices_need_measured_times() -> None:
    fastest = recommend(foreign(50), goal="fastest", num_devices=8)
    assert any("No trial measured how long" in caveat for caveat in fastest.caveats)


def test_where_no_update_was_timed_the_trials_themselves_say_what_is_fastest() -> None:
    records = [
        replace(record, seconds=(3.0 + 0.01 * record.number) * (64.0 / record.batch_size) ** 0.5)
        for record in read_records(foreign(50))
        if record.batch_size
    ]
    evidence = Evidence.of(read_info(foreign(50)), records)
    found = {choice.goal: choice for choice in recommend_from(evidence).alternatives}
    assert {"fastest", "cheapest"} <= found.keys()
    size = found["fastest"].batch_size
    assert size == found["cheapest"].batch_size == max(evidence.ties)
    took = sorted(r.seconds for r in evidence.by_size[size] if r.seconds and r.outcome == "complete")
    middle = statistics.median(took)
    assert found["fastest"].reasons[0] == (
        f"A trial took {format_duration(middle)} there ({format_duration(took[0])} to {format_duration(took[-1])}), "
        "the least of those known to be as good as the best."
    )
    assert found["cheapest"].reasons[0].startswith(f"A trial took {format_duration(middle)} of device time there")
    alike = Evidence.of(read_info(foreign(50)), [replace(record, seconds=36.0) for record in records])
    same = {choice.goal: choice for choice in recommend_from(alike).alternatives}["fastest"]
    assert same.reasons[0].startswith("A trial took 36 s there, the least")
    strict = Evidence.of(read_info(foreign(50)), records, margin=0.004)
    is_open = [f.batch_size for f in strict.findings if f.state is SizeState.OPEN and f.batch_size > max(strict.ties)]
    fastest = {choice.goal: choice for choice in recommend_from(strict).alternatives}["fastest"]
    assert fastest.reasons[1].startswith(f"At {max(is_open)} one took ")


def test_there_is_no_largest_size_where_the_devices_can_train_none_of_those_as_good() -> None:
    records = [
        trial(10 * b + i, b, lr, 1.0 + 0.1 * math.log2(lr / 0.01) ** 2)
        for b in (5, 7, 9)
        for i, lr in enumerate((0.005, 0.01, 0.02, 0.04))
    ]
    evidence = Evidence.of(StudyInfo("made", lr_range=(1e-4, 1.0)), records, num_devices=8)
    found = recommend_from(evidence, goal="largest")
    said = "No batch size that was tested to be as good as the best can be trained on 8 devices."
    assert found.caveats[0].startswith(said)
