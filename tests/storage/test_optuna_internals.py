"""Optuna's private names still mean what bsopt takes them for."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact

from bsopt import PlateauPruner
from bsopt.storage.databases import open_storage
from bsopt.storage.optuna_internals import artifact_ids, trial_of, whole_study, wrapped_pruners


@pytest.fixture(params=["memory", "sqlite"])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> optuna.Study:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/s.db"
    storage = open_storage(url)
    optuna.create_study(storage=storage)  # so that a trial's number isn't its id
    optuna.load_study(study_name=None, storage=storage).ask()
    return optuna.create_study(study_name="x", storage=storage)


def test_live_trial_is_the_frozen_one_and_can_be_written(study: optuna.Study) -> None:
    for _ in range(2):
        study.ask()
    live = trial_of(study, study.get_trials(deepcopy=False)[1])
    live.set_user_attr("said", "yes")
    assert live.number == 1
    assert [trial.user_attrs for trial in study.trials] == [{}, {"said": "yes"}]


def test_artifacts_are_those_that_optuna_lists(study: optuna.Study, tmp_path: Path) -> None:
    store, trial = FileSystemArtifactStore(str(tmp_path)), study.ask()
    for owner, name in ((study, "a.txt"), (trial, "b.txt")):
        (tmp_path / name).write_text(name)
        upload_artifact(artifact_store=store, file_path=str(tmp_path / name), study_or_trial=owner)
    assert artifact_ids(study) == {meta.filename: meta.artifact_id for meta in get_all_artifact_meta(study)}
    listed = {meta.filename: meta.artifact_id for meta in get_all_artifact_meta(trial)}
    assert artifact_ids(study, trial) == artifact_ids(study, study.trials[0]) == listed
    assert listed.keys() == {"b.txt"}


def test_artifact_deleted_in_the_dashboard_is_left_out_where_optuna_fails(study: optuna.Study, tmp_path: Path) -> None:
    store, file = FileSystemArtifactStore(str(tmp_path)), tmp_path / "a.txt"
    file.write_text("one")
    artifact_id = upload_artifact(artifact_store=store, file_path=str(file), study_or_trial=study)
    study._storage.set_study_system_attr(study._study_id, f"artifacts:{artifact_id}", json.dumps(None))
    assert artifact_ids(study) == {}
    with pytest.raises(TypeError):  # once this passes, get_all_artifact_meta does
        get_all_artifact_meta(study)


def test_bracket_of_hyperband_is_part_of_a_whole_study(study: optuna.Study) -> None:
    seen = []

    class Watching(optuna.samplers.RandomSampler):
        def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            seen.append(study)

    study.sampler, study.pruner = Watching(), optuna.pruners.HyperbandPruner(max_resource=3)
    study.ask()
    assert not hasattr(seen[0], "user_attrs")
    assert whole_study(seen[0]) is whole_study(study) is study


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_wrapped_pruners_are_found() -> None:
    inner = optuna.pruners.MedianPruner()
    patient = optuna.pruners.PatientPruner(inner, patience=1)
    outer = PlateauPruner(wrapped_pruner=patient)
    assert wrapped_pruners(outer) == [outer, patient, inner]
    assert wrapped_pruners(None) == []
