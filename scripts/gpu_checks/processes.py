"""Who touches the GPU, workers that share one or divide several, and ranks that add up their tensors."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import torch

from bsopt.training.processes.crash import Crash
from bsopt.training.processes.supervision import Supervision
from bsopt.trial.plan import Plan
from bsopt.trial.record import TrialRecord
from bsopt.trial.spec import Channel, TrialSpec
from gpu_checks.driver import Found, Place
from gpu_checks.trials import WATCHED, launcher, make_spec, take_only

_IN_A_RANK = "gpu_checks.processes:collective"


def machine(place: Place) -> Found:
    """Say what there is."""
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] or ["cpu"]
    driver = _told("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split("\n")[0] or "unknown"
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if torch.cuda.is_available() else "none"
    memory = torch.cuda.mem_get_info()[1] / 2**30 if torch.cuda.is_available() else 0.0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = (
        f"{len(names)} × {names[0]}, {memory:.1f} GiB; {cores} cores; torch {torch.__version__}, driver {driver}, "
        f"NCCL {nccl}"
    )
    return Found(text, None, {"names": names})


def parent(place: Place) -> Found:
    """Train in a child and see by open device files and the driver's list that nobody else holds the GPU."""
    is_cuda = place.device == "cuda"
    spec = make_spec(place, Plan(8))
    seen: dict[str, Any] = {}

    def look() -> None:
        time.sleep(2.5 if is_cuda else 0.5)
        server = getattr(forkserver._forkserver, "_forkserver_pid", None)  # type: ignore[attr-defined]
        seen["parent"], seen["server"] = _device_files(os.getpid()), _device_files(server) if server else []
        listed = _told("nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader").split()
        seen["listed"] = [int(pid) for pid in listed if pid.isdigit()]
        seen["ours"] = [pid for pid in (os.getpid(), server) if pid in seen["listed"]]

    spec = replace(spec, folder=spec.folder + "-held")
    launcher().call("gpu_checks.processes:hold", spec, WATCHED, 0.0, is_cuda)  # the server has imported all by then
    looking = threading.Thread(target=look)
    looking.start()
    child_pid, child_files = launcher().call(
        "gpu_checks.processes:hold", spec, WATCHED, 3.0 if is_cuda else 1.0, is_cuda
    )
    looking.join()
    is_clean = not seen["parent"] and not seen["server"] and not seen["ours"] and not torch.cuda.is_initialized()
    can_see = bool(child_files) or child_pid in seen["listed"]
    text = (
        f"device files: parent {len(seen['parent'])}, fork server {len(seen['server'])}, child {len(child_files)}; "
        f"the driver lists {len(seen['listed'])} processes, {len(seen['ours'])} of them ours"
    )
    if is_cuda and not can_see:
        text += " (but the child isn't seen either: this system hides it)"
    return Found(text, is_clean if can_see or not is_cuda else None, {**seen, "child": child_pid})


def hold(spec: TrialSpec, channel: Channel, seconds: float, is_cuda: bool) -> tuple[int, list[str]]:
    """Use the GPU and keep it for a while; return this process's number and the device files that it holds open."""
    kept = torch.ones(2**20, device="cuda" if is_cuda else "cpu").sum()
    time.sleep(seconds)
    return os.getpid() if float(kept) > 0 else 0, _device_files(os.getpid())


def sharing(place: Place) -> Found:
    """Train two trials at once on one GPU, and one of them alone."""
    if place.device == "cuda":
        take_only(fraction=0.4)
    data, steps = {"num_train": 8192 if place.device == "cuda" else 256}, {"limit_val_batches": 1}
    specs = [make_spec(place, Plan(128), data=data, trainer=steps, number=number) for number in range(3)]
    alone = launcher().run(specs[0], WATCHED, devices=[0])
    records = _together([lambda spec=spec: launcher().run(spec, WATCHED, devices=[0]) for spec in specs[1:]])
    times = [record.seconds_per_step or float("nan") for record in (alone, *records)]
    holds = all(record.outcome == "complete" for record in (alone, *records))
    text = f"step alone {1e3 * times[0]:.2f} ms, two at once {1e3 * times[1]:.2f} and {1e3 * times[2]:.2f} ms"
    return Found(text, holds, {"seconds": times})


