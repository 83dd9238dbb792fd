"""Examining the weights that designed runs kept: what to examine, in which processes, and what is already known."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bsopt.errors import StudyError, TaskError
from bsopt.experiment.examine import Examination
from bsopt.experiment.measurements import (
    Experiment,
    ExperimentRun,
    experiment_of,
    landscape_key,
    line_key,
    sharpness_key,
)
from bsopt.experiment.measuring import CONTOUR_REACH
from bsopt.storage.attributes import read_analyses, write_analysis
from bsopt.training.processes.crash import Crash
from bsopt.training.processes.supervision import Supervision
from bsopt.trial.plan import Plan
from bsopt.trial.spec import StopDecision

if TYPE_CHECKING:
    from bsopt.study.study import Study

__all__ = ["AnalysisListener", "AnalysisPlan", "analyze"]

ARTIFACT = "analysis.json"


@dataclass(frozen=True, slots=True)
class AnalysisPlan:
    """What is examined, and how thoroughly.

    Attributes:
        kinds: Of "sharpness", "line" and "landscape".
        arms: Whose runs' sharpness is measured, and whose smallest and largest batch sizes are compared otherwise.
            Sharpness is that of the weights at the design's `matched_loss`, where it has one; else, as for the others,
            of the best.
        num_samples: Training (and validation) samples of every evaluation, always the same.
        num_starts: Of each maximisation of sharpness.
        epsilon: Keskar's box.
        rho: The adaptive box.
        subspace_dim: Dimensions of the random subspace.
        max_products: With the Hessian, for the largest curvature.
        num_points: Per axis of a landscape.
        span: Of a landscape, in units of each filter's norm.
        all_seeds: Whether every seed is examined in full. Otherwise more than the first is only where a verdict reads
            it: a landscape is whole for one seed, and a disc around the minimizer for the others; between the smallest
            and the largest batch size of the scaled arm, sharpness is one seed's.
    """

    kinds: tuple[str, ...] = ("sharpness", "line", "landscape")
    arms: tuple[str, ...] = ("fixed_lr", "scaled_lr")
    num_samples: int = 2000
    num_starts: int = 2
    epsilon: float = 1e-3
    rho: float = 1e-3
    subspace_dim: int = 100
    max_products: int = 100
    num_points: int = 25
    span: float = 1.0
    all_seeds: bool = False

    def settings(self, kind: str) -> dict[str, Any]:
        """Return the arguments of one kind's functions of `bsopt.analysis`."""
        by_kind: dict[str, dict[str, Any]] = {
            "sharpness": {
                "num_starts": self.num_starts,
                "epsilon": self.epsilon,
                "rho": self.rho,
                "subspace_dim": self.subspace_dim,
                "max_products": self.max_products,
            },
            "line": {},
            "landscape": {"num_points": self.num_points, "span": self.span},
        }
        return {"max_samples": self.num_samples, "seed": 0, **by_kind[kind]}


class AnalysisListener:
    """Receives how far an analysis is; every method does nothing here."""

    def started(self, *, num_new: int, num_known: int, num_without_weights: int) -> None:
        """So many examinations are to be made, are known already, or can't be made since no weights were kept."""

    def progressed(self, key: str, done: int, total: int) -> None:
        """One examination is so far."""

    def ended(self, key: str) -> None:
        """One examination is stored."""


@dataclass(frozen=True, slots=True)
class _Job:
    key: str
    run: ExperimentRun
    examination: Examination


def analyze(
    study: Study,
    plan: AnalysisPlan | None = None,
    *,
    listener: AnalysisListener | None = None,
    recompute: bool = False,
    num_workers: int | None = None,
) -> Experiment:
    """Examine the kept weights of a study's designed runs, and return the experiment with all that is known.

    Results are stored in the study as they come, and all together as its artifact `analysis.json`; what was
    computed before with the same settings isn't computed again. Each examination has a process of its own.

    Args:
        study: A study with an `experiment` block, some of whose runs have ended.
        plan: What is examined.
        listener: Receives how far it is.
        recompute: Compute also what is known.
        num_workers: Examinations at a time; the study's `workers` where it is None.

    Raises:
        StudyError: The study has no experiment, or no designed run has ended.
        TaskError: An examination failed; those before it are kept.
    """
    plan, listener = plan or AnalysisPlan(), listener or AnalysisListener()
    experiment = experiment_of(study.optuna)
    if experiment is None:
        raise StudyError(
            f"the study {study.config.name!r} has no designed experiment: its file needs an `experiment` block "
            "(studies/batch_size_effect has one to copy)."
        )
    if not experiment.runs:
        raise StudyError("no designed run has ended yet: `bsopt study run` trains them.")
    jobs, num_without = _jobs(study, experiment, plan)
    known = set() if recompute else _known(study, jobs)
    new = [job for job in jobs if job.key not in known]
    listener.started(num_new=len(new), num_known=len(known), num_without_weights=num_without)
    _work(study, new, listener, num_workers or study.config.workers)
    found = experiment_of(study.optuna)
    assert found is not None
    if new or study.files.artifacts.find(ARTIFACT) is None:
        _upload(study, found)
    return found


