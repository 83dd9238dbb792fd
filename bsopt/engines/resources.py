"""What one worker needs: as many devices as a trial has ranks, and their cores."""

from __future__ import annotations

from dataclasses import dataclass

from bsopt.config import StudyConfig
from bsopt.errors import ConfigError

__all__ = ["Resources", "resources_of"]


@dataclass(frozen=True, slots=True)
class Resources:
    """What is reserved for each worker, which runs one trial at a time.

    Attributes:
        cpus: Cores.
        gpus: GPUs.
    """

    cpus: int
    gpus: int


def resources_of(
    config: StudyConfig, *, cpus: int | None = None, gpus: int | None = None, has_gpus: bool = False
) -> Resources:
    """Return what a worker of a study needs: by default a core and, where the Trainer uses GPUs, a GPU for each rank.

    Args:
        config: The study file.
        cpus: Cores of each worker instead.
        gpus: GPUs of each worker instead.
        has_gpus: Whether a Trainer with `accelerator: auto` would find GPUs there.

    Raises:
        ConfigError: The number of GPUs can't be told from `trainer.devices`, or trials are of several nodes.
    """
    trainer = config.trainer
    if int(trainer.get("num_nodes", 1)) > 1:
        raise ConfigError(
            "trainer.num_nodes is above 1: an engine places workers of one node each. Start the ranks of such trials "
            "with torchrun or srun (studies/scale_out/README.md)."
        )
    accelerator = str(trainer.get("accelerator", "auto"))
    uses_gpus = accelerator in ("gpu", "cuda") or (accelerator == "auto" and has_gpus)
    devices = trainer.get("devices", 1)
    ranks = len(devices) if isinstance(devices, list) else devices
    if gpus is None and uses_gpus and (not isinstance(ranks, int) or ranks < 1):
        raise ConfigError(
            f"trainer.devices: {devices!r} doesn't tell how many GPUs a trial takes; add --gpus-per-trial."
        )
    ranks = ranks if isinstance(ranks, int) and ranks > 0 else 1
    reserved = gpus if gpus is not None else (ranks if uses_gpus else 0)
    return Resources(cpus=cpus if cpus is not None else max(ranks, reserved, 1), gpus=reserved)
