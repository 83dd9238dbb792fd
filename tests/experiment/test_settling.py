"""The seeds that an experiment asks for."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest
from click.testing import CliRunner
from optuna.trial import TrialState

from bsopt.cli.main import main
from bsopt.config import LoadedConfig
from bsopt.experiment import DesignedRun, experiment_of, queue_settling_seeds, settling, settling_of
from bsopt.experiment.measurements import Experiment
from bsopt.experiment.settling import MOST_TIMES
from bsopt.storage.attributes import read_records
from bsopt.study.study import Study
from bsopt.testing.experiment import example_experiment

DESIGN = (
    "search={batch_size: {low: 8, high: 32}, lr: {low: 0.001, high: 1.0}}",
    "budget={trials: 0, epochs: 1}",
    "experiment={batch_sizes: [8, 32], reference_lr: 0.01, arms: [fixed_lr], seeds: 2, patience: 2 epochs}",
    "isolation=none",
)


@pytest.fixture
def study() -> optuna.Study:
    return example_experiment()


def _experiment(study: optuna.Study) -> Experiment:
    found = experiment_of(study)
    assert found is not None
    return found


def test_only_what_open_findings_compare_gets_more_seeds(study: optuna.Study) -> None:
    experiment = _experiment(study)
    found = settling_of(experiment)
    asked = {v.key: v for v in experiment.verdicts if v.seeds_to_decide is not None}
    assert found.seeds
    assert set(found.seeds) | set(found.left_open) == set(asked)
    assert all(seeds <= MOST_TIMES * 5 for seeds in found.seeds.values())
    most = max(found.seeds.values())
    assert {run.seed for run in found.runs} == set(range(5, most))
    sizes = {size for key in found.seeds for _, size in asked[key].places}
    assert {run.batch_size for run in found.runs} <= sizes
    assert [run.seed for run in found.runs] == sorted(run.seed for run in found.runs)


def test_what_a_variant_leaves_open_gets_seeds_on_both_sides() -> None:
    study = example_experiment(arms=("fixed_lr", "scaled_lr"), variants={"warm-up": 0.98}, has_analyses=False)
    experiment = _experiment(study)
    found = settling_of(experiment)
    asked = {v.key for v in experiment.variant_verdicts["warm-up"] if v.key in found.seeds}
    assert asked
    assert {run.variant for run in found.runs} == {None, "warm-up"}
    queue_settling_seeds(study)
    waiting = [trial for trial in study.trials if trial.state == TrialState.WAITING]
    assert len(waiting) == len(found.runs)
    varied = [trial for trial in waiting if "bsopt:variant" in trial.user_attrs]
    assert len(varied) == sum(run.variant is not None for run in found.runs)


def test_they_are_queued_once_as_a_second_look(study: optuna.Study) -> None:
    before = len(study.trials)
    found = queue_settling_seeds(study)
    assert found is not None
    waiting = [trial for trial in study.trials if trial.state == TrialState.WAITING]
    assert len(waiting) == len(found.runs) > 0
    assert len(study.trials) == before + len(waiting)
    assert {record.design_look for record in read_records(study) if record.outcome != "running"} >= {0}
    assert {trial.user_attrs["bsopt:look"] for trial in waiting} == {1}
    again = queue_settling_seeds(study)
    assert again is not None
    assert again.runs == ()
    assert len(study.trials) == before + len(waiting)


def test_a_design_with_missing_runs_is_finished_first(study: optuna.Study) -> None:
    experiment = _experiment(study)
    unfinished = Experiment(experiment.info, experiment.design, experiment.runs[:-1], experiment.analyses)
    assert unfinished.num_missing == 1


def test_a_study_without_an_experiment_has_nothing_to_settle_so() -> None:
    assert queue_settling_seeds(optuna.create_study()) is None


@pytest.mark.slow
def test_run_settles_an_experiment_with_new_seeds(
    load: Callable[..., LoadedConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study.create(load(*DESIGN, "checkpoints=none"))
    study.run()
    wanted = tuple(DesignedRun(32, 0.01, seed) for seed in (2, 3))
    asked = settling.Settling(wanted, {"worse_minima": 4}, ("sharper",), look=1)
    monkeypatch.setattr(settling, "settling_of", lambda experiment: asked)
    arguments = [part for override in (*DESIGN, "checkpoints=none") for part in ("--set", override)]
    result = CliRunner().invoke(main, ["study", "run", "study.yaml", "--settle", *arguments])
    assert result.exit_code == 0, result.output
    assert "To settle: worse minima (4 seeds)" in result.output
    assert "Left open, since more than 3 times the seeds would be needed: sharper" in result.output
    assert "2 runs with new seeds" in result.output
    assert {record.design_seed for record in study.records} == {0, 1, 2, 3}
    assert sorted(record.design_look for record in study.records) == [0] * 4 + [1] * 2
