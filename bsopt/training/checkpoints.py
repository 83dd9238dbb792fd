"""What of a trial is kept in files: its weights, and the whole state that an interrupted one goes on from.

Weights are files of a Lightning checkpoint's form without optimizer state.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bsopt.callbacks._base import Callback
from bsopt.serialization import from_plain, to_plain
from bsopt.trial.record import Tick
from bsopt.trial.spec import checkpoint_name

__all__ = ["KeptTicks", "KeptWeights", "save_resume_file"]


class KeptWeights(Callback):
    """Keeps the initial and the last weights in the trial's folder, and others when it is told of them.

    Every rank takes part, as Lightning's checkpoints want it; rank 0 writes. A trial that goes on from an
    interrupted one has no initial weights of its own.

    Args:
        kinds: Of "initial", "best", "last", "matched".
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

    def found_matched(self, trainer: Any) -> None:
        """Keep the weights of the first epoch whose training loss is as low as all designed runs are compared at."""
        self._save(trainer, "matched")

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Keep the last weights."""
        self._save(trainer, "last")

    def _save(self, trainer: Any, kind: str) -> None:
        if kind in self._kinds:
            trainer.save_checkpoint(str(self._folder / checkpoint_name(kind)), weights_only=True)


class KeptTicks(Callback):
    """Keeps a trial's ticks in its checkpoints, so that an interrupted trial goes on with its whole curve.

    Args:
        ticks: The curve, which grows while the trial trains.
        on_resume: Receives, on every rank at train start, the ticks of the interrupted trial that this one goes on
            from.
    """

    def __init__(self, ticks: Sequence[Tick], on_resume: Callable[[Any, Sequence[Tick]], None]) -> None:
        super().__init__()
        self._ticks = ticks
        self._on_resume = on_resume
        self._earlier: list[Tick] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the ticks so far as plain data."""
        return {"ticks": to_plain(self._ticks)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Read the ticks of the interrupted trial."""
        self._earlier = [from_plain(Tick, tick) for tick in state_dict["ticks"]]

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Hand over the ticks of the interrupted trial."""
        if self._earlier:
            self._on_resume(trainer, self._earlier)


def save_resume_file(trainer: Any, path: str) -> None:
    """Save the training's whole state so that the file is complete at any moment; every rank takes part."""
    trainer.save_checkpoint(path + ".part")
    if trainer.is_global_zero:
        os.replace(path + ".part", path)
