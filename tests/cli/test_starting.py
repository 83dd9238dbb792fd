"""The first commands that anyone types."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

import bsopt
from bsopt.config import load_config

Invoke = Callable[..., Result]


@pytest.mark.parametrize("name", ["digits", "mnist", "diabetes"])
def test_init_copies_a_study_that_can_be_read(invoke: Invoke, tmp_path: Path, name: str) -> None:
    result = invoke("init", "some folder/new", "--study", name)
    assert result.exit_code == 0, result.output
    assert "bsopt study run 'some folder/new/study.yaml'" in result.output
    folder = tmp_path / "some folder" / "new"
    assert {path.name for path in folder.iterdir()} >= {"README.md", "model.py", "study.yaml"}
    for file in folder.glob("*.yaml"):
        assert load_config(file).config.name.startswith(name)


def test_init_overwrites_nothing(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.py").write_text("mine")
    result = invoke("init", "mine")
    assert result.exit_code == 2
    assert "mine/model.py" in result.stderr
    assert (tmp_path / "mine" / "model.py").read_text() == "mine"
    assert not (tmp_path / "mine" / "study.yaml").exists()


def test_init_suggests_the_nearest_study(invoke: Invoke) -> None:
    result = invoke("init", "new", "--study", "digit")
    assert result.exit_code == 2
    assert "Did you mean 'digits'?" in result.stderr


def test_init_copies_from_inside_an_installed_package(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Path(bsopt.__file__).parent
    site = tmp_path / "site" / "bsopt"
    shutil.copytree(package.parent / "studies", site / "_studies")
    monkeypatch.setattr(bsopt, "__file__", str(site / "__init__.py"))
    assert invoke("init", "new").exit_code == 0
    assert (tmp_path / "new" / "model.py").read_text() == (site / "_studies" / "digits" / "model.py").read_text()


def test_schema_is_printed_as_json(invoke: Invoke) -> None:
    assert "task" in json.loads(invoke("study", "schema").output)["properties"]


def test_doctor_tells_versions_devices_and_storage(invoke: Invoke) -> None:
    result = invoke("doctor", "--json")
    assert result.exit_code == 0, result.output
    findings = {finding["topic"]: finding for finding in json.loads(result.output)}
    assert findings["bsopt"]["text"] == bsopt.__version__
    assert "cores" in findings["cpu"]["text"]
    assert findings["storage"]["verdict"] == "missing"
    assert "torch" in invoke("doctor").output


def test_doctor_counts_the_studies_of_a_storage(invoke: Invoke, finished: str) -> None:
    assert "1 study" in invoke("doctor", "--storage", finished).output


def test_doctor_ends_with_2_when_the_storage_is_broken_and_hides_the_password(invoke: Invoke) -> None:
    result = invoke("doctor", "--storage", "postgresql+psycopg://me:secret@127.0.0.1:1/x")
    assert result.exit_code == 2
    assert "secret" not in result.output
    assert "✗ storage" in result.output
