"""Where a curve ends, from plain arrays; from an Optuna study: tests/search/test_learning_curves.py."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bsopt.laws.learning_curves import Curve, CurveModel, PredictedFinal, fit_curves

STEPS = np.arange(1.0, 21.0)


def curve(final: float, *, reports: int = 20, b: float = 5.0, x: float = -6.0, exponent: float = 0.3) -> Curve:
    values = final * (STEPS / 20.0) ** -exponent
    return Curve.of(STEPS[:reports], values[:reports], b=b, x=x, final=final if reports == 20 else math.nan)


def model_of(*curves: Curve, sign: float = 1.0) -> CurveModel:
    model = fit_curves(curves, sign=sign)
    assert model is not None
    return model


def test_a_power_law_is_continued_with_its_own_exponent() -> None:
    model = model_of(*(curve(final, x=-8.0 + i) for i, final in enumerate((0.3, 0.35, 0.4, 0.5, 0.6))))
    found = model.predict(curve(0.45, reports=5))
    assert found.mean == pytest.approx(0.45, rel=0.05)
    assert found.quantile(-2.0) < 0.45 < found.quantile(2.0)
    assert found.progress == 0.25


def test_nothing_is_learned_from_values_that_are_no_reports() -> None:
    times = [Curve.of(STEPS, np.linspace(2.0, 1.0, 20), b=5.0, x=-6.0, final=300.0 + i) for i in range(3)]
    assert fit_curves(times, sign=1.0) is None
    assert fit_curves([], sign=1.0) is None


def test_steps_that_count_updates_end_earlier_for_large_batches() -> None:
    def updates(b: float) -> Curve:
        return Curve.of(STEPS * 2.0**-b, curve(0.3).values, b=b, x=-6.0, final=0.3)

    model = model_of(*(updates(b) for b in (3.0, 5.0, 7.0)))
    assert model.per_batch
    assert model.last_step(6.0) == pytest.approx(20.0 / 64.0)
    assert model.last_step(math.nan) == pytest.approx(20.0)


def test_predictions_are_in_the_studys_own_units() -> None:
    negated = [Curve.of(c.steps, c.values - 1.0, b=c.b, x=c.x, final=c.final - 1.0) for c in (curve(0.1), curve(0.2))]
    half = Curve.of(STEPS[:10], curve(0.15).values[:10] - 1.0, b=5.0, x=-6.0)
    found = model_of(*negated, sign=-1.0).predict(half)  # an accuracy, to be maximised
    assert found.best == pytest.approx(1.0 - curve(0.15).values[9])
    assert found.best < found.mean < 1.0


def test_chance_of_beating_a_value_has_the_tails_of_few_curves() -> None:
    few, many = (
        PredictedFinal(0.5, 0.05, 0.5, 0.1, floor=0.0, best=0.6, progress=0.5, freedom=freedom) for freedom in (2, 40)
    )
    assert few.chance_of_beating(0.5) == many.chance_of_beating(0.5) == 0.5
    assert few.chance_of_beating(0.3) > many.chance_of_beating(0.3) > 0.0
    assert few.chance_of_beating(-0.1) == 0.0
    assert few.chance_of_beating(math.inf) == 1.0
