"""The batch-size experiment's networks and data are plain Lightning code that trains."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import sys
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from bsopt.config import load_config
from bsopt.experiment import AnalysisPlan, analyze
from bsopt.study.study import Study

STUDY = Path(__file__).parents[2] / "studies" / "batch_size_effect"


def load(name: str) -> ModuleType:
    """Import a file of the study under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"batch_size_effect_{name}", STUDY / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def fit(module: pl.LightningModule, data: pl.LightningDataModule, *, epochs: int) -> dict[str, float]:
    """Train with nothing but Lightning and return what was logged."""
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's own, of workers and deprecations
        trainer.fit(module, data)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Dark cats and bright dogs of all shapes and modes, one dog a folder deeper, one broken cat."""
    image = pytest.importorskip("PIL.Image", reason="reading images needs Pillow")
    rng = np.random.default_rng(0)
    for name, low in (("cat", 0), ("dog", 150)):
        folder = tmp_path / "photos" / name
        (folder / "more").mkdir(parents=True)
        for index in range(20):
            height, width = rng.integers(10, 40, 2)
            pixels = rng.integers(low, low + 100, (height, width, 3)).astype(np.uint8)
            picture = image.fromarray(pixels)
            where = folder / "more" if index == 0 else folder
            (picture.convert("L") if index == 1 else picture).save(where / f"{index}.{'png' if index % 2 else 'jpg'}")
    (tmp_path / "photos" / "cat" / "broken.jpg").write_bytes(b"not an image")
    (tmp_path / "photos" / "cat" / "notes.txt").write_text("not an image either")
    return tmp_path / "photos"


def test_a_warm_up_rises_and_an_annealing_falls() -> None:
    study = load("model")
    warm, annealed = study.DigitsCNN(warmup_epochs=4), study.DigitsCNN(annealing_epochs=10)
    assert [warm._share_of_lr(epoch) for epoch in (0, 1, 4, 9)] == pytest.approx([0.2, 0.4, 1.0, 1.0])
    assert [annealed._share_of_lr(epoch) for epoch in (0, 5, 10, 20)] == pytest.approx([1.0, 0.5, 0.0, 0.0])
    scheduler = warm.configure_optimizers()["lr_scheduler"]
    assert scheduler.optimizer.param_groups[0]["lr"] == pytest.approx(0.05 * 0.2)
    assert "lr_scheduler" not in study.DigitsCNN().configure_optimizers()


@pytest.mark.slow
def test_digits_are_learned() -> None:
    study = load("model")
    metrics = fit(study.DigitsCNN(lr=0.2), study.DigitsData(batch_size=32), epochs=10)
    assert metrics["val_acc"] > 0.8
    assert metrics["train_loss"] < 1.0


def test_the_learning_rate_and_batch_size_arrive_as_plain_sgd() -> None:
    study = load("model")
    configured = study.DigitsCNN(lr=0.03).configure_optimizers()
    assert configured.keys() == {"optimizer"}  # a schedule is for the variants
    optimizer = configured["optimizer"]
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.param_groups[0]["lr"] == 0.03
    assert optimizer.param_groups[0]["momentum"] == 0
    data = study.DigitsData(batch_size=48)
    data.setup()
    assert data.train_dataloader().batch_size == 48
    assert (len(data.train_set), len(data.val_set)) == (1438, 359)


def test_mnist_is_read_from_a_path(tmp_path: Path) -> None:
    study = load("model")
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 28, 28)).astype(np.uint8), np.arange(60) % 10
    np.savez(tmp_path / "mnist.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    data = study.MnistData(str(tmp_path / "mnist.npz"), batch_size=8, num_train=40)
    assert fit(study.MnistCNN(lr=0.01), data, epochs=1)["val_loss"] == pytest.approx(np.log(10), abs=0.1)
    assert (len(data.train_set), len(data.val_set)) == (40, 60)
    with pytest.raises(FileNotFoundError, match="curl"):
        study.MnistData(str(tmp_path / "none.npz")).setup()


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_two_classes_have_one_output_and_binary_cross_entropy() -> None:
    module = load("model").VGGLike(image_size=16, channels=(4, 4), hidden=(8,))
    images, labels = torch.randn(6, 3, 16, 16), torch.tensor([0, 1, 0, 1, 1, 0])
    logits = module(images)
    assert logits.shape == (6, 1)
    p = torch.sigmoid(logits[:, 0])
    by_hand = -torch.where(labels == 1, p, 1 - p).log().mean()
    torch.testing.assert_close(module.training_step((images, labels), 0), by_hand)
    with pytest.raises(ValueError, match="halvings"):
        load("model").VGGLike(image_size=8)


def test_parameters_are_as_many_as_documented() -> None:
    study = load("model")
    count = {
        name: sum(p.numel() for p in getattr(study, name)().parameters())
        for name in ("VGGLike", "DigitsCNN", "MnistCNN")
    }
    assert round(count["VGGLike"] / 1e6, 2) == 1.36
    assert round(count["DigitsCNN"] / 1e3) == 15
    assert round(count["MnistCNN"] / 1e3) == 108


def test_an_image_folder_is_split_resized_and_learned(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = load("image_folder").ImageFolderData(str(photos), batch_size=4, image_size=16)
    with caplog.at_level(logging.WARNING):
        metrics = fit(load("model").VGGLike(0.1, image_size=16, channels=(4, 4), hidden=(8,)), data, epochs=12)
    assert "1 of 41 images" in caplog.text
    assert data.classes == ("cat", "dog")
    assert (len(data.train_set), len(data.val_set)) == (32, 8)
    assert not set(data.train_set.indices) & set(data.val_set.indices)
    image, label = data.train_set[0]
    assert image.shape == (3, 16, 16)
    assert 0 <= image.min() < image.max() <= 1
    assert (image.mean() > 0.5) == bool(label)
    assert metrics["val_acc"] == 1.0


def test_images_are_decoded_once_and_again_when_they_change(photos: Path, tmp_path: Path) -> None:
    study, cache = load("image_folder"), tmp_path / "cache"

    def prepare(size: int) -> set[str]:
        data = study.ImageFolderData(str(photos), image_size=size, cache_path=str(cache))
        data.prepare_data()
        return {file.name for file in cache.iterdir()}

    first = prepare(8)
    stamps = {file: file.stat().st_mtime_ns for file in cache.iterdir()}
    assert prepare(8) == first
    assert {file: file.stat().st_mtime_ns for file in cache.iterdir()} == stamps
    assert len(prepare(12)) == 4
    next((photos / "dog").glob("*.png")).unlink()
    assert len(prepare(8)) == 6
    assert not [name for name in prepare(8) if "part" in name]


def test_a_folder_without_classes_says_what_is_expected(tmp_path: Path) -> None:
    study = load("image_folder")
    with pytest.raises(FileNotFoundError, match="one folder of images for each class"):
        study.ImageFolderData(str(tmp_path / "none")).prepare_data()
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="at least two classes"):
        study.ImageFolderData(str(tmp_path)).prepare_data()


@pytest.mark.parametrize("name", ["model", "image_folder"])
def test_the_model_code_knows_nothing_of_bsopt(name: str) -> None:
    assert "import bsopt" not in (source := (STUDY / f"{name}.py").read_text())
    assert "from bsopt" not in source


@pytest.mark.parametrize("file", ["study.yaml", "mnist.yaml", "photos.yaml"])
def test_every_study_file_is_an_experiment(file: str) -> None:
    config = load_config(STUDY / file).config
    assert config.experiment is not None
    assert config.experiment.seeds == 5
    assert config.checkpoints.trials == "all"


def test_the_files_of_variants_change_what_they_say() -> None:
    files = {name: load_config(STUDY / name).config for name in ("variants.yaml", "batch_norm.yaml")}
    designs = {name: config.experiment for name, config in files.items()}
    changed = {name: v for design in designs.values() if design for name, v in design.variants.items()}
    assert list(changed) == ["bf16", "warmup", "annealing", "norm", "ghost32"]
    assert [name for name, v in changed.items() if v.is_precision] == ["bf16"]
    asked = {path.removeprefix("model.") for v in changed.values() for path in v.params}
    assert asked <= set(inspect.signature(load("model").DigitsCNN).parameters)
    assert changed["ghost32"].ghost_batch_norm == min(designs["batch_norm.yaml"].batch_sizes)  # type: ignore[union-attr]


def test_the_regression_s_experiment_has_the_same_arms() -> None:
    regression = load_config(STUDY.parent / "diabetes" / "experiment.yaml").config.experiment
    digits = load_config(STUDY / "study.yaml").config.experiment
    assert regression is not None
    assert digits is not None
    assert (regression.arms, regression.seeds) == (digits.arms, digits.seeds)


def test_the_article_s_own_settings_are_those_of_photos() -> None:
    config = load_config(STUDY / "photos.yaml").config
    assert config.experiment is not None
    assert config.experiment.batch_sizes == [32, 64, 128, 256]
    assert (config.experiment.reference_lr, config.experiment.higher_lr) == (0.01, 0.08)
    assert config.experiment.grid == [0.01, 0.02, 0.04, 0.08, 0.16]
    assert str(config.experiment.patience) == "100 epochs"


@pytest.mark.slow
def test_the_experiment_runs_on_a_folder_of_photos(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    small = [
        f"task.data.init_args={{data_path: {photos}, image_size: 16}}",
        "task.model.init_args={image_size: 16, channels: [4, 4], hidden: [8]}",
        "search.batch_size={low: 4, high: 8}",
        "experiment={batch_sizes: [4, 8], reference_lr: 0.05, arms: [fixed_lr], seeds: 1, patience: 3 epochs}",
        "search.lr={low: 0.01, high: 1.0}",
        "budget.epochs=8",
    ]
    study = Study.create(load_config(STUDY / "photos.yaml", small))
    assert study.run().num_complete == 2
    plan = AnalysisPlan(arms=("fixed_lr",), num_starts=1, subspace_dim=5, num_points=3)
    experiment = analyze(study, plan)
    assert sorted(experiment.values("sharpness", "fixed_lr")) == [4, 8]
    assert len(experiment.lines) == 1
    assert len(experiment.landscapes) == 2
