"""What each rank of a trial sees, gathered over gloo: called in the ranks' processes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from bsopt.trial.spec import Channel, TrialSpec

NAMES = ("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "CUDA_VISIBLE_DEVICES")


def report(spec: TrialSpec, channel: Channel) -> list[dict[str, str | None]]:
    """Return the environment of all ranks, as each of them saw it."""
    import torch.distributed as dist

    dist.init_process_group("gloo")  # finds the others by the environment, as Lightning does
    seen: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(seen, {name: os.environ.get(name) for name in NAMES})
    dist.destroy_process_group()
    return seen


def end_late(spec: TrialSpec, channel: Channel) -> None:
    """Have the second rank write `ended` a second after the first has ended."""
    if os.environ["RANK"] == "1":
        time.sleep(1.0)
        (Path(spec.folder) / "ended").touch()