def _jobs(study: Study, experiment: Experiment, plan: AnalysisPlan) -> tuple[list[_Job], int]:
    """Return every examination that can be made, each once, and for how many runs no weights are there."""
    found: dict[str, _Job] = {}
    missing, seen = set(), set()
    for key, kind, runs in _wanted(experiment, plan):
        where = "matched" if kind == "sharpness" and experiment.design.matched_loss is not None else "best"
        weights = [study.files.weights_of(run.trial, where) for run in runs]
        missing |= {run.trial for run, path in zip(runs, weights, strict=True) if path is None}
        paths = tuple(str(path) for path in weights if path is not None)
        if len(paths) < len(runs) or key in found:
            continue
        place = kind, *((run.batch_size, run.lr) for run in runs)
        is_further, settings = place in seen and not plan.all_seeds, plan.settings(kind)
        seen.add(place)
        if kind == "sharpness" and is_further and _is_between(runs[0], experiment, plan):
            continue
        if kind == "landscape":
            settings["reach"] = CONTOUR_REACH if is_further else None
        found[key] = _Job(key, runs[0], Examination(kind, paths, settings))  # type: ignore[arg-type]
    return list(found.values()), len(missing)


def _is_between(run: ExperimentRun, experiment: Experiment, plan: AnalysisPlan) -> bool:
    """Whether a run is of the scaled arm alone, and neither of its smallest nor of its largest batch size."""
    ends = experiment.design.batch_sizes[0], experiment.design.batch_sizes[-1]
    return set(plan.arms) & set(run.arms) == {"scaled_lr"} and run.batch_size not in ends


def _wanted(experiment: Experiment, plan: AnalysisPlan) -> Iterator[tuple[str, str, Sequence[ExperimentRun]]]:
    for arm in plan.arms:
        runs = experiment.arm(arm)
        if "sharpness" in plan.kinds:
            for run in runs:
                yield sharpness_key(run.trial), "sharpness", [run]
        if arm == "grid":
            continue  # its ends have several learning rates
        ends = _ends(runs, experiment)
        if "line" in plan.kinds:
            for first, second in ends:
                yield line_key(first.trial, second.trial), "line", [first, second]
        for pair in ends if "landscape" in plan.kinds else ():
            for run in pair:
                yield landscape_key(run.trial), "landscape", [run]


def _ends(runs: Sequence[ExperimentRun], experiment: Experiment) -> list[tuple[ExperimentRun, ExperimentRun]]:
    """Return an arm's run at the smallest and at the largest batch size, for each seed that has both."""
    sizes = experiment.design.batch_sizes
    by_place = {(run.batch_size, run.seed): run for run in runs}
    seeds = sorted({run.seed for run in runs})
    places = [((sizes[0], seed), (sizes[-1], seed)) for seed in seeds]
    return [(by_place[a], by_place[b]) for a, b in places if a in by_place and b in by_place]


def _known(study: Study, jobs: Sequence[_Job]) -> set[str]:
    """Return the keys of what is stored and was computed with the settings that it is to have now."""
    found: set[str] = set()
    for wanted in {json.dumps(dict(job.examination.settings)) for job in jobs}:
        settings = json.loads(wanted)
        stored = read_analyses(study.optuna, settings=settings)
        found |= {job.key for job in jobs if job.examination.settings == settings and job.key in stored}
    return found


def _work(study: Study, jobs: Sequence[_Job], listener: AnalysisListener, num_workers: int) -> None:
    """Make the examinations, some at a time, and store each as it ends."""
    stopping = threading.Event()
    with ThreadPoolExecutor(max_workers=num_workers) as pool:
        futures = {pool.submit(_examine, study, job, listener.progressed, stopping): job for job in jobs}
        try:
            for future in _as_ended(futures):
                job = futures[future]
                settings = dict(job.examination.settings)
                write_analysis(study.optuna, job.key, future.result(), settings=settings)
                listener.ended(job.key)
        except BaseException:
            stopping.set()
            pool.shutdown(cancel_futures=True)
            raise


def _as_ended(futures: Mapping[Future[Any], _Job]) -> Iterator[Future[Any]]:
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)  # short, for Ctrl-C
        yield from done


def _examine(
    study: Study, job: _Job, on_progress: Callable[[str, int, int], None], stopping: threading.Event
) -> Mapping[str, Any]:
    record = job.run.record
    spec = study.task.spec(job.run.trial, record.params, Plan(min(job.run.batch_size, 256)))
    folder = study.config.folder / "analysis" / job.key.replace(":", "-")
    spec = replace(spec, folder=str(folder.absolute()), checkpoints=(), resume_file=None)
    supervision = Supervision(
        lambda tick: StopDecision(),
        stopping.is_set,
        on_progress=lambda done, total: on_progress(job.key, done, total),
        stall_seconds=study.config.limits.stall_timeout.value,
    )
    try:
        found: Mapping[str, Any] = study.task.call(
            "bsopt.experiment.examine:examine", spec, supervision, job.examination
        )
    except Crash as crash:
        raise TaskError(f"the analysis {job.key} failed: {crash.full_message}") from crash
    return found


def _upload(study: Study, experiment: Experiment) -> None:
    """Keep everything as one artifact of the study, for the dashboard and for other programs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ARTIFACT
        path.write_text(json.dumps(experiment.document()), encoding="utf-8")
        study.files.artifacts.keep(path)
