"""Step time and its law, energy, what the callbacks cost, and copies to the device."""

from __future__ import annotations

import itertools
import statistics
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from bsopt import callbacks
from bsopt.callbacks import ThroughputMonitor
from bsopt.laws.step_time import fit_step_time
from bsopt.training.probe.measure import measure
from bsopt.trial.plan import Plan
from bsopt.trial.spec import Channel, TrialSpec
from gpu_checks.driver import Found, Place
from gpu_checks.trials import WATCHED, MadeImages, Net, launcher, make_spec, sized

_QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "limit_val_batches": 0,
}


def law(place: Place) -> Found:
    """Fit the law of step time to four sizes and compare it with eight others."""
    most = 4096 if place.device == "cuda" and not place.small else 64
    sizes = [int(size) for size in np.unique(np.geomspace(8 if most > 64 else 2, most, 12).round())]
    spec = make_spec(place, Plan(1), data={"num_train": 2 * most}, trainer={"precision": "bf16-mixed"})
    seconds = launcher().call("gpu_checks.speed:step_times", spec, WATCHED, sizes)
    pairs = list(zip(sizes, seconds, strict=True))
    fitted = [pairs[round(place * (len(pairs) - 1) / 3)] for place in range(4)]
    fit = fit_step_time(fitted)
    others = [pair for pair in pairs if pair not in fitted]
    errors, covered = [], 0
    for size, true in others:
        predicted = fit.predict(size)
        if predicted is None:
            return Found(f"no law: {fit.message}", holds=False, numbers={"pairs": pairs})
        errors.append(predicted.value / true - 1)
        covered += predicted.low <= true <= predicted.high
    middle, worst = statistics.median(map(abs, errors)), max(errors, key=abs)
    text = (
        f"from {len(fitted)} of {len(pairs)} sizes: median error {middle:.1%}, worst {worst:+.1%}, "
        f"{covered} of {len(others)} in the 90 % interval; {1e3 * seconds[0]:.2g} to {1e3 * seconds[-1]:.3g} ms"
    )
    return Found(text, middle <= 0.10 and abs(worst) <= 0.25, {"pairs": pairs, "errors": errors})


def step_times(spec: TrialSpec, channel: Channel, sizes: Sequence[int]) -> list[float]:
    """Return the seconds of a step at each micro-batch, measured in this process."""
    rows = [measure(sized(spec, size), channel) for size in sizes]
    return [row.seconds_per_step if row.seconds_per_step is not None else float("nan") for row in rows]


def energy(place: Place) -> Found:
    """Compare a run's energy with the power that nvidia-smi tells meanwhile, and its step time with CUDA's events."""
    seconds = 2.0 if place.small else 8.0
    is_cuda = place.device == "cuda"
    spec = make_spec(place, Plan(256 if is_cuda else 8), data={"num_train": 8192 if is_cuda else 256})
    with _PowerReadings() as readings:
        told = launcher().call("gpu_checks.speed:burn", spec, WATCHED, seconds, is_cuda)
    settled = min(1.0, 0.25 * (told["to"] - told["from"]))  # the driver tells a mean of the last second
    inside = [(w, u) for at, w, u in readings.values if told["from"] + settled <= at <= told["to"]]
    numbers = {**told, "num_readings": len(inside)}
    steps = f"step {1e3 * told['monitor']:.2f} ms, by CUDA events {1e3 * told['events']:.2f} ms"
    near = abs(told["monitor"] / told["events"] - 1) <= 0.1
    if told["joules"] is None or not inside:
        why = "no energy counter" if told["joules"] is None else "nvidia-smi told no power"
        return Found(f"{why}; {steps}", None if near else False, numbers)
    smi = statistics.fmean(w for w, _ in inside) * (told["to"] - told["from"])
    use = statistics.fmean(u for _, u in inside)
    text = (
        f"{told['joules']:.0f} J ({told['source']}) against {smi:.0f} J ({told['joules'] / smi - 1:+.1%}); "
        f"{use:.0f} % in use, {1 - told['data_share']:.0%} of the time in steps; {steps}"
    )
    return Found(text, near and abs(told["joules"] / smi - 1) <= 0.1, {**numbers, "smi_joules": smi, "use": use})


def burn(spec: TrialSpec, channel: Channel, seconds: float, is_cuda: bool) -> dict[str, Any]:
    """Train for so many seconds; return the run's energy and step time, and when it began and ended."""
    monitor, marks = ThroughputMonitor(), _Marks(is_cuda=is_cuda)
    _fit(spec, [monitor, marks], max_time={"seconds": int(seconds) + 1}, min_steps=20)
    summary = monitor.summary
    assert summary is not None
    return {
        "joules": summary.energy_joules,
        "source": summary.energy_source,
        "from": marks.began,
        "to": marks.ended,
        "monitor": summary.seconds_per_step,
        "events": marks.seconds_per_step(),
        "data_share": summary.data_share,
    }


