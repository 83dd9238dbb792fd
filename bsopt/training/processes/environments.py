"""The environment of each rank of a trial: which rank it is, which GPUs it sees, and where the others are."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from bsopt.errors import ConfigError
from bsopt.trial.spec import TrialSpec

__all__ = ["RankInfo", "free_port", "rank_environments"]

_OF_LAUNCHERS = {
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE"),
    *("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"),
}


@dataclass(frozen=True, slots=True)
class RankInfo:
    """Where a rank stands among those of a trial.

    Attributes:
        rank: Its number among all ranks, from 0.
        world_size: How many ranks the trial has.
        local_rank: Its number among the ranks of its node, from 0.
        local_world_size: How many ranks its node has.
        node: The number of its node, from 0.
        address: Host of rank 0.
        port: Port of that host at which rank 0 waits for the others.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    node: int = 0
    address: str = "127.0.0.1"
    port: int = 0

    def variables(self, run: str) -> dict[str, str]:
        """Return the environment, name -> value, that torchrun would give the rank in a run of that name."""
        return {
            "RANK": str(self.rank),
            "LOCAL_RANK": str(self.local_rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_WORLD_SIZE": str(self.local_world_size),
            "GROUP_RANK": str(self.node),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
            "TORCHELASTIC_RUN_ID": run,
        }


def rank_environments(
    spec: TrialSpec, *, devices: Sequence[int] | None = None, rank_info: RankInfo | None = None
) -> list[dict[str, str]]:
    """Return one whole environment, name -> value, for each rank that is started here.

    Args:
        spec: What is trained.
        devices: Indices of the GPUs it may use, among those that this process sees; None for all of them.
        rank_info: The only rank to start here; None for all of the plan's devices.
    """
    # Of torchrun or srun this process may be a rank; the trial's processes are none of theirs.
    base = {name: value for name, value in os.environ.items() if name not in _OF_LAUNCHERS}
    base["PL_GLOBAL_SEED"] = str(spec.seeds.data)  # the seed of the DistributedSampler that Lightning injects
    if devices is not None:
        base["CUDA_VISIBLE_DEVICES"] = ",".join(_visible(devices))
    run = f"bsopt-{os.getpid()}-{spec.number}"
    if rank_info is not None:
        return [{**base, **rank_info.variables(run)}]
    world = spec.plan.num_devices
    if world == 1:
        return [base]
    port = free_port()
    return [{**base, **RankInfo(rank, world, rank, world, port=port).variables(run)} for rank in range(world)]


def _visible(devices: Sequence[int]) -> list[str]:
    """Return how the driver knows some of the GPUs that this process sees, which may itself see only some.

    Raises:
        ConfigError: It sees fewer.
    """
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not seen:
        return [str(device) for device in devices]
    names = [name.strip() for name in seen.split(",")]  # indices, or identifiers of GPUs or of slices of them
    if max(devices) >= len(names):
        raise ConfigError(
            f"GPU {max(devices)} was asked for, but CUDA_VISIBLE_DEVICES={seen} shows {len(names)} (0 to "
            f"{len(names) - 1}): GPUs are counted among those."
        )
    return [names[device] for device in devices]


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port of this host that is free now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
