"""Records become laws: targets, noise, times and memory, and a status where there is too little."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import optuna
import pytest

from bsopt import ScalingSampler, recommend
from bsopt.laws.estimate import FitStatus
from bsopt.recommendation import Evidence
from bsopt.recommendation.costs import samples_at
from bsopt.recommendation.fits import Fits, fit_laws
from bsopt.storage.attributes import read_info, read_records
from bsopt.testing.study import example_data
from bsopt.testing.surfaces import synthetic
from bsopt.trial.objective import Objective
from bsopt.trial.plan import Plan
from bsopt.trial.record import StopReason, StudyInfo, Tick, TrialRecord

BUDGET, TICK = 20_000.0, 500.0
INFO = StudyInfo(
    "digits",
    objective=Objective("val_loss"),
    batch_size_range=(8, 512),
    lr_range=(1e-4, 1.0),
    optimizer="sgd",
    num_train_samples=1000,
    budget_samples=BUDGET,
    tick_samples=TICK,
)


def record(number: int, B: int, lr: float, *, noise: float = 0.0, devices: int = 1) -> TrialRecord:
    """A trial of a known law: lr*(B) = 0.01·(B/32)^0.7, critical batch size 128, t(b) = 10 ms + 0.1 ms·b."""
    octaves = math.log2(lr / (0.01 * (B / 32) ** 0.7))
    ticks = []
    for i in range(1, int(BUDGET / TICK) + 1):
        effective = i * TICK / (1 + B / 128) / (1 + 0.1 * octaves**2)
        ticks.append(
            Tick(
                i,
                i * TICK,
                int(i * TICK / B),
                i * TICK / 1000,
                i * 0.1,
                2.0 * (1 + effective / 200) ** -0.5 + noise,
                lr,
            )
        )
    return TrialRecord(
        number,
        "complete",
        B,
        lr,
        {"batch_size": B, "lr": lr},
        StopReason.COMPLETED,
        value=ticks[-1].value,
        best_tick=len(ticks),
        ticks=tuple(ticks),
        plan=Plan(B // devices, 1, devices),
        seconds=10.0,
        seconds_per_step=0.01 + 1e-4 * B / devices + (0.002 if devices > 1 else 0.0),
        peak_memory_bytes=int(1e8 + 1e6 * B / devices),
        energy_joules=2000.0 * devices,
    )


def study(num: int = 42, *, noise: float = 0.001) -> list[TrialRecord]:
    rng = np.random.default_rng(0)
    sizes = (8, 16, 32, 64, 128, 256, 512)
    return [
        record(
            i,
            sizes[i % 7],
            0.01 * (sizes[i % 7] / 32) ** 0.7 * 2.0 ** rng.uniform(-3, 3),
            noise=noise * rng.standard_normal(),
        )
        for i in range(num)
    ]


@pytest.fixture(scope="module")
def fits() -> Fits:
    return fit_laws(study(), INFO)


def test_ridge_is_recovered_from_records(fits: Fits) -> None:
    for B in (16, 64, 256):
        found = fits.ridge.predict(B)
        assert found is not None
        assert abs(math.log2(found.lr.value / (0.01 * (B / 32) ** 0.7))) < 0.6


def test_critical_batch_size_comes_from_the_curves(fits: Fits) -> None:
    assert fits.steps.status is FitStatus.OK
    assert fits.steps.critical_batch_size is not None
    assert 60 < fits.steps.critical_batch_size.value < 280


def test_chosen_target_was_reached_by_most_batch_sizes(fits: Fits) -> None:
    reached = [run for run in fits.target_runs if math.isfinite(run.samples)]
    assert len(reached) >= 0.7 * len(fits.target_runs)
    assert max(run.samples for run in reached) > 0.5 * BUDGET


def test_the_automatic_target_tells_the_sizes_apart() -> None:
    slow = [replace(r, ticks=r.ticks[::8]) for r in study()]
    found = fit_laws(slow, replace(INFO, tick_samples=8 * TICK))
    seen = [run for run in found.target_runs if math.isfinite(run.samples) and not run.is_upper_bound]
    assert len(seen) >= 3


def test_reports_of_an_unknown_unit_give_no_samples_to_target() -> None:
    found = fit_laws(study(), replace(INFO, step_unit=None)).steps
    assert found.status is FitStatus.TOO_FEW
    assert "--step-unit" in found.message


def test_given_target_is_kept() -> None:
    assert fit_laws(study(), replace(INFO, objective=Objective("val_loss", target=0.9))).steps.target == 0.9


def test_step_time_memory_and_power_come_from_the_plans(fits: Fits) -> None:
    seconds, peak, watts = (
        fits.step_time.predict(64),
        fits.memory.predict(64),
        fits.power.predict(64, step_time=fits.step_time),
    )
    assert seconds is not None
    assert peak is not None
    assert watts is not None
    assert seconds.value == pytest.approx(0.0164, rel=0.06)
    assert peak.value == pytest.approx(1.64e8, rel=0.02)
    assert watts.value == pytest.approx(200.0, rel=0.05)


def test_placements_of_several_devices_teach_communication() -> None:
    more = [record(100 + i, B, 0.01, devices=k) for i, (B, k) in enumerate([(64, 2), (128, 2), (128, 4), (256, 4)])]
    fits = fit_laws([*study(), *more], INFO)
    assert fits.communication.status is FitStatus.OK
    assert fits.communication.covers(8, 1)
    assert not fits.communication.covers(8, 2)


def test_noise_is_that_of_repeated_settings() -> None:
    rng = np.random.default_rng(1)
    repeats = [record(100 + i, 64, 0.016, noise=0.02 * rng.standard_normal()) for i in range(12)]
    fits = fit_laws([*study(), *repeats], INFO)
    assert fits.noise_is_repeated
    assert fits.noise_sd == pytest.approx(0.02, rel=0.5)


def test_diverged_and_out_of_memory_trials_do_not_become_values() -> None:
    bad = [
        replace(record(200, 64, 0.9), outcome="pruned", stop_reason=StopReason.DIVERGED, value=1e-9),
        replace(record(201, 512, 0.05), outcome="pruned", stop_reason=StopReason.OUT_OF_MEMORY, value=None, ticks=()),
    ]
    fits = fit_laws([*study(), *bad], INFO)
    found = fits.ridge.predict(64)
    assert found is not None
    assert found.lr.value < 0.1


def test_shorter_budget_is_judged_by_the_values_within_it(fits: Fits) -> None:
    short = fit_laws(study(), INFO, budget_samples=BUDGET / 4)
    long_value, short_value = fits.ridge.predict(64), short.ridge.predict(64)
    assert long_value is not None
    assert short_value is not None
    assert short_value.value.value > 1.3 * long_value.value.value


@pytest.mark.parametrize("num", [0, 1, 2])
def test_few_records_give_statuses_and_no_error(num: int) -> None:
    fits = fit_laws(study()[:num], INFO)
    assert fits.num_complete == num
    assert fits.ridge.status is FitStatus.TOO_FEW
    assert fits.steps.status is FitStatus.TOO_FEW
    assert fits.communication.status is FitStatus.TOO_FEW


def test_the_spread_is_that_of_the_ranges_and_not_of_where_a_search_ended_up() -> None:
    surface = synthetic("basin", 1)
    study = optuna.create_study(sampler=ScalingSampler(optimizer=surface.optimizer, seed=0))
    study.optimize(lambda trial: surface.value(surface.suggest(trial)), n_trials=30)
    fits = fit_laws(read_records(study), read_info(study), study=study)
    known = surface.median - surface.best
    seen = np.median([t.values[0] for t in study.trials]) - study.best_value
    assert fits.spread == pytest.approx(known, rel=0.6)
    assert seen < 0.3 * known


def test_variants_of_an_experiment_do_not_count() -> None:
    plain = [record(i, B, lr) for i, (B, lr) in enumerate([(8, 0.01), (32, 0.01), (128, 0.03), (32, 0.1)] * 2)]
    varied = [
        replace(r, number=r.number + 8, design_variant="half", seconds_per_step=1e-6, value=1e-9, peak_memory_bytes=1)
        for r in plain
    ]
    assert repr(fit_laws([*plain, *varied], INFO)) == repr(fit_laws(plain, INFO))  # arrays have no one truth


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_trials_that_were_all_stopped_early_still_have_a_best_so_far(direction: str) -> None:
    study = optuna.create_study(direction=direction, sampler=optuna.samplers.RandomSampler(0))

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_int("batch_size", 8, 512, log=True)
        trial.suggest_float("lr", 1e-3, 1.0, log=True)
        trial.report(1.0, 1)
        raise optuna.TrialPruned

    study.optimize(objective, n_trials=6)
    fits = fit_laws(read_records(study), read_info(study), study=study)
    assert fits.spread == 0.0
    assert "was the best so far when it was stopped early" in recommend(study).sentence


@pytest.mark.slow
def test_many_trials_leave_no_weight_to_valleys_where_nothing_ran() -> None:
    found = example_data(60).fits.ridge.predict(256)  # eleven complete trials there, all around one learning rate
    assert found is not None
    assert not found.valleys
    assert found.lr.high < 2 * found.lr.low


def test_laws_and_costs_of_batches_that_are_counted_in_tokens_are_in_tokens() -> None:
    def in_tokens(made: TrialRecord) -> TrialRecord:
        B, plan = made.batch_size, made.plan
        assert B is not None
        assert plan is not None
        return replace(made, batch_size=10 * B, plan=replace(plan, micro_batch_size=10 * plan.micro_batch_size))

    records = study()
    samples, tokens = INFO, replace(INFO, units_per_sample=10.0)
    told = Evidence.of(samples, records), Evidence.of(tokens, [in_tokens(made) for made in records])
    (plain, scaled) = (samples_at(evidence, size) for evidence, size in zip(told, (64, 640), strict=True))
    assert plain is not None
    assert scaled is not None
    assert scaled.value == pytest.approx(10 * plain.value)
    laws = [evidence.fits.steps.predict(size) for evidence, size in zip(told, (64, 640), strict=True)]
    assert laws[0] is not None
    assert laws[1] is not None
    assert laws[1].samples.value == pytest.approx(10 * laws[0].samples.value, rel=0.05)
    assert laws[1].steps.value == pytest.approx(laws[0].steps.value, rel=0.05)