def overhead(place: Place) -> Found:
    """Measure what each callback adds to steps of about 5 and 20 ms."""
    is_cuda = place.device == "cuda"
    found: dict[str, dict[str, float]] = {}
    for wanted, network in ((5.0, "resnet8"), (20.0, "resnet18"))[: 1 if place.small else 2]:
        spec = make_spec(place, Plan(64), model={"network": network}, data={"num_train": 16384 if is_cuda else 64})
        num_blocks, num_steps = (12, 20) if is_cuda else (2, 2)
        found |= launcher().call(
            "gpu_checks.speed:shares", spec, WATCHED, list(callbacks.__all__), wanted / 1e3, num_blocks, num_steps
        )
    parts, holds = [], True
    for step, each in found.items():
        noise = each["noise"]
        shares = {name: share for name, share in each.items() if name != "noise"}
        worst = max(shares, key=lambda name: shares[name])
        holds = holds and shares[worst] <= 0.03 + noise
        middle = statistics.median(shares.values())
        parts.append(f"at {step} ms: median {middle:+.1%}, most {worst} {shares[worst]:+.1%} (noise {noise:.1%})")
    return Found("; ".join(parts), holds if is_cuda else None, {"shares": found})


def shares(
    spec: TrialSpec, channel: Channel, names: Sequence[str], wanted: float, num_blocks: int, num_steps: int
) -> dict[str, dict[str, float]]:
    """Return what each callback adds to a step, as a share, under the step's milliseconds.

    A callback takes part in every second block of so many steps of one and the same run, and is compared with the
    blocks beside. "noise" is the largest share that an empty callback seems to add, of three.
    """
    size = _size_of(spec, wanted, num_steps)
    empty = [_share(spec, size, pl.Callback(), num_blocks, num_steps) for _ in range(3)]
    found = {"noise": max(abs(share) for share, _ in empty)}
    for name in names:
        found[name], _ = _share(spec, size, _callback(name), num_blocks, num_steps)
    return {f"{1e3 * statistics.median(seconds for _, seconds in empty):.1f}": found}


def pinned(place: Place) -> Found:
    """Compare copies from pinned and from ordinary memory, and what training reads after copies that don't wait."""
    if place.device != "cuda":
        return Found("there is no GPU to copy to")
    spec = make_spec(place, Plan(128), data={"num_train": 2048})
    return Found(**launcher().call("gpu_checks.speed:copies", spec, WATCHED, 2**20 if place.small else 2**26))


def copies(spec: TrialSpec, channel: Channel, num_bytes: int) -> dict[str, Any]:
    """Return what `pinned` found."""
    device = torch.device("cuda")
    plain = torch.randint(0, 255, (num_bytes,), dtype=torch.uint8)
    held = plain.pin_memory()
    rates = {}
    for name, source, is_blocking in (("ordinary", plain, True), ("pinned", held, False)):
        source.to(device)
        torch.cuda.synchronize()
        began = time.perf_counter()
        copied = [source.to(device, non_blocking=not is_blocking) for _ in range(5)]
        torch.cuda.synchronize()
        rates[name] = 5 * num_bytes / (time.perf_counter() - began) / 1e9
    are_equal = all(bool((each.cpu() == plain).all()) for each in copied)
    losses = []
    for is_pinned in (False, True):
        data = dict(spec.task.source["data"]["init_args"], pin_memory=is_pinned)
        losses.append(
            _fit(spec, [], data=data, max_epochs=1, deterministic="warn").callback_metrics["train_loss"].item()
        )
    text = (
        f"ordinary {rates['ordinary']:.1f} GB/s, pinned {rates['pinned']:.1f} GB/s; loss after an epoch "
        f"{losses[0]:.6f} and {losses[1]:.6f}"
    )
    holds = are_equal and abs(losses[0] - losses[1]) < 1e-3 and rates["pinned"] > 0.9 * rates["ordinary"]
    return {"text": text, "holds": holds, "numbers": {"rates": rates, "losses": losses}}


