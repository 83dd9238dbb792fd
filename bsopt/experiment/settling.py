"""The seeds that would settle what an experiment can't tell yet: which runs, and what for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import optuna

from bsopt.experiment.findings.table import lr_of_arms
from bsopt.experiment.measurements import Experiment, experiment_of
from bsopt.storage import queue
from bsopt.trial.designed import DesignedRun

__all__ = ["MOST_TIMES", "Settling", "queue_settling_seeds", "settling_of"]

MOST_TIMES = 3
"""A finding that needs more than so many times the seeds it has is left open: its effect is small, or nothing."""


@dataclass(frozen=True, slots=True)
class Settling:
    """What would settle an experiment's open findings.

    Attributes:
        runs: To be trained, seed by seed; none where nothing is to be settled, or where runs of the design are missing.
        seeds: Finding -> seeds in all that would decide it.
        left_open: Findings that need too many.
        look: How often the experiment has been judged, this time included.
    """

    runs: tuple[DesignedRun, ...]
    seeds: dict[str, int]
    left_open: tuple[str, ...]
    look: int


def settling_of(experiment: Experiment) -> Settling:
    """Return the runs that would decide, with 80 % power, what an experiment's verdicts can't tell.

    Only the batch sizes and learning rates that an open finding compares are trained with more seeds.
    """
    seeds, left, runs = {}, [], set()
    of_variants = [verdict for found in experiment.variant_verdicts.values() for verdict in found]
    for verdict in (*experiment.verdicts, *of_variants):
        needed, there = verdict.seeds_to_decide, verdict.num_seeds or 0
        if needed is None:
            continue
        if needed > MOST_TIMES * there:
            left.append(verdict.key)
            continue
        seeds[verdict.key] = needed
        runs |= {
            replace(run, seed=seed) for run in _configurations(experiment, verdict.places) for seed in range(needed)
        }
    trained = (*experiment.runs, *experiment.varied)
    known = {run.designed.key for run in trained}
    new = [run for run in runs if run.key not in known]
    ordered = sorted(new, key=lambda run: (run.seed, run.batch_size, run.lr, run.variant or ""))
    look = 1 + max((run.record.design_look for run in trained), default=0)
    return Settling(tuple(ordered), seeds, tuple(left), look)


def queue_settling_seeds(study: optuna.Study) -> Settling | None:
    """Queue the runs that would settle a study's experiment, beside its design; return what they are.

    Nothing is queued while runs of the design, or of an earlier call, are still to be trained: the verdicts will be
    others then.

    Returns:
        None where the study has no experiment.
    """
    experiment = experiment_of(study)
    if experiment is None:
        return None
    found = settling_of(experiment)
    if experiment.num_missing or queue.num_waiting_designed(study):
        return Settling((), found.seeds, found.left_open, found.look)
    queue.queue_design(study, found.runs, further=experiment.design.further, look=found.look)
    return found


def _configurations(experiment: Experiment, places: Iterable[tuple[str, int]]) -> Iterator[DesignedRun]:
    """Return the runs of one seed, the first, at these places."""
    design = experiment.design
    for place, size in places:
        arm, _, variant = place.partition("/")
        if arm == "grid":
            yield from (DesignedRun(size, lr, 0) for lr in design.grid)
            continue
        rates = lr_of_arms(
            size,
            smallest_batch_size=design.batch_sizes[0],
            reference_lr=design.reference_lr,
            higher_lr=design.higher_lr,
        )
        yield DesignedRun(size, rates[arm], 0, variant or None)
