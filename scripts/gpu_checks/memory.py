"""The largest micro-batch as the probe finds it against real running out of memory, and what is left afterwards."""

from __future__ import annotations

import gc
import subprocess
import time
from dataclasses import replace
from typing import Any

import torch

from bsopt.laws.step_time import MEMORY_MARGIN
from bsopt.training.probe.measure import measure
from bsopt.training.probe.probe import probe
from bsopt.training.processes.launcher import run_here
from bsopt.training.processes.supervision import Supervision
from bsopt.trial.plan import Plan
from bsopt.trial.record import StopReason
from bsopt.trial.spec import Channel, TrialSpec
from bsopt.units import format_bytes
from gpu_checks.driver import ROOT, Found, Place
from gpu_checks.trials import WATCHED, launcher, make_spec, sized, take_only

_CLOSE = 1.1  # the probe ends where the largest that fits is known to a tenth
FAKE_UNITS = 300


def largest(
    place: Place,
    precision: str = "32-true",
    checkpointing: bool = False,
    compiled: bool = False,
    fraction: float = 0.25,
    network: str | None = None,
) -> Found:
    """Compare the micro-batch that the probe finds, and the one its law predicts, with the largest that runs."""
    is_real = place.device == "cuda"
    take_only(
        fraction=(0.02 if place.small else fraction) if is_real else None, fake_units=None if is_real else FAKE_UNITS
    )
    most = 32768 if is_real else 1024
    model: dict[str, Any] = {"checkpointing": checkpointing}
    if network is not None and not place.small:
        model["network"] = network
    spec = make_spec(
        place, Plan(1), model=model, compiled=compiled, trainer={"precision": precision},
        data={"num_train": most},
    )  # fmt: skip
    began = time.monotonic()
    found = probe(spec, launcher(), WATCHED, smallest=most // 32 if compiled else 16, largest=most)
    seconds = time.monotonic() - began
    best, capacity = found.max_micro_batch_size, found.capacity_bytes or 0
    numbers: dict[str, Any] = {
        "probe": best,
        "capacity_bytes": capacity,
        "probe_seconds": seconds,
        "rows": [[r.micro_batch_size, r.status, r.peak_memory_bytes, r.seconds_per_step] for r in found.rows],
    }
    if not best or not found.is_limited_by_memory:
        return Found(f"the probe found no limit: {found.message}", holds=False, numbers=numbers)
    true = launcher().call("gpu_checks.memory:largest_that_runs", spec, WATCHED, best, most)
    law = found.memory.largest_micro_batch(capacity, margin=0.0) or 0
    numbers |= {"true": true, "law": law}
    least = true * (1 - MEMORY_MARGIN) / _CLOSE - 1
    text = (
        f"probe {best}, true {true} ({best / true:.0%}); law alone {law} ({law / true - 1:+.0%}); "
        f"{len(found.rows)} sizes in {seconds:.0f} s, {format_bytes(capacity)}"
    )
    return Found(text, least <= best <= true, numbers)


def largest_that_runs(spec: TrialSpec, channel: Channel, start: int, most: int) -> int:
    """Return the largest micro-batch that runs in this process, to a fiftieth; `start` ran in another."""

    def runs(size: int) -> bool:
        row = measure(sized(spec, size), channel)
        gc.collect()
        torch.cuda.empty_cache()
        return row.status == "ok"

    good, bad = (start, most + 1) if runs(start) else (0, start)
    while good and bad > most and good < most:
        size = min(most, max(good + 1, int(good * 1.1)))
        good, bad = (size, bad) if runs(size) else (good, size)
        if good == most:
            return most
    while bad - good > max(1, good // 50):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if runs(middle) else (good, middle)
    return good


def recovery(place: Place) -> Found:
    """Train, run out of memory, and train again: in processes of their own, and in one and the same."""
    is_real = place.device == "cuda"
    take_only(fraction=0.05 if is_real else None, fake_units=None if is_real else FAKE_UNITS)
    large = 32768 if is_real else 1024
    data = {"num_train": large}
    before = used_bytes() if is_real else 0
    specs = [
        make_spec(place, Plan(size), data=data, number=number, trainer={"limit_train_batches": 4})
        for number, size in enumerate((32, large, 32))
    ]
    records = [launcher().run(spec, WATCHED) for spec in specs]
    after = used_bytes() if is_real else 0
    reasons, reserved = launcher().call("gpu_checks.memory:in_one_process", specs[0], WATCHED, specs)
    expected = [StopReason.COMPLETED, StopReason.OUT_OF_MEMORY, StopReason.COMPLETED]
    was_right = [record.stop_reason for record in records] == expected and reasons == expected
    kept = after - before
    most = 64 * 2**20 if is_real else 2**18  # workspaces of libraries stay
    holds = was_right and kept < 100 * 2**20 and reserved[1] <= reserved[0] + most
    words = ", ".join(str(r.stop_reason.value) if r.stop_reason else "none" for r in records)
    text = (
        f"{words}; left on the GPU {format_bytes(max(0, kept))}; in one process {'the same' if was_right else reasons}"
    )
    text += f", reserved after each {', '.join(format_bytes(size) for size in reserved)}"
    numbers = {"kept_bytes": kept, "reserved": reserved, "messages": [record.message for record in records]}
    return Found(text, holds, numbers)


def in_one_process(
    spec: TrialSpec, channel: Channel, specs: list[TrialSpec]
) -> tuple[list[StopReason | None], list[int]]:
    """Return how trials in this very process ended, and what was reserved of the device after each."""
    reasons, reserved = [], []
    for one in specs:
        reasons.append(run_here(replace(one, folder=one.folder + "-here"), Supervision()).stop_reason)
        reserved.append(int(torch.cuda.memory_reserved()))
    return reasons, reserved


def halving(place: Place) -> Found:
    """Run a study whose batch size doesn't fit until it accumulates; the next trial begins where that ended."""
    from bsopt.config import LoadedConfig, validate_config
    from bsopt.study.study import Study

    is_real = place.device == "cuda"
    take_only(fraction=0.05 if is_real else None, fake_units=None if is_real else FAKE_UNITS)
    size = 8192 if is_real else 1024
    spec = make_spec(place, Plan(size), data={"num_train": size})
    config = {
        "name": "halving",
        "task": spec.task.source,
        "search": {"batch_size": {"low": 32, "high": size}, "lr": {"low": 1e-3, "high": 1e-1}},
        "budget": {"trials": 2, "epochs": 1},
        "limits": {"max_micro_batch_size": size},
        "pruning": "none",
        "trainer": dict(spec.trainer),
        "storage": f"sqlite:///{place.folder}/bsopt.db",
        "output": f"{place.folder}/runs",
    }
    study = Study.create(LoadedConfig(validate_config(config), ROOT / "scripts" / "study.yaml"))
    for _ in range(2):
        study.optuna.enqueue_trial({"batch_size": size, "lr": 0.01}, skip_if_exists=False)
    study.run()
    plans = [record.plan for record in study.records]
    holds = all(r.outcome == "complete" and r.plan and r.plan.accumulate_grad_batches > 1 for r in study.records)
    return Found(
        "; ".join(map(str, plans)), holds and plans[0] == plans[1], {"messages": [r.message for r in study.records]}
    )


def used_bytes() -> int:
    """Return what is used of the first GPU, by all processes, as the driver says."""
    asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", "0"]
    told = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True)
    return int(told.stdout.split()[0]) * 2**20
