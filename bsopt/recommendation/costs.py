"""What a batch size costs on a placement of devices."""

from __future__ import annotations

import math

from bsopt.laws.communication import predict_update_seconds
from bsopt.laws.estimate import Estimate
from bsopt.recommendation.evidence import Evidence
from bsopt.recommendation.fits import Fits
from bsopt.recommendation.result import Cost
from bsopt.trial.plan import Plan

__all__ = ["costs_at", "costs_that_count", "pareto", "product", "ratio", "samples_at", "update_seconds"]

DEVICES = (1, 2, 4, 8, 16, 32, 64)
"""Devices of one node on which costs are told, as far as that many are asked about."""


def costs_that_count(evidence: Evidence) -> list[Cost]:
    """Return the costs of every size that counts, on every placement up to the one asked about."""
    return [cost for size in evidence.realisable if evidence.counts(size) for cost in costs_at(evidence, size)]


def costs_at(evidence: Evidence, size: int) -> list[Cost]:
    """Return the costs of a size on every placement, up to the one asked about, whose time can be predicted."""
    samples = samples_at(evidence, size)
    if samples is None:
        return []
    placements = {(devices, 1) for devices in DEVICES if devices <= evidence.num_devices}
    placements.add((evidence.num_devices, evidence.num_nodes))
    plans = (evidence.plan_or_none(size, *placement) for placement in sorted(placements))
    costs = (_cost(evidence.fits, plan, samples) for plan in plans if plan and plan.global_batch_size == size)
    return [cost for cost in costs if cost is not None]


def update_seconds(fits: Fits, plan: Plan) -> Estimate | None:
    """Return the seconds of an optimizer update on a placement, measured where its ranks ran; None if unknown."""
    measured = fits.measured_update(plan)
    if measured is not None:
        return measured
    if fits.step_time_world > 1:  # only this placement was ever measured
        step = fits.step_time.predict(plan.micro_batch_size)
        return step.scaled(plan.accumulate_grad_batches) if step and plan.world_size == fits.step_time_world else None
    return predict_update_seconds(
        fits.step_time,
        fits.communication,
        micro_batch_size=plan.micro_batch_size,
        accumulate_grad_batches=plan.accumulate_grad_batches,
        num_devices=plan.num_devices,
        num_nodes=plan.num_nodes,
    )


def ratio(a: Estimate, b: Estimate) -> Estimate:
    """Return a / b of two independent positive estimates."""
    return product(a, Estimate(1.0 / b.value, 1.0 / b.high, 1.0 / b.low))


def product(a: Estimate, b: Estimate) -> Estimate:
    """Return the product of two independent positive estimates; their log intervals add in quadrature."""
    up = math.hypot(math.log(a.high / a.value), math.log(b.high / b.value))
    down = math.hypot(*(math.log(e.value / e.low) if e.low > 0 else math.inf for e in (a, b)))
    value = a.value * b.value
    return Estimate(value, value * math.exp(-down), value * math.exp(up))


def pareto(evidence: Evidence) -> tuple[Cost, ...]:
    """Return the costs that no other beats in both time and device-hours, quickest first."""
    costs = sorted(costs_that_count(evidence), key=lambda cost: (cost.seconds.value, cost.device_hours.value))
    kept: list[Cost] = []
    for cost in costs:
        if not kept or cost.device_hours.value < kept[-1].device_hours.value:
            kept.append(cost)
    return tuple(kept)


def samples_at(evidence: Evidence, size: int) -> Estimate | None:
    """Return the samples to the target, or without one the budget, in what batch sizes are counted in."""
    if evidence.target is not None:
        predicted = evidence.fits.steps.predict(size)
        return predicted.samples if predicted is not None else None
    if not evidence.budget_samples:
        return None
    budget = evidence.budget_samples * evidence.info.units_per_sample
    return Estimate(budget, budget, budget)


def _cost(fits: Fits, plan: Plan, samples: Estimate) -> Cost | None:
    update = update_seconds(fits, plan)
    if update is None:
        return None
    size = plan.global_batch_size
    seconds = product(samples.scaled(1.0 / size), update)
    watts = fits.power.predict(plan.micro_batch_size, step_time=fits.step_time)
    energy = product(seconds, watts).scaled(plan.world_size) if watts else None
    return Cost(size, plan, samples, seconds, seconds.scaled(plan.world_size / 3600.0), energy)
