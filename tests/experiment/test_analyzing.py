"""Examining kept weights: agreement with a plain computation, caching, and clear words where there is nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bsopt.analysis.interpolation import Interpolation
from bsopt.analysis.landscape import Landscape2D
from bsopt.analysis.stored_results import from_stored
from bsopt.config import LoadedConfig
from bsopt.errors import StudyError, TaskError
from bsopt.experiment import AnalysisListener, AnalysisPlan, analyze
from bsopt.study.study import Study
from bsopt.study.task_runner import TaskRunner

Load = Callable[..., LoadedConfig]

QUICK = AnalysisPlan(num_samples=48, num_starts=1, subspace_dim=3, num_points=3)


class Log(AnalysisListener):
    def __init__(self) -> None:
        self.new = self.known = self.without = 0
        self.steps: list[tuple[str, int, int]] = []
        self.keys: list[str] = []

    def started(self, *, num_new: int, num_known: int, num_without_weights: int) -> None:
        self.new, self.known, self.without = num_new, num_known, num_without_weights

    def progressed(self, key: str, done: int, total: int) -> None:
        self.steps.append((key, done, total))

    def ended(self, key: str) -> None:
        self.keys.append(key)


@pytest.fixture
def study(trained: Path, project: Path, load: Load) -> Study:
    """Return a study of two arms, trained, in a folder of this test's own."""
    shutil.copytree(trained, project, dirs_exist_ok=True)
    return Study.create(load("experiment.arms=[fixed_lr, scaled_lr]", "experiment.batch_sizes=[8, 32]"))


def _loss_at(weights: Path, data: tuple[torch.Tensor, torch.Tensor]) -> float:
    state = torch.load(weights, weights_only=True)["state_dict"]
    x, y = data
    return float(torch.nn.functional.mse_loss(x @ state["net.weight"].T + state["net.bias"], y))


@pytest.mark.slow
def test_analyses_agree_with_the_kept_weights(study: Study, project: Path) -> None:
    experiment = analyze(study, AnalysisPlan(num_samples=10_000, num_starts=1, subspace_dim=3, num_points=3))
    assert len(experiment.lines) == 4  # two arms, two seeds
    assert len(experiment.landscapes) == 6  # two seeds; the smallest batch size is the same run in both arms
    generator = torch.Generator().manual_seed(7)  # as in the toy project
    x = torch.randn(96, 4, generator=generator)
    data = x, x @ torch.tensor([1.0, -2.0, 3.0, 0.5]).unsqueeze(1)
    for pair in experiment.lines:
        line = from_stored(Interpolation, pair.result)
        for run, alpha in zip(pair.runs, (0.0, 1.0), strict=True):
            weights = study.files.weights_of(run.trial)
            assert weights is not None
            assert line.train_losses[line.alphas.index(alpha)] == pytest.approx(_loss_at(weights, data), rel=1e-4)
    for one in experiment.landscapes:
        landscape = from_stored(Landscape2D, one.result)
        assert landscape.losses[1][1] == pytest.approx(landscape.center_loss)
    for run in experiment.runs:
        assert {"sharpness", "sharpness_subspace", "adaptive_sharpness", "top_curvature"} <= set(run.measurements)
        assert run.measurements["sharpness"] > 0


def test_what_is_known_is_not_computed_again(study: Study) -> None:
    first, second, third, fourth = Log(), Log(), Log(), Log()
    one = analyze(study, QUICK, listener=first)
    assert (first.new, first.known, first.without) == (16, 0, 0)
    assert sorted(first.keys) == sorted(one.analyses)
    drawn = [one.runs[0].seed for one in one.landscapes if None not in one.result["losses"][0]]
    assert drawn == [0, 0, 0]  # of other seeds, only what a verdict reads
    two = analyze(study, QUICK, listener=second)
    assert (second.new, second.known) == (0, 16)
    assert two.analyses == one.analyses
    analyze(study, AnalysisPlan(kinds=("landscape",), num_samples=48, num_points=5), listener=third)
    assert third.new == 6  # other settings
    analyze(study, AnalysisPlan(kinds=("line",), num_samples=48), listener=fourth, recompute=True)
    assert fourth.new == 4


def test_everything_stands_in_one_artifact(study: Study) -> None:
    analyze(study, QUICK)
    path = study.files.artifacts.find("analysis.json")
    assert path is not None
    stored = json.loads(path.read_text())
    assert len(stored["runs"]) == 6
    assert len(stored["verdicts"]) == 24


@pytest.mark.slow
def test_examinations_run_in_processes_of_their_own(load: Load) -> None:
    study = Study.create(load("isolation=process", "experiment.arms=[fixed_lr]", "experiment.seeds=1", "workers=2"))
    study.run()
    log = Log()
    experiment = analyze(study, QUICK, listener=log)
    assert len(experiment.analyses) == 6
    assert ("landscape:0", 9, 9) in log.steps


def test_a_model_that_has_changed_is_told(study: Study, project: Path) -> None:
    changed = study.config.task.model_copy(
        update={"model": study.config.task.model.model_copy(update={"init_args": {"width": 3}})}  # type: ignore[union-attr]
    )
    task = TaskRunner(study.config.model_copy(update={"task": changed}), study.file.parent)
    with pytest.raises(TaskError, match="don't fit the model"):
        analyze(Study(study.optuna, task, study.file), QUICK)


@pytest.mark.slow
def test_runs_without_weights_are_counted(load: Load) -> None:
    study = Study.create(load("checkpoints=none", "experiment.arms=[fixed_lr]", "experiment.seeds=1"))
    study.run()
    log = Log()
    experiment = analyze(study, QUICK, listener=log)
    assert (log.new, log.without) == (0, 3)
    assert experiment.analyses == {}


def test_a_study_without_an_experiment_is_told(load: Load) -> None:
    study = Study.create(load("experiment=null", "budget.trials=1"))
    with pytest.raises(StudyError, match="no designed experiment"):
        analyze(study)


def test_a_study_without_runs_is_told(load: Load) -> None:
    with pytest.raises(StudyError, match="no designed run has ended"):
        analyze(Study.create(load()))


@pytest.mark.slow
def test_seeds_that_no_verdict_reads_are_examined_on_demand(load: Load) -> None:
    study = Study.create(load("experiment.arms=[fixed_lr, scaled_lr]", "budget.epochs=1"))
    study.run()
    some, every = Log(), Log()
    plan = AnalysisPlan(kinds=("sharpness",), num_samples=16, num_starts=1, subspace_dim=2, max_products=3)
    analyze(study, plan, listener=some)
    assert some.new == 9  # of 5 settings with 2 seeds, the scaled one in the middle once
    analyze(study, replace(plan, all_seeds=True), listener=every)
    assert (every.new, every.known) == (1, 9)
