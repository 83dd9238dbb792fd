"""The networks of the batch-size experiment, and digits and MNIST to train them on: plain Lightning.

The experiment is Chang & Pathak's (2020): convolution and max-pooling in turns, two fully connected layers, plain
SGD without momentum, dropout or normalisation. Cats and dogs are in `image_folder.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

Batch = tuple[Tensor, Tensor]
MNIST_SOURCE = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"


class VGGLike(pl.LightningModule):
    """Convolution, ReLU and max-pooling in turns, two fully connected layers, and an output: after VGG16.

    Two classes have a single output with a sigmoid and binary cross-entropy, as in the article; more have one
    output each and cross-entropy. The defaults are for 64×64 colour photos and take 1.36 million parameters.

    Args:
        lr: Learning rate of SGD.
        image_size: Height and width of the images, pixels; every convolution is followed by a halving.
        image_channels: 3 for colour, 1 for grey.
        num_classes: At least 2.
        channels: Of each convolution.
        hidden: Units of the two fully connected layers.
        batch_norm: Whether each convolution is followed by batch normalisation.
        warmup_epochs: Over which the learning rate rises to `lr`, in equal steps; 0 for none.
        annealing_epochs: After which the learning rate has fallen to nothing, along a cosine; 0 for a constant one.
    """

    def __init__(
        self,
        lr: float = 0.01,
        image_size: int = 64,
        image_channels: int = 3,
        num_classes: int = 2,
        channels: Sequence[int] = (32, 64, 128, 128),
        hidden: Sequence[int] = (512, 128),
        batch_norm: bool = False,
        warmup_epochs: int = 0,
        annealing_epochs: int = 0,
    ) -> None:
        super().__init__()
        if image_size < 2 ** len(channels):
            raise ValueError(f"{len(channels)} halvings leave nothing of {image_size} pixels")
        self.save_hyperparameters()
        layers: list[nn.Module] = []
        for before, after in zip([image_channels, *channels], channels, strict=False):
            layers.append(nn.Conv2d(before, after, kernel_size=3, padding=1))
            layers += [nn.BatchNorm2d(after)] if batch_norm else []
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
        layers.append(nn.Flatten())
        widths = [channels[-1] * (image_size // 2 ** len(channels)) ** 2, *hidden]
        for before, after in zip(widths, hidden, strict=False):
            layers += [nn.Linear(before, after), nn.ReLU()]
        layers.append(nn.Linear(widths[-1], 1 if num_classes == 2 else num_classes))
        self.net = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss, _ = self._loss_and_accuracy(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[1]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        loss, accuracy = self._loss_and_accuracy(batch)
        metrics = {"val_loss": loss, "val_acc": accuracy}
        self.log_dict(metrics, on_epoch=True, batch_size=len(batch[1]), sync_dist=True)

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.lr)
        if not (self.hparams.warmup_epochs or self.hparams.annealing_epochs):
            return {"optimizer": optimizer}
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, self._share_of_lr)}

    def _share_of_lr(self, epoch: int) -> float:
        """Return the learning rate of an epoch, the first one 0, as a share of `lr`."""
        rise = min(1.0, (epoch + 1) / (self.hparams.warmup_epochs + 1))
        if not self.hparams.annealing_epochs:
            return rise
        way = min(1.0, epoch / self.hparams.annealing_epochs)
        return rise * 0.5 * (1.0 + math.cos(math.pi * way))

    def _loss_and_accuracy(self, batch: Batch) -> tuple[Tensor, Tensor]:
        images, labels = batch
        logits = self(images)
        if self.hparams.num_classes == 2:
            logit = logits.squeeze(-1)
            loss = functional.binary_cross_entropy_with_logits(logit, labels.float())
            return loss, ((logit > 0) == labels.bool()).float().mean()
        return functional.cross_entropy(logits, labels), (logits.argmax(dim=1) == labels).float().mean()


class DigitsCNN(VGGLike):
    """The network at the size of scikit-learn's 8×8 digits: 15 thousand parameters.

    Args:
        lr: Learning rate of SGD.
        batch_norm, warmup_epochs, annealing_epochs: As in `VGGLike`.
    """

    def __init__(
        self, lr: float = 0.05, batch_norm: bool = False, warmup_epochs: int = 0, annealing_epochs: int = 0
    ) -> None:
        super().__init__(
            lr,
            image_size=8,
            image_channels=1,
            num_classes=10,
            channels=(16, 32),
            hidden=(64, 32),
            batch_norm=batch_norm,
            warmup_epochs=warmup_epochs,
            annealing_epochs=annealing_epochs,
        )


class MnistCNN(VGGLike):
    """The network at the size of MNIST's 28×28 digits: 108 thousand parameters."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__(lr, image_size=28, image_channels=1, num_classes=10, channels=(16, 32), hidden=(64, 32))


class DigitsData(pl.LightningDataModule):
    """1,797 handwritten digits that come with scikit-learn: 80 % to train on, 20 % to validate.

    Args:
        batch_size: Samples in a batch of the training loader.
        split_seed: Which samples go where.
    """

    def __init__(self, batch_size: int = 32, split_seed: int = 0) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.split_seed = split_seed

    def setup(self, stage: str | None = None) -> None:
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(self.split_seed).permutation(len(labels))
        images = torch.as_tensor(pixels[order], dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
        targets = torch.as_tensor(labels[order], dtype=torch.long)
        num_val = len(labels) // 5
        self.train_set = TensorDataset(images[num_val:], targets[num_val:])
        self.val_set = TensorDataset(images[:num_val], targets[:num_val])

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.val_set, batch_size=500)


class MnistData(pl.LightningDataModule):
    """MNIST from a NumPy archive with x_train, y_train, x_test and y_test.

    Args:
        data_path: The archive.
        batch_size: Samples in a batch of the training loader.
        num_train: Training samples to use, drawn at random, always the same; all 60,000 where it is None.
        num_val: Test samples to validate on, drawn likewise; all 10,000 where it is None.
    """

    def __init__(
        self,
        data_path: str = "mnist.npz",
        batch_size: int = 32,
        num_train: int | None = None,
        num_val: int | None = None,
    ) -> None:
        super().__init__()
        self.data_path = Path(data_path).expanduser()
        self.batch_size = batch_size
        self.num_train = num_train
        self.num_val = num_val

    def setup(self, stage: str | None = None) -> None:
        if not self.data_path.is_file():
            raise FileNotFoundError(
                f"There is no MNIST file at {self.data_path.resolve()}. Get it (11 MB) with "
                f"`curl -o {self.data_path} {MNIST_SOURCE}`, or pass the path of yours."
            )
        with np.load(self.data_path) as arrays:
            self.train_set = _mnist(arrays["x_train"], arrays["y_train"], self.num_train)
            self.val_set = _mnist(arrays["x_test"], arrays["y_test"], self.num_val)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.val_set, batch_size=1000)


def _mnist(images: np.ndarray, labels: np.ndarray, num_samples: int | None) -> TensorDataset:
    """Return pixels of 0–255, shape (samples, 28, 28), as images of 0–1 with their labels, a drawn subset."""
    chosen = np.random.default_rng(0).permutation(len(labels))[:num_samples]
    pixels = torch.as_tensor(images[chosen], dtype=torch.float32).unsqueeze(1) / 255
    return TensorDataset(pixels, torch.as_tensor(labels[chosen], dtype=torch.long))
