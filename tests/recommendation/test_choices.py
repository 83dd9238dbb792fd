"""What a choice says of itself: what makes its settings doubtful."""

from __future__ import annotations

from dataclasses import replace

from bsopt.laws.estimate import Estimate
from bsopt.laws.lr_ridge import Valley
from bsopt.recommendation import Evidence, recommend_from
from bsopt.storage.attributes import read_info, read_records
from bsopt.testing.study import example_study


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
