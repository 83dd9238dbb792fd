"""The example project with nothing of bsopt in its code, under both Lightning packages."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bsopt import callbacks

PROJECT = Path(__file__).parents[2] / "studies" / "callbacks_only"
PACKAGES = ("pytorch_lightning", "lightning.pytorch")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:The number of training batches", "ignore:GPU available"),
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter is intended"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the project, ready to be run from its folder; its modules are forgotten afterwards."""
    pytest.importorskip("sklearn")
    folder = tmp_path / "project"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    for name in ("model", "train"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield folder
    for name in ("model", "train"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_callback_runs_from_a_lightning_cli_file(project: Path, package: str) -> None:
    for name in ("model.py", "train.py"):
        code = (project / name).read_text()
        code = code.replace("import pytorch_lightning as pl", f"import {package} as pl")
        (project / name).write_text(code.replace("from pytorch_lightning.cli", f"from {package}.cli"))
    from train import main  # type: ignore[import-not-found]

    cli = main(["fit", "--config", "everything.yaml", "--trainer.max_epochs=2"])
    assert type(cli.trainer).__module__.startswith(package)
    found = {type(c).__name__: c for c in cli.trainer.callbacks if type(c).__module__.startswith("bsopt")}
    assert set(found) == set(callbacks.__all__)
    measured: dict[str, Any] = {
        "GradientNoiseScale": lambda c: c.estimate,
        "WeightDistance": lambda c: c.summary,
        "UpdateNorms": lambda c: c.summary,
        "ThroughputMonitor": lambda c: c.summary,
        "PlateauStopping": lambda c: c.result,
        "OptunaPruning": lambda c: c.reason is None,
        "BatchSizeAdvisor": lambda c: c.advice,
    }
    for name, read in measured.items():
        assert read(found[name]), name
    assert found["LearningRateScaling"].global_batch_size == 64


@pytest.mark.slow
def test_the_code_blocks_of_the_readme_run(project: Path) -> None:
    text = (project / "README.md").read_text()
    from train import main  # type: ignore[import-not-found]

    commands = re.findall(r"```bash\npython train.py (.*?)\n```", text)
    assert len(commands) == 2
    for command in commands:
        main([*command.split(), "--trainer.max_epochs=1"])
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"__name__": "__readme__"})


def test_the_table_of_the_readme_names_every_callback() -> None:
    named = re.findall(r"^\| `(\w+)` \|", (PROJECT / "README.md").read_text(), flags=re.MULTILINE)
    assert sorted(named) == callbacks.__all__


def test_the_project_itself_does_not_know_bsopt() -> None:
    for name in ("model.py", "train.py"):
        assert "bsopt" not in (PROJECT / name).read_text()
