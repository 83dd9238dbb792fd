from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from bsopt.report import write_report
from bsopt.testing.study import example_study

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="session")
def study() -> optuna.Study:
    return example_study(40, name="digits")


@pytest.fixture(scope="session")
def page_path(study: optuna.Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([study], tmp_path_factory.mktemp("report") / "report.html").path


@pytest.fixture(scope="session")
def page(page_path: Path) -> str:
    return page_path.read_text(encoding="utf-8")
