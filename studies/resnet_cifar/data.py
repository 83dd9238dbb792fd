"""CIFAR-10 as you have it: its Python batches, their archive, or folders of images. Plain Lightning."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

SOURCE = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
SIZE = 32
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of CIFAR-10's training images
Arrays = tuple[np.ndarray, np.ndarray]  # uint8 (samples, 3, 32, 32), int64 (samples,)
Batch = tuple[Tensor, Tensor]


class CifarData(pl.LightningDataModule):
    """Images of 32×32 pixels and their classes, from wherever `data_path` leads.

    - the folder `cifar-10-batches-py`, or one that holds it
    - `cifar-10-python.tar.gz`, as it is downloaded
    - a folder `train` and a folder `test` (or `val`), each with a folder of images per class
    - a folder of images per class: a sixth of them, drawn at random, is validated on

    Images from folders are decoded once (Pillow is needed) and kept as one file in `cache_path`. Training images are
    shifted by up to four pixels and mirrored, on the device that trains.

    Args:
        data_path: A folder or an archive.
        batch_size: Samples in a batch of the training loader.
        num_train: Training samples to use, drawn at random, always the same; all where it is None.
        num_val: Samples to validate on, drawn likewise; all where it is None.
        augment: Whether training images are shifted and mirrored.
        num_workers: Of each loader; with none, a batch is cut from memory in a millisecond.
        pin_memory: Whether batches are copied to a GPU while it computes.
        cache_path: Where decoded images are kept; beside the folder where it is None.
    """

    def __init__(
        self,
        data_path: str = "cifar-10-python.tar.gz",
        batch_size: int = 128,
        num_train: int | None = None,
        num_val: int | None = None,
        augment: bool = True,
        num_workers: int = 0,
        pin_memory: bool = True,
        cache_path: str | None = None,
    ) -> None:
        super().__init__()
        self.data_path = Path(data_path).expanduser()
        self.batch_size = batch_size
        self.num_train, self.num_val = num_train, num_val
        self.augment = augment
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.cache_path = self.data_path.parent if cache_path is None else Path(cache_path).expanduser()

    def prepare_data(self) -> None:
        self._arrays()

    def setup(self, stage: str | None = None) -> None:
        train, val = self._arrays()
        self.train_set, self.val_set = _Images(*train, self.num_train), _Images(*val, self.num_val)

    def train_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.train_set, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.val_set, 1000, shuffle=False)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        images, labels = batch
        images = images.float().div_(255)
        mean, deviation = (images.new_tensor(v).view(1, 3, 1, 1) for v in (MEAN, DEVIATION))
        images = (images - mean) / deviation
        if self.augment and self.trainer is not None and self.trainer.training:
            images = shifted_and_mirrored(images)
        return images, labels

    def _loader(self, data: Dataset[Batch], size: int, *, shuffle: bool) -> DataLoader[Batch]:
        is_pinned = self.pin_memory and torch.cuda.is_available()
        return DataLoader(
            data, size, shuffle=shuffle, num_workers=self.num_workers, pin_memory=is_pinned, collate_fn=tuple
        )

    def _arrays(self) -> tuple[Arrays, Arrays]:
        path = self.data_path
        if path.is_file() and tarfile.is_tarfile(path):
            return _from_archive(path)
        for folder in (path, path / "cifar-10-batches-py"):
            if (folder / "data_batch_1").is_file():
                return _from_batches(lambda name, folder=folder: (folder / name).read_bytes())
        if path.is_dir() and _classes(path):
            return _from_folders(path, self.cache_path)
        raise FileNotFoundError(
            f"There is no CIFAR-10 at {path.resolve()}: neither its Python batches, nor their archive, nor folders of "
            f"images. Get the archive (170 MB) with `curl -O {SOURCE}`, or pass the path of yours."
        )


class _Images(Dataset[Batch]):
    """Images as bytes; a whole batch is cut out at once."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, most: int | None) -> None:
        chosen = slice(None) if most is None else np.random.default_rng(0).permutation(len(labels))[:most]
        self.images, self.labels = torch.from_numpy(images[chosen]), torch.from_numpy(labels[chosen])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> Batch:
        chosen = torch.as_tensor(indices)
        return self.images[chosen], self.labels[chosen]


