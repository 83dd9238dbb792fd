"""Photos in one folder per class (cats and dogs, say), read once and kept as arrays: plain Lightning."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")

logger = logging.getLogger(__name__)


class ImageFolderData(pl.LightningDataModule):
    """Images under `data_path/<class>/`, at any depth: resized to a square, 80 % to train on, 20 % to validate.

    The first use decodes every image (Pillow is needed) and writes `.npy` files, which later uses and other
    processes read as they are; other images or another size make new files. Unreadable images are left out and
    counted in a warning.

    Args:
        data_path: A folder with a folder per class; classes are numbered in the order of their names.
        batch_size: Samples in a batch of the training loader.
        image_size: Height and width, pixels.
        val_share: Of all images, those to validate on, drawn at random.
        split_seed: Which images go where.
        cache_path: Where the arrays are kept; in `data_path` itself where it is None.
        num_workers: Of each loader.
    """

    def __init__(
        self,
        data_path: str = "cats_and_dogs",
        batch_size: int = 32,
        image_size: int = 64,
        val_share: float = 0.2,
        split_seed: int = 0,
        cache_path: str | None = None,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.data_path = Path(data_path).expanduser()
        self.batch_size = batch_size
        self.image_size = image_size
        self.val_share = val_share
        self.split_seed = split_seed
        self.cache_path = self.data_path if cache_path is None else Path(cache_path).expanduser()
        self.num_workers = num_workers

    def prepare_data(self) -> None:
        files = self._files()
        images_file, labels_file = self._cache_files(files)
        if images_file.is_file() and labels_file.is_file():
            return
        images, labels = _decode(files, self.image_size)
        self.cache_path.mkdir(parents=True, exist_ok=True)
        _write(labels_file, labels)
        _write(images_file, images)

    def setup(self, stage: str | None = None) -> None:
        files = self._files()
        images_file, labels_file = self._cache_files(files)
        self.classes = tuple(sorted({name for name, _ in files}))
        data = _Images(images_file, np.load(labels_file))
        order = np.random.default_rng(self.split_seed).permutation(len(data))
        num_val = round(self.val_share * len(data))
        self.train_set = Subset(data, order[num_val:].tolist())
        self.val_set = Subset(data, order[:num_val].tolist())

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        return DataLoader(self.val_set, batch_size=250, num_workers=self.num_workers)

    def _files(self) -> list[tuple[str, Path]]:
        """Return (class, file) of every image, in a fixed order."""
        if not self.data_path.is_dir():
            raise FileNotFoundError(
                f"There is no folder at {self.data_path.resolve()}. Give data_path: a folder that holds one folder of "
                "images for each class."
            )
        folders = sorted(path for path in self.data_path.iterdir() if path.is_dir())
        files = [
            (folder.name, file)
            for folder in folders
            for file in sorted(folder.rglob("*"))
            if file.suffix.lower() in SUFFIXES
        ]
        found = sorted({name for name, _ in files})
        if len(found) < 2:
            raise FileNotFoundError(
                f"{self.data_path.resolve()} must hold one folder of images for each of at least two classes; "
                f"found images in {found or 'none'}."
            )
        return files

    def _cache_files(self, files: list[tuple[str, Path]]) -> tuple[Path, Path]:
        listing = "\n".join(f"{f.relative_to(self.data_path).as_posix()} {f.stat().st_size}" for _, f in files)
        key = f"{self.image_size}px-{hashlib.sha256(listing.encode()).hexdigest()[:12]}"
        return self.cache_path / f"images-{key}.npy", self.cache_path / f"labels-{key}.npy"


class _Images(Dataset[tuple[Tensor, Tensor]]):
    """Images of 0–1, shape (3, size, size), and class numbers; the array stays on disk until it is read."""

    def __init__(self, images_file: Path, labels: np.ndarray) -> None:
        self.images_file = images_file
        self.images = np.load(images_file, mmap_mode="r")
        self.labels = torch.as_tensor(labels, dtype=torch.long)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.images[index].astype(np.float32)) / 255, self.labels[index]


def _decode(files: list[tuple[str, Path]], size: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("Reading images needs Pillow: pip install pillow") from error
    numbers = {name: number for number, name in enumerate(sorted({name for name, _ in files}))}
    images, labels, unreadable = np.empty((len(files), 3, size, size), np.uint8), [], 0
    for name, file in files:
        try:
            with Image.open(file) as image:
                square = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        except (OSError, SyntaxError):  # Pillow raises both for broken files
            unreadable += 1
            continue
        images[len(labels)] = np.asarray(square).transpose(2, 0, 1)
        labels.append(numbers[name])
    if unreadable:
        logger.warning("%d of %d images can't be read and are left out.", unreadable, len(files))
    return images[: len(labels)], np.array(labels, dtype=np.int64)


def _write(file: Path, array: np.ndarray) -> None:
    """Write an array so that other processes see all of it or nothing."""
    part = file.with_name(f"{file.stem}.{os.getpid()}.part.npy")
    np.save(part, array)
    part.replace(file)
