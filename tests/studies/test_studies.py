"""The example studies are plain Lightning code that trains, and their files say what they should."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import numpy as np
import pytest

from bsopt.cli.commands.study import study
from bsopt.config import load_config

STUDIES = Path(__file__).parents[2] / "studies"
NAMES = ["batch_size_effect", "diabetes", "digits", "mnist", "resnet_cifar", "scale_out"]


def load(name: str) -> ModuleType:
    """Import a study's model code under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"study_{name}", STUDIES / name / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def build(name: str, *, lr: float, batch_size: int, **data_arguments: Any) -> tuple[Any, Any]:
    """Build a study's module and data as its file says."""
    task = load_config(STUDIES / name / "study.yaml").config.task
    assert task.model is not None
    assert task.data is not None
    code = load(name)
    model_class = getattr(code, task.model.class_path.removeprefix("model."))
    data_class = getattr(code, task.data.class_path.removeprefix("model."))
    model = model_class(**task.model.init_args, lr=lr)
    return model, data_class(**{**task.data.init_args, "batch_size": batch_size, **data_arguments})


@pytest.fixture
def mnist_file(tmp_path: Path) -> Path:
    """A file shaped like MNIST: the digit is where the bright square is; sorted by digit, as some copies are."""
    labels = np.repeat(np.arange(10), 40)
    images = np.random.default_rng(0).integers(0, 60, (400, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 4)
        image[8 * row : 8 * row + 7, 7 * column : 7 * column + 6] = 250
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[::4], y_test=labels[::4])
    return path


def fit(module: Any, data: Any, *, epochs: int, folder: Path) -> dict[str, float]:
    """Train with nothing but Lightning and return what was logged."""
    import pytorch_lightning as pl
    import torch

    torch.set_num_threads(1)
    pl.seed_everything(0, verbose=False)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*number of training batches.*")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
class TestWithPlainLightning:
    def test_digits_learns_in_its_budget(self, tmp_path: Path) -> None:
        metrics = fit(*build("digits", lr=0.03, batch_size=32), epochs=4, folder=tmp_path)
        assert metrics["val_acc"] > 0.9
        assert metrics["val_loss"] < 0.4

    def test_digits_learns_with_adam(self, tmp_path: Path) -> None:
        code = load("digits")
        module = code.DigitsCNN(lr=0.003, optimizer="adam")
        assert fit(module, code.DigitsData(batch_size=64), epochs=3, folder=tmp_path)["val_acc"] > 0.85

    def test_diabetes_beats_guessing_the_mean(self, tmp_path: Path) -> None:
        metrics = fit(*build("diabetes", lr=1e-3, batch_size=32), epochs=5, folder=tmp_path)
        assert metrics["val_loss"] < 0.7
        assert metrics["val_mae"] < 0.75

    def test_mnist_learns_from_a_sorted_file(self, tmp_path: Path, mnist_file: Path) -> None:
        model, data = build("mnist", lr=0.02, batch_size=16, path=str(mnist_file), num_train=200, num_val=100)
        metrics = fit(model, data, epochs=3, folder=tmp_path)
        assert len(data.train_set) == 200
        assert len(set(data.train_set.tensors[1].tolist())) == 10
        assert metrics["val_acc"] > 0.8

    @pytest.mark.parametrize("name", ["diabetes", "digits"])
    def test_data_splits_are_the_same_every_time(self, name: str) -> None:
        first, second = build(name, lr=0.1, batch_size=8)[1], build(name, lr=0.1, batch_size=64)[1]
        first.setup("fit")
        second.setup("fit")
        assert (first.val_set.tensors[0] == second.val_set.tensors[0]).all()
        assert first.train_dataloader().batch_size == 8
        assert second.train_dataloader().batch_size == 64


def test_missing_mnist_file_says_where_to_get_it(tmp_path: Path) -> None:
    data = load("mnist").MnistData(path=str(tmp_path / "nowhere.npz"))
    with pytest.raises(FileNotFoundError, match=r"no MNIST file at .*nowhere\.npz.*curl -o .*https://"):
        data.setup("fit")


def test_diabetes_targets_are_normalised_over_the_training_set() -> None:
    data = load("diabetes").DiabetesData()
    data.setup("fit")
    targets = data.train_set.tensors[1]
    assert float(targets.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(targets.std()) == pytest.approx(1.0, abs=1e-6)


def test_digits_refuses_an_unknown_optimizer() -> None:
    with pytest.raises(ValueError, match="'sgd' or 'adam', got 'adagrad'"):
        load("digits").DigitsCNN(optimizer="adagrad")


@pytest.mark.parametrize("name", NAMES)
def test_model_code_knows_nothing_of_bsopt(name: str) -> None:
    source = (STUDIES / name / "model.py").read_text(encoding="utf-8")
    assert not re.search(r"^\s*(import|from)\s+(bsopt|optuna)", source, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_every_study_is_called_as_its_folder(name: str) -> None:
    config = load_config(STUDIES / name / "study.yaml").config
    assert config.name == name
    assert config.folder == Path("runs") / name


def test_digits_searches_what_the_project_promises() -> None:
    search = load_config(STUDIES / "digits" / "study.yaml").config.search
    assert search.batch_size.sizes() == (8, 16, 32, 64, 128, 256, 512, 1024)
    assert (search.lr.low, search.lr.high, search.lr.rule) == (1e-4, 1.0, "linear")


@pytest.mark.parametrize("name", NAMES)
def test_readme_commands_exist_and_their_overrides_fit_the_study(name: str) -> None:
    """Every command in a README exists, and every `--set` is one that the study file takes."""
    blocks = re.findall(r"```bash\n(.*?)```", (STUDIES / name / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    commands = [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]
    assert any(command.startswith("bsopt study run study.yaml") for command in commands)
    known = study.list_commands(click.Context(study))
    for command in commands:
        if command.startswith("bsopt study "):
            assert command.split()[2] in known
        overrides = re.findall(r"--set (\S+)", command)
        load_config(STUDIES / name / "study.yaml", overrides)
