"""The light of each batch size."""

from __future__ import annotations

import re
from dataclasses import replace

from bsopt.laws.estimate import Estimate, FitStatus
from bsopt.recommendation.result import Choice, Recommendation, SizeFinding, SizeState
from bsopt.report.sizes import size_lights
from bsopt.trial.plan import Plan

CHOICE = Choice("quality", 16, Estimate(0.02, 0.01, 0.03), Plan(16))
FOUND = Recommendation(
    FitStatus.OK,
    "Batch size 16.",
    "digits",
    "val_loss",
    choice=CHOICE,
    margin=0.005,
    sizes=(
        SizeFinding(8, SizeState.OPEN, 2, 0.4, Estimate(0.01, 0.0, 0.02), 3),
        SizeFinding(16, SizeState.TESTED, 5, 0.9, Estimate(0.0, 0.0, 0.0), 1),
        SizeFinding(32, SizeState.SUPPORTED, 0, 0.8, Estimate(0.001, 0.0, 0.002)),
        SizeFinding(64, SizeState.TESTED, 1, 0.8, Estimate(0.001, 0.0, 0.002), 7),
        SizeFinding(128, SizeState.WORSE, 3, 0.01, Estimate(0.1, 0.05, 0.2), 9),
        SizeFinding(256, SizeState.WORSE, 0, 0.001, Estimate(0.2, 0.1, 0.4)),
        SizeFinding(512, SizeState.NOT_TESTED, 0, 0.3, Estimate(0.2, 0.0, 0.8)),
    ),
)


def _rows(found: Recommendation) -> list[list[str]]:
    body = str(size_lights(found)).split("<tbody>")[1]
    return [
        re.findall(r'class="(size [^"]+)"', row) + re.findall(r">([^<]+)<", row) for row in body.split("</tr>")[:-1]
    ]


def test_each_state_has_its_light_its_words_and_its_trials() -> None:
    rows = _rows(FOUND)
    assert [row[:5] for row in rows] == [
        ["size open", "?", "8", "can't be told yet", "2"],
        ["size best", "★", "16", "recommended", "5"],
        ["size supported", "≈", "32", "as good, by its neighbours", "0"],
        ["size tested", "✓", "64", "as good, tested", "1"],
        ["size worse", "✗", "128", "worse, tested", "3"],
        ["size worse", "✗", "256", "worse, by the fit", "0"],
        ["size not-tested", "–", "512", "not tested", "0"],
    ]


def test_a_sign_is_not_read_out_beside_the_words_that_say_the_same() -> None:
    assert str(size_lights(FOUND)).count('aria-hidden="true"') == len(FOUND.sizes)


def test_one_batch_size_alone_needs_no_light() -> None:
    assert size_lights(replace(FOUND, sizes=FOUND.sizes[1:2])) is None
    assert size_lights(replace(FOUND, margin=None)) is None
