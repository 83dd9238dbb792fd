"""What a batch size costs on a placement of devices."""

from __future__ import annotations

import math

from bsopt.laws.communication import predict_update_seconds
from bsopt.laws.estimate import Estimate
from bsopt.recommendation.evidence import Evidence, counts, has_target, plan_or_none
from bsopt.recommendation.fits import Fits
from bsopt.recommendation.result import Cost
from bsopt.trial.plan import Plan

__all__ = ["costs_of", "pareto", "product", "update_seconds"]


def costs_of(evidence: Evidence, size: int) -> list[Cost]:
    """Costs of a size on every placement up to the asked one whose time can be predicted."""
    if has_target(evidence):
        predicted = evidence.fits.steps.predict(size)
        if predicted is None:
            return []
        samples = predicted.samples
    elif evidence.budget:
        samples = Estimate(evidence.budget, evidence.budget, evidence.budget)
    else:
        return []
    placements = {(k, 1) for k in (1, 2, 4, 8, 16, 32, 64) if k <= evidence.num_devices}
    placements.add((evidence.num_devices, evidence.num_nodes))
    found = []
    for devices, nodes in sorted(placements):
        plan = plan_or_none(evidence, size, devices, nodes)
        update = update_seconds(evidence.fits, plan) if plan is not None else None
        if plan is None or update is None or plan.global_batch_size != size:
            continue
        seconds = product(samples.scaled(1.0 / size), update)
        watts = evidence.fits.power.predict(plan.micro_batch_size, step_time=evidence.fits.step_time)
        energy = product(seconds, watts).scaled(plan.world_size) if watts else None
        found.append(Cost(size, plan, samples, seconds, seconds.scaled(plan.world_size / 3600.0), energy))
    return found


def update_seconds(fits: Fits, plan: Plan) -> Estimate | None:
    """Return the time of an optimizer update on a placement; None where it can't be told."""
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


def product(a: Estimate, b: Estimate) -> Estimate:
    """Return the product of two independent positive estimates; their log intervals add in quadrature."""
    up = math.hypot(math.log(a.high / a.value), math.log(b.high / b.value))
    down = math.hypot(*(math.log(e.value / e.low) if e.low > 0 else math.inf for e in (a, b)))
    value = a.value * b.value
    return Estimate(value, value * math.exp(-down), value * math.exp(up))


def pareto(evidence: Evidence) -> tuple[Cost, ...]:
    costs = [cost for size in evidence.sizes for cost in costs_of(evidence, size) if counts(evidence, size)]
    costs.sort(key=lambda c: (c.seconds.value, c.device_hours.value))
    kept: list[Cost] = []
    for cost in costs:
        if not kept or cost.device_hours.value < kept[-1].device_hours.value:
            kept.append(cost)
    return tuple(kept)
