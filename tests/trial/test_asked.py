"""A stored study tells what its file asked for, and nothing where there was no file."""

from __future__ import annotations

from pathlib import Path

import pytest

from bsopt.config import StudyConfig, validate_config
from bsopt.trial.asked import AskedLimits, AskedSearch
from bsopt.trial.record import StudyInfo


def asked(**blocks: object) -> StudyInfo:
    """Return the description of a study whose file has these blocks, every default filled in."""
    task = {"model": {"class_path": "m.M", "init_args": {"momentum": 0.9}}, "data": "m.D"}
    config: StudyConfig = validate_config({"name": "x", "task": task, "budget": {"epochs": 1}, **blocks}, source="test")
    return StudyInfo("x", config=config.as_dict())


def test_defaults_of_a_study_file() -> None:
    info = asked()
    assert info.search == AskedSearch(sampler="scaling", rule=None, lattice="pow2", prior_from=None)
    assert info.limits == AskedLimits()
    assert info.momentum == 0.9
    assert info.experiment is None
    assert info.folder == Path("runs/x")


def test_what_a_study_file_says() -> None:
    info = asked(
        search={"batch_size": {"lattice": {"multiple_of": 8}}, "lr": {"rule": "sqrt"}, "prior_from": "earlier"},
        limits={"max_micro_batch_size": 64, "memory": "2 GiB"},
        experiment={"batch_sizes": [8, 16], "reference_lr": 0.1},
        output="elsewhere",
    )
    assert info.search == AskedSearch("scaling", "sqrt", {"multiple_of": 8}, "earlier")
    assert info.limits == AskedLimits(64, 2 * 1024**3)
    assert info.experiment is not None
    assert info.experiment["patience"] == "100 epochs"
    assert info.folder == Path("elsewhere")


@pytest.mark.parametrize("config", [{}, {"search": None, "task": None, "experiment": None, "limits": None}])
def test_a_study_without_a_file_asked_for_nothing(config: dict[str, object]) -> None:
    info = StudyInfo("x", config=config)
    assert (info.search, info.limits, info.momentum, info.experiment) == (None, AskedLimits(), None, None)
    assert info.folder == Path("runs/x")
