"""The parts of Lightning that bsopt uses although they aren't documented; a test pins each.

Lightning decides after each batch whether to validate, by `trainer.val_check_batch`: with 1 it validates now, with
`sys.maxsize` it doesn't. It computes the value anew with each training loader, at the start of an epoch.
"""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = [
    "NEVER",
    "base_names",
    "batches_done",
    "combination_of",
    "end_at_sigterm",
    "lift_step_limit",
    "quiet_lightning",
    "quietly",
    "validate_after_this_batch",
    "validate_never",
]

NEVER = sys.maxsize
"""A `val_check_interval` that no run reaches."""

_LOGGERS = ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning.fabric")
_HINTS = (
    r".*does not have many workers.*",
    r".*[Tt]he number of training batches.*is smaller than the logging interval.*",
    r".*Starting from v1\.9.*tensorboardX.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*You defined a `validation_step` but have no `val_dataloader`.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
)


def validate_after_this_batch(trainer: Any) -> None:
    """Have Lightning validate when the batch is over; to be called in `on_train_batch_end`."""
    trainer.val_check_batch = 1


def validate_never(trainer: Any) -> None:
    """Keep Lightning from validating by itself, until its next training loader."""
    trainer.val_check_batch = NEVER


def base_names(value: Any) -> set[str]:
    """Return the names of an object's class and of those that it derives from, of either Lightning package."""
    return {parent.__name__ for parent in type(value).__mro__}


def batches_done(trainer: Any) -> int:
    """Return the training batches done, on this rank; not 0 at train start where an interrupted run goes on."""
    return int(trainer.fit_loop.total_batch_idx) + 1


def combination_of(loader: Any) -> str | None:
    """Return how a CombinedLoader goes through its loaders (`min_size`, `sequential` …); None for another loader."""
    return str(loader._mode) if type(loader).__name__ == "CombinedLoader" else None


def end_at_sigterm() -> None:
    """Let SIGTERM end this process at once, as it does without Lightning; to be called in `on_train_start`.

    Lightning's handler broadcasts from within the signal: of several ranks of which one was sent it, all then wait for
    each other without an end, or take one collective's data for another's.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def lift_step_limit(trainer: Any) -> None:
    """Let training go on beyond `max_steps`, which schedulers have planned with by then."""
    trainer.fit_loop.epoch_loop.max_steps = -1


def quiet_lightning() -> None:
    """Keep Lightning's banners and hints out of the trial's log; errors and warnings of user code stay."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    for pattern in _HINTS:
        warnings.filterwarnings("ignore", message=pattern)


@contextmanager
def quietly() -> Iterator[None]:
    """Keep Lightning's banners and hints out of a block of code in the user's own process."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    with warnings.catch_warnings():
        quiet_lightning()
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
