"""Which weights of a trial are kept, as files of a Lightning checkpoint's form without optimizer state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bsopt.callbacks._base import Callback

__all__ = ["KeptWeights", "checkpoint_name"]


def checkpoint_name(kind: str) -> str:
    """Return the file name of "initial", "best" or "last" weights.

    >>> checkpoint_name("best")
    'best.ckpt'
    """
    return f"{kind}.ckpt"


class KeptWeights(Callback):
    """Keeps the initial weights and the last ones in the trial's folder, and the best when it is told of a tick.

    Every rank takes part, as Lightning's checkpoints want it; rank 0 writes. A trial that goes on from an
    interrupted one has no initial weights of its own.

    Args:
        kinds: Of "initial", "best", "last".
        folder: The trial's.
    """

    def __init__(self, kinds: tuple[str, ...], folder: str) -> None:
        super().__init__()
        self._kinds = kinds
        self._folder = Path(folder)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Keep the initial weights."""
        if trainer.global_step == 0:
            self._save(trainer, "initial")

    def found_best(self, trainer: Any) -> None:
        """Keep the weights of the best tick so far."""
        self._save(trainer, "best")

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Keep the last weights."""
        self._save(trainer, "last")

    def _save(self, trainer: Any, kind: str) -> None:
        if kind in self._kinds:
            trainer.save_checkpoint(str(self._folder / checkpoint_name(kind)), weights_only=True)
