"""What of a trial is kept in files: its weights, and the whole state that an interrupted one goes on from.

Weights are files of a Lightning checkpoint's form without optimizer state.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bsopt.callbacks._base import Callback
from bsopt.errors import MachineError
from bsopt.serialization import from_plain, to_plain
from bsopt.training.error_text import machine_failed
from bsopt.trial.record import Tick
from bsopt.trial.spec import checkpoint_name, delete_state

__all__ = ["KeptState", "KeptTicks", "KeptWeights", "StaleStateError", "going_on_from"]


class KeptWeights(Callback):
    """Keeps the initial and the last weights in the trial's folder, and others when it is told of them.

    Every rank takes part, as Lightning's checkpoints want it; rank 0 writes. A trial that goes on from an
    interrupted one has no initial weights of its own. Weights that can't be written are a `MachineError`.

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
            path = self._folder / checkpoint_name(kind)
            try:
                trainer.save_checkpoint(str(path), weights_only=True)
            except OSError as error:
                raise MachineError(machine_failed(error, path)) from error


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


class StaleStateError(Exception):
    """The state that a trial was to go on from can't be loaded, for example since the model was changed."""


class KeptState:
    """Keeps a trial's whole state after validations, complete at any moment, so that it can be gone on with.

    Args:
        path: Of the checkpoint: a file, or the folder that a strategy with shards writes.
        overhead: Share of the training time that keeping may take; None keeps it whenever it is asked.
        clock: Seconds; a monotonic clock.
    """

    def __init__(self, path: str, overhead: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = Path(path)
        self._overhead = overhead
        self._clock = clock
        self._next = -float("inf")
        self.error = ""
        """Why it can't be kept; empty while it can."""

    @property
    def is_due(self) -> bool:
        """Whether keeping it now takes no more than its share; rank 0's answer counts for all."""
        return not self.error and self._clock() >= self._next

    def keep(self, trainer: Any) -> None:
        """Save it; every rank takes part. Where the overhead is limited, a failure costs the state and not the trial.

        Raises:
            Exception: Whatever the module, its callbacks or the disk raise, where the overhead isn't limited.
        """
        began = self._clock()
        part = self._path.with_name(self._path.name + ".part")
        has_met = False
        try:
            trainer.save_checkpoint(str(part))
            has_met = True
            if trainer.is_global_zero:
                if self._path.is_dir():
                    delete_state(self._path)
                os.replace(part, self._path)
        except Exception as error:
            if self._overhead is None:
                raise
            self.error = f"{type(error).__name__}: {error}"
            if not has_met:
                trainer.strategy.barrier("Trainer.save_checkpoint")  # where the other ranks wait for this one
        if self._overhead is not None:
            self._next = self._clock() + (self._clock() - began) / self._overhead


def going_on_from(path: str | None, fit: Callable[..., Any]) -> dict[str, Any]:
    """Return what a Trainer's `fit` is given to go on from a state; nothing where there is none.

    The file is the trial's own, and trusted: beside tensors it holds whatever the module's hyperparameters are.

    Args:
        path: Of the state; None for none.
        fit: Lightning's, of which only the newer take `weights_only`.
    """
    if path is None or not Path(path).exists():
        return {}
    takes_all = {"weights_only": False} if "weights_only" in inspect.signature(fit).parameters else {}
    return {"ckpt_path": path, **takes_all}