def shifted_and_mirrored(images: Tensor) -> Tensor:
    """Return images (samples, 3, 32, 32), each shifted by up to four pixels and mirrored by chance."""
    count, side = len(images), images.shape[-1]
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4))
    down, right = torch.randint(0, 9, (2, count, 1, 1), device=images.device)
    columns = torch.arange(side, device=images.device)
    across = torch.where(torch.rand(count, 1, 1, device=images.device) < 0.5, columns, side - 1 - columns)
    rows = down + columns.view(1, side, 1)
    samples = torch.arange(count, device=images.device).view(count, 1, 1)
    # The indexed axes come first: (samples, 32, 32, 3).
    return padded[samples, :, rows, right + across].permute(0, 3, 1, 2)


def _from_archive(path: Path) -> tuple[Arrays, Arrays]:
    with tarfile.open(path) as archive:
        members = {Path(member.name).name: member for member in archive.getmembers() if member.isfile()}

        def read(name: str) -> bytes:
            file = archive.extractfile(members[name]) if name in members else None
            if file is None:
                raise FileNotFoundError(f"{path} is an archive, but holds no {name}: is it cifar-10-python.tar.gz?")
            return file.read()

        return _from_batches(read)


def _from_batches(read: Callable[[str], bytes]) -> tuple[Arrays, Arrays]:
    parts = [_batch(read(f"data_batch_{number}")) for number in range(1, 6)]
    train = np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])
    return train, _batch(read("test_batch"))


def _batch(content: bytes) -> Arrays:
    found = _OnlyArrays(io.BytesIO(content), encoding="bytes").load()
    images = np.ascontiguousarray(found[b"data"], dtype=np.uint8).reshape(-1, 3, SIZE, SIZE)
    return images, np.asarray(found[b"labels"], dtype=np.int64)


class _OnlyArrays(pickle.Unpickler):
    """Reads arrays and plain values and runs nothing else that a file may ask for."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("numpy") and name in ("_reconstruct", "ndarray", "dtype", "_frombuffer"):
            return super().find_class(module.replace("numpy.core", "numpy._core") if _has_new_core() else module, name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"a CIFAR-10 batch holds arrays and labels, but this one asks for {module}.{name}")


def _has_new_core() -> bool:
    return int(np.__version__.split(".")[0]) >= 2


def _classes(folder: Path) -> list[str]:
    """Return the names of the folders that hold images, of `train` where there is one."""
    inside = folder / "train" if (folder / "train").is_dir() else folder
    return sorted(f.name for f in inside.iterdir() if f.is_dir() and any(_is_image(file) for file in f.iterdir()))


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES


def _from_folders(folder: Path, cache: Path) -> tuple[Arrays, Arrays]:
    classes = _classes(folder)
    val = next((folder / name for name in ("test", "val") if (folder / name).is_dir()), None)
    if (folder / "train").is_dir() and val is not None:
        return _decoded(folder / "train", classes, cache), _decoded(val, classes, cache)
    images, labels = _decoded(folder, classes, cache)
    order = np.random.default_rng(0).permutation(len(labels))
    held, kept = order[: len(order) // 6], order[len(order) // 6 :]
    return (images[kept], labels[kept]), (images[held], labels[held])


def _decoded(folder: Path, classes: list[str], cache: Path) -> Arrays:
    """Return the images under `folder`/<class>/, from the cache where the same files were decoded before."""
    files = [
        (number, file)
        for number, name in enumerate(classes)
        for file in sorted((folder / name).glob("*"))
        if _is_image(file)
    ]
    listing = "\n".join(f"{number} {file.name} {file.stat().st_size}" for number, file in files)
    kept = cache / f"{folder.name}-{hashlib.sha256(listing.encode()).hexdigest()[:12]}.npz"
    if kept.is_file():
        with np.load(kept) as arrays:
            return arrays["images"], arrays["labels"]
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("Reading images needs Pillow: pip install pillow") from error
    images = np.empty((len(files), 3, SIZE, SIZE), np.uint8)
    for place, (_, file) in enumerate(files):
        with Image.open(file) as image:
            images[place] = np.asarray(image.convert("RGB").resize((SIZE, SIZE))).transpose(2, 0, 1)
    labels = np.array([number for number, _ in files], dtype=np.int64)
    with tempfile.NamedTemporaryFile(dir=cache, suffix=".part.npz", delete=False) as part:
        np.savez(part, images=images, labels=labels)
    os.replace(part.name, kept)  # other processes see all of it or nothing
    return images, labels
