"""The residual network's study is plain Lightning that reads CIFAR-10 in every form, and runs as it is told to."""

from __future__ import annotations

import importlib.util
import io
import pickle
import sys
import tarfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from bsopt.cli.main import main
from bsopt.config import load_config
from bsopt.study.study import load_study
from bsopt.training.processes.launcher import has_processes

STUDY = Path(__file__).parents[2] / "studies" / "resnet_cifar"


def load(name: str) -> ModuleType:
    """Import a file of the study under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"resnet_cifar_{name}", STUDY / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def made(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images whose class is the place of a bright square, as uint8 (count, 3, 32, 32), and classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    images = rng.integers(0, 90, (count, 3, 32, 32)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 4)
        image[:, 10 * row : 10 * row + 9, 8 * column : 8 * column + 7] = 240
    return images, labels


def batch_file(images: np.ndarray, labels: np.ndarray) -> bytes:
    """Return a batch as CIFAR-10's authors wrote it: a pickle of byte strings, an array and a list."""
    return pickle.dumps({b"data": images.reshape(len(images), -1), b"labels": labels.tolist()}, protocol=2)


@pytest.fixture
def batches(tmp_path: Path) -> Path:
    """Return a folder with the five training batches, 60 images each, and the test batch of 100."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for number in range(1, 6):
        (folder / f"data_batch_{number}").write_bytes(batch_file(*made(60, number)))
    (folder / "test_batch").write_bytes(batch_file(*made(100, 9)))
    return folder


@pytest.fixture
def archive(batches: Path, tmp_path: Path) -> Path:
    """Return the archive of that folder."""
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        file.add(batches, batches.name)
    return path


def ready(path: Path, **arguments: Any) -> Any:
    data = load("data").CifarData(str(path), **arguments)
    data.prepare_data()
    data.setup("fit")
    return data


def test_batches_and_their_archive_are_the_same_images(batches: Path, archive: Path) -> None:
    found = [ready(path) for path in (batches, batches.parent, archive)]
    for data in found:
        assert (len(data.train_set), len(data.val_set)) == (300, 100)
        images, labels = made(60, 2)
        assert torch.equal(data.train_set.images[60:120], torch.from_numpy(images))
        assert data.train_set.labels[60:120].tolist() == labels.tolist()


@pytest.mark.parametrize("has_test", [True, False])
def test_folders_of_images_are_decoded_once(tmp_path: Path, has_test: bool) -> None:
    image = pytest.importorskip("PIL.Image", reason="reading images needs Pillow")
    root = tmp_path / "images"
    for part in ("train", "test") if has_test else (".",):
        images, labels = made(60, 1)
        for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            folder = root / part / f"class{label}"
            folder.mkdir(parents=True, exist_ok=True)
            image.fromarray(pixels.transpose(1, 2, 0)).save(folder / f"{number:03}.png")
    data = ready(root)
    assert (len(data.train_set), len(data.val_set)) == ((60, 60) if has_test else (50, 10))
    shown = {(bytes(x.numpy().tobytes()), int(y)) for x, y in data.train_set}
    made_images, made_labels = made(60, 1)
    assert shown <= {(x.tobytes(), int(y)) for x, y in zip(made_images, made_labels, strict=True)}
    for file in root.rglob("*.png"):
        file.write_bytes(b"x" * file.stat().st_size)  # from now on only what was kept can be read
    assert torch.equal(ready(root).train_set.images, data.train_set.images)
    assert not list(tmp_path.glob("*.part*"))


def test_a_subset_is_drawn_and_a_batch_is_cut_out_at_once(batches: Path) -> None:
    data = ready(batches, num_train=40, num_val=10, batch_size=16)
    assert (len(data.train_set), len(data.val_set)) == (40, 10)
    assert len(set(data.train_set.labels.tolist())) > 5
    images, labels = next(iter(data.train_dataloader()))
    assert (images.shape, images.dtype, labels.shape) == ((16, 3, 32, 32), torch.uint8, (16,))


def test_training_images_are_shifted_and_mirrored_and_no_others(batches: Path) -> None:
    torch.manual_seed(0)
    marked = torch.zeros(2048, 3, 32, 32)
    marked[:, :, 10, 5] = 1.0
    moved = load("data").shifted_and_mirrored(marked)
    places = {tuple(place[1:]) for place in moved[:, 0].nonzero().tolist()}
    assert {row for row, _ in places} == set(range(6, 15))
    columns = {column for _, column in places}
    assert columns == set(range(1, 10)) | {31 - column for column in range(1, 10)}
    assert moved.sum() == marked.sum()

    data = ready(batches)
    batch = data.train_set.images[:8], data.train_set.labels[:8]
    plain, labels = data.on_after_batch_transfer(batch, 0)
    assert torch.equal(labels, batch[1])
    expected = (batch[0].float() / 255 - torch.tensor(load("data").MEAN).view(1, 3, 1, 1)) / torch.tensor(
        load("data").DEVIATION
    ).view(1, 3, 1, 1)
    torch.testing.assert_close(plain, expected)


def test_what_is_no_cifar_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no CIFAR-10 at .*nowhere.*curl -O https://"):
        ready(tmp_path / "nowhere")
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as file:
        file.addfile(tarfile.TarInfo("readme"), io.BytesIO())
    with pytest.raises(FileNotFoundError, match="holds no data_batch_1"):
        ready(tmp_path / "other.tar.gz")


def test_a_batch_can_only_hold_arrays(batches: Path) -> None:
    (batches / "data_batch_3").write_bytes(pickle.dumps({b"data": print}))
    with pytest.raises(pickle.UnpicklingError, match=r"asks for builtins\.print"):
        ready(batches)


def test_networks_are_as_large_as_published() -> None:
    model = load("model")
    count = {name: sum(p.numel() for p in model.ResNet(network=name).parameters()) / 1e6 for name in model.NETWORKS}
    assert round(count["resnet20"], 2) == 0.27
    assert round(count["resnet56"], 2) == 0.86
    assert round(count["resnet18"], 1) == 11.2
    with pytest.raises(ValueError, match="'resnet9'"):
        model.ResNet(network="resnet9")


def test_the_learning_rate_rises_and_falls_to_zero() -> None:
    annealed = load("model").annealed
    rates = [annealed(step, steps=100, warmup=10) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 11)
    assert max(rates) == 1.0
    assert rates.index(1.0) == 10
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.0, abs=1e-9)
    assert annealed(0, steps=1, warmup=0) == 1.0


def test_checkpointing_changes_memory_and_nothing_else() -> None:
    model = load("model")
    torch.manual_seed(0)
    plain, again = model.ResNet(network="resnet8"), model.ResNet(network="resnet8", checkpointing=True)
    again.load_state_dict(plain.state_dict())
    images = torch.randn(8, 3, 32, 32)
    gradients = []
    for network in (plain, again):
        network(images).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    torch.testing.assert_close(*gradients)


@pytest.mark.slow
def test_it_learns_with_plain_lightning(batches: Path) -> None:
    torch.manual_seed(0)
    rates: list[float] = []

    class Rates(pl.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer = pl.Trainer(
        max_epochs=6, accelerator="cpu", precision="bf16-mixed", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[Rates()],
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's own, of workers and deprecations
        trainer.fit(load("model").ResNet(0.05, network="resnet8"), ready(batches, batch_size=20, augment=False))
    assert float(trainer.callback_metrics["val_acc"]) > 0.5
    assert rates[0] < max(rates) == pytest.approx(0.05, rel=0.02)
    assert rates[-1] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(not has_processes(), reason="needs processes of its own")
def test_the_smoke_size_runs_as_a_user_runs_it(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    script = load("run")
    storage = f"sqlite:///{tmp_path}/bsopt.db"
    options = ["--data", str(archive), "--size", "smoke", "--storage", storage, "--set", "trainer.accelerator=cpu"]
    monkeypatch.setattr(sys, "argv", ["run.py", *options, "--set", f"output={tmp_path}/runs"])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("bsopt study run ")
    records = load_study("resnet_cifar-smoke", storage).records
    assert len(records) == 2
    for record in records:
        assert record.has_value
        assert record.precision == "bf16-mixed"
        assert record.ticks[-1].lr < 0.05 * (record.lr or 0.0) or record.outcome == "pruned"


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.skipif(not has_processes(), reason="needs processes of its own")
def test_two_ranks_train_a_trial_together(batches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    words = load("run").command(str(batches), "smoke", [])
    changes = ["trainer.accelerator=cpu", "trainer.devices=2", "budget.trials=1", f"output={tmp_path}/runs"]
    further = [part for change in changes for part in ("--set", change)]
    storage = f"sqlite:///{tmp_path}/bsopt.db"
    result = CliRunner().invoke(main, [*words, *further, "--storage", storage])
    assert result.exit_code == 0, result.output
    (record,) = load_study("resnet_cifar-smoke", storage).records
    assert record.plan is not None
    assert record.plan.num_devices == 2
    assert record.plan.global_batch_size == 2 * record.plan.micro_batch_size


@pytest.mark.parametrize("size", ["smoke", "one", "many"])
def test_every_size_is_a_study(size: str) -> None:
    script = load("run")
    words = script.command("~/cifar", size, ["--workers", "2"])
    overrides = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    config = load_config(STUDY / "study.yaml", overrides).config
    assert config.task.data is not None
    assert config.task.data.init_args["data_path"] == str(Path("~/cifar").expanduser())
    assert config.trainer["precision"] == "bf16-mixed"
    assert words[-2:] == ["--workers", "2"]
