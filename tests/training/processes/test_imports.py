"""What a task imports of well-known packages is read from its own files."""

from __future__ import annotations

from pathlib import Path

from bsopt.training.processes.imports import installed_imports


def test_imports_of_a_task_and_of_its_neighbours_are_found(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import sklearn.datasets\nimport helper, jax\nfrom package.part import x\n")
    (tmp_path / "helper.py").write_text("import net\nfrom PIL import Image\n\ndef later():\n    import pandas\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "part.py").write_text("import torchvision.transforms as T\n")
    task = {"model": {"class_path": "net.Net"}, "data": {"class_path": "net.Data"}}
    assert set(installed_imports(task, [tmp_path])) == {"sklearn.datasets", "PIL", "torchvision.transforms"}


def test_a_script_may_be_a_lightning_cli(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import yaml\nprint(")
    found = installed_imports({"entry": {"script": "train.py"}}, [tmp_path])
    assert found == ("pytorch_lightning.cli", "lightning.pytorch.cli")
    assert installed_imports({"factory": "nowhere:build"}, [tmp_path]) == ()
