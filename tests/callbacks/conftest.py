"""What the callbacks' tests share: one thread, and Lightning's advice about workers and loggers left out."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

QUIET = (
    "ignore:The .* does not have many workers",
    "ignore:The number of training batches",
    "ignore:You defined a `validation_step`",
    "ignore:GPU available",
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for message in QUIET:
                item.add_marker(pytest.mark.filterwarnings(message))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _lightning_speaks() -> None:
    """Undo what a trial trained in this process by another test has done to Lightning's loggers."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.INFO)
