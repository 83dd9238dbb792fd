"""Lightning's own talk, kept out of a trial's log."""

from __future__ import annotations

import logging
import warnings

__all__ = ["quiet_lightning"]

_LOGGERS = ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning.fabric")
_HINTS = (
    r".*does not have many workers.*",
    r".*[Tt]he number of training batches.*is smaller than the logging interval.*",
    r".*Starting from v1\.9.*tensorboardX.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*You defined a `validation_step` but have no `val_dataloader`.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
)


def quiet_lightning() -> None:
    """Keep Lightning's banners and hints out of the trial's log; errors and warnings of user code stay."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    for pattern in _HINTS:
        warnings.filterwarnings("ignore", message=pattern)