def dividing(place: Place) -> Found:
    """Train on two GPUs at once, by two workers with one each and by two ranks of one trial, and compare the steps."""
    spec = make_spec(place, Plan(128), data={"num_train": 8192 if place.device == "cuda" else 512})
    uuids = [
        launcher().call(
            "gpu_checks.processes:which", replace(spec, number=n, folder=f"{spec.folder}-{n}"), WATCHED, devices=[n]
        )
        for n in range(2)
    ]
    alone = launcher().run(spec, WATCHED, devices=[0])
    pair = replace(spec, plan=Plan(128, 1, 2), batch_size=256, number=9, folder=spec.folder + "-pair")
    both = launcher().run(pair, WATCHED, devices=[0, 1])
    one, two = alone.seconds_per_step or float("nan"), both.seconds_per_step or float("nan")
    are_two = uuids[0] != uuids[1]
    text = (
        f"{'two' if are_two else 'THE SAME'} GPUs; step of 128 {1e3 * one:.2f} ms, of 2 × 128 {1e3 * two:.2f} ms "
        f"({one / two:.0%} weak scaling)"
    )
    return Found(text, are_two, {"uuids": uuids, "seconds": [one, two]})


def which(spec: TrialSpec, channel: Channel) -> str:
    """Return which GPU this process sees first."""
    return str(torch.cuda.get_device_properties(0).uuid)


def collectives(place: Place) -> Found:
    """Add up a tensor over ranks, by every backend that can run here."""
    cases: list[tuple[str, int, bool]] = [("gloo", 1, True), ("gloo", 2, True)]
    if place.device == "cuda":  # two ranks of NCCL on one GPU may be refused
        cases = [("nccl", 1, True), *cases, ("nccl", 2, place.num_devices > 1)]
    parts, holds, numbers = [], True, {}
    for number, (backend, world, should_run) in enumerate(cases):
        spec = make_spec(place, Plan(8, 1, world), number=number)
        name = f"{backend} × {world}"
        try:
            rate = launcher().call(_IN_A_RANK, spec, Supervision(stall_seconds=40.0), backend, place.device == "cuda")
        except Crash as crash:
            numbers[name] = crash.full_message[-2000:]
            parts.append(f"{name} refused ({_short(crash.message)})")
            holds = holds and not should_run
            continue
        numbers[name] = rate
        parts.append(f"{name} {rate:.2f} GB/s")
    return Found(", ".join(parts), holds, numbers)


def collective(spec: TrialSpec, channel: Channel, backend: str, is_cuda: bool) -> float:
    """Return the rate, in GB of the tensor a second, at which ranks sum 64 MB.

    Raises:
        RuntimeError: The sum is wrong, or the backend can't run here.
    """
    import torch.distributed as dist

    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    device = torch.device("cuda", rank % torch.cuda.device_count()) if is_cuda else torch.device("cpu")
    if is_cuda:
        torch.cuda.set_device(device)
    store = {} if world > 1 else {"init_method": f"file://{spec.folder}/store", "rank": 0, "world_size": 1}
    dist.init_process_group(backend, timeout=timedelta(seconds=20), **store)
    count = 2**24 if is_cuda else 2**20
    values = torch.full((count,), float(rank + 1), device=device)
    dist.all_reduce(values)
    if float(values[-1]) != world * (world + 1) / 2:
        raise RuntimeError(f"{backend} summed to {float(values[-1])}")
    _wait(is_cuda)
    began = time.perf_counter()
    for _ in range(3):
        dist.all_reduce(values)
    _wait(is_cuda)
    seconds = time.perf_counter() - began
    dist.destroy_process_group()  # only here: after a failure it could wait for the others
    return 3 * 4 * count / seconds / 1e9


def _together(calls: list[Callable[[], TrialRecord]]) -> list[TrialRecord]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def _wait(is_cuda: bool) -> None:
    if is_cuda:
        torch.cuda.synchronize()


def _device_files(pid: int) -> list[str]:
    """Return the GPU's device files that a process holds open; empty where the system doesn't tell."""
    found = []
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = os.readlink(link)
                if target.startswith("/dev/nvidia"):
                    found.append(target)
    return found


def _told(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout.strip()
    except OSError:
        return ""


def _short(message: str) -> str:
    return message.splitlines()[0][:60] if message else "no message"
