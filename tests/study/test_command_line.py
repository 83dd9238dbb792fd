"""What is typed to go on with a study names what was typed before."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from bsopt.config import load_config
from bsopt.study.command_line import typed_study
from bsopt.study.study import Study
from bsopt.trial.record import StudyInfo


def info(file: Path, *overrides: str, **others: object) -> StudyInfo:
    return StudyInfo("toy", config={**load_config(file, overrides).config.as_dict(), **others}, file=str(file))


def test_a_study_file_is_seen_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = (str(tmp_path / "a b" / "study.yaml"), str(tmp_path.parent / "study.yaml"), None)
    typed = [typed_study(StudyInfo("one", file=file)) for file in files]
    assert typed == ["'a b/study.yaml'", str(tmp_path.parent / "study.yaml"), "study.yaml"]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["budget.trials=3"],
        ["task.data.init_args.path=/data/of mine.npz", "search.lr.high=0.25"],
        ["search.params={model.momentum: {choices: [0.0, 0.9]}}", "seed=5"],
        ["checkpoints.keep=[best, last]"],
        ["task.model.init_args.schedule='1'"],
    ],
)
def test_what_was_typed_reads_back_as_the_same_study(
    project: Path, overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    file = project / "study.yaml"
    wanted = info(file, *overrides)
    first, *words = shlex.split(typed_study(wanted))
    assert (first, words[::2]) == ("study.yaml", ["--set"] * len(overrides))
    assert load_config(first, words[1::2]).config.as_dict() == wanted.config


def test_name_storage_and_changes_have_their_options(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    renamed = info(project / "study.yaml", "workers=7", name="my study", storage="sqlite:///else where.db")
    typed = typed_study(renamed, changes={"budget.trials": 40})
    assert shlex.split(typed) == [
        "study.yaml",
        *("--study-name", "my study"),
        *("--storage", "sqlite:///else where.db"),
        *("--set", "budget.trials=40"),
    ]


def test_a_block_that_an_earlier_version_stored_without_a_key_is_no_change(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    stored = info(project / "study.yaml")
    budget = {key: value for key, value in stored.config["budget"].items() if key != "time"}
    assert typed_study(replace(stored, config={**stored.config, "budget": budget})) == "study.yaml"


def test_a_file_that_is_gone_or_wrong_is_named_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    wanted = info(project / "study.yaml", "budget.trials=3")
    for spoil in (lambda f: f.write_text("{"), lambda f: f.unlink()):
        spoil(project / "study.yaml")
        assert typed_study(wanted) == "study.yaml"


def test_a_study_that_ran_as_its_file_says_needs_no_option(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    study = Study.create(load_config("study.yaml", ["isolation=none"]))
    assert typed_study(study.info) == "study.yaml --set isolation=none"
