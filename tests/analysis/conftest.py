"""Networks and data small enough to check by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class ConvNet(nn.Module):
    """Convolution, BatchNorm, dropout and two linear layers on 8×8 images."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def cross_entropy(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(module(batch[0]), batch[1])


@pytest.fixture
def dataset() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(90, 1, 8, 8, generator=generator)
    return TensorDataset(images, torch.randint(0, 3, (90,), generator=generator))


@pytest.fixture
def loader(dataset: TensorDataset) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(dataset, batch_size=16, shuffle=True)


@pytest.fixture
def network() -> ConvNet:
    torch.manual_seed(1)
    module = ConvNet()
    module.train()
    with torch.no_grad():
        module(torch.randn(64, 1, 8, 8))  # running statistics of their own
    return module


@pytest.fixture
def loss() -> object:
    return cross_entropy