def _fit(spec: TrialSpec, added: Sequence[Any], *, data: Any = None, **arguments: Any) -> Any:
    """Train the spec's network by Lightning alone, and return the Trainer."""
    from bsopt.training.lightning_internals import quiet_lightning

    quiet_lightning()
    pl.seed_everything(0, verbose=False)
    arguments = {"max_epochs": 1000, **arguments}
    accelerator = spec.trainer["accelerator"]
    trainer = pl.Trainer(accelerator=accelerator, devices=1, callbacks=list(added), **_QUIET, **arguments)
    images = MadeImages(spec.plan.micro_batch_size, **(data or spec.task.source["data"]["init_args"]))
    trainer.fit(Net(spec.lr, **spec.task.source["model"]["init_args"]), images)
    return trainer


def _share(spec: TrialSpec, size: int, callback: Any, num_blocks: int, num_steps: int) -> tuple[float, float]:
    """Return what a callback adds to a step at a micro-batch, as a share, and the seconds of a step without it."""
    blocks = _Blocks(callback, num_steps, is_cuda=spec.trainer["accelerator"] == "gpu")
    _fit(sized(spec, size), [blocks, callback], max_steps=num_steps * (num_blocks + 2) + 1)
    seconds = blocks.seconds[2:]  # after the first two everything is warm
    with_it, without = statistics.fmean(seconds[0::2]), statistics.fmean(seconds[1::2])
    return with_it / without - 1, without / num_steps


def _size_of(spec: TrialSpec, seconds: float, num_steps: int) -> int:
    """Return a micro-batch whose step takes about so many seconds."""
    size = 8
    for _ in range(5):
        _, took = _share(spec, size, pl.Callback(), 2, num_steps)
        if took >= 0.8 * seconds or size >= 4096 or num_steps < 20:
            return size
        size = min(4096, max(size + 1, round(size * min(4.0, seconds / took))))
    return size


def _callback(name: str) -> Any:
    """Return a callback at its defaults."""
    required = {
        "LearningRateScaling": {"reference_batch_size": 32, "warmup_samples": 1000},
        "PlateauStopping": {"monitor": "train_loss", "patience": 10**9},
    }
    if name == "OptunaPruning":
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return callbacks.OptunaPruning(optuna.create_study(pruner=optuna.pruners.NopPruner()).ask(), "train_loss")
    return getattr(callbacks, name)(**required.get(name, {}))


class _Marks(pl.Callback):
    """Notes when training began and ended, and the time of each step as the GPU sees it."""

    def __init__(self, *, is_cuda: bool) -> None:
        self._is_cuda = is_cuda
        self._steps: list[Any] = []
        self.began = self.ended = 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.began = self._now()

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if self._is_cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._steps.append(event)
        else:
            self._steps.append(time.perf_counter())

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.ended = self._now()

    def seconds_per_step(self) -> float:
        """Return the median over the second half of the run."""
        kept = self._steps[len(self._steps) // 2 :]
        pairs = itertools.pairwise(kept)
        return statistics.median((a.elapsed_time(b) / 1e3) if self._is_cuda else b - a for a, b in pairs)

    def _now(self) -> float:
        if self._is_cuda:
            torch.cuda.synchronize()
        return time.time()


class _Blocks(pl.Callback):
    """Lets another callback take part in the batches of every second block of steps, and times the blocks."""

    def __init__(self, callback: Any, num_steps: int, *, is_cuda: bool) -> None:
        self._num_steps, self._is_cuda = num_steps, is_cuda
        self._began = 0.0
        self._is_on = True
        self.seconds: list[float] = []
        for name in dir(callback):
            if name.startswith(("on_train_batch", "on_before", "on_after")):
                setattr(callback, name, self._switched(getattr(callback, name)))

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        number, step = divmod(trainer.global_step, self._num_steps)
        if step:
            return
        if self._is_cuda:
            torch.cuda.synchronize()
        now = time.perf_counter()
        if number:
            self.seconds.append(now - self._began)
        self._began, self._is_on = now, number % 2 == 0

    def _switched(self, hook: Any) -> Any:
        return lambda *arguments, **named: hook(*arguments, **named) if self._is_on else None


class _PowerReadings:
    """What nvidia-smi says of the first GPU, ten times a second: (time, watts, percent in use)."""

    def __init__(self) -> None:
        self.values: list[tuple[float, float, float]] = []
        self._process: Any = None

    def __enter__(self) -> _PowerReadings:
        asked = "nvidia-smi --query-gpu=power.draw,utilization.gpu --format=csv,noheader,nounits -i 0 -lms 100"
        try:
            self._process = subprocess.Popen(asked.split(), stdout=subprocess.PIPE, text=True)
        except OSError:
            return self
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def _read(self) -> None:
        for line in self._process.stdout:
            try:
                watts, use = (float(part) for part in line.split(","))
            except ValueError:
                continue
            self.values.append((time.time(), watts, use))
