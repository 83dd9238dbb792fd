"""A study's files in Optuna's artifact store."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
from optuna.artifacts import get_all_artifact_meta

from bsopt.storage.artifacts import Artifacts


def test_a_study_s_file_is_replaced_by_its_name(tmp_path: Path) -> None:
    study = optuna.create_study()
    artifacts, file = Artifacts(study, tmp_path / "store"), tmp_path / "a.txt"
    for text in ("one", "two"):
        file.write_text(text)
        artifacts.keep(file, name="b.txt")
    found = artifacts.find("b.txt")
    assert found is not None
    assert found.read_text() == "two"
    assert [meta.filename for meta in get_all_artifact_meta(study)] == ["b.txt"]
    assert artifacts.find("a.txt") is None


def test_an_artifact_deleted_in_the_dashboard_is_no_longer_there(tmp_path: Path) -> None:
    study = optuna.create_study()
    artifacts, file = Artifacts(study, tmp_path / "store"), tmp_path / "a.txt"
    file.write_text("one")
    artifacts.keep(file)
    (meta,) = get_all_artifact_meta(study)
    # what optuna-dashboard writes when somebody deletes it
    study._storage.set_study_system_attr(study._study_id, f"artifacts:{meta.artifact_id}", json.dumps(None))
    assert artifacts.find("a.txt") is None
    artifacts.keep(file)
    assert artifacts.find("a.txt") is not None
