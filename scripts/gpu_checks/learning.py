"""What is learned on the GPU: the same twice, the same noise as sample by sample, and the same answer as on a CPU."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.func import functional_call, grad, vmap

from bsopt.callbacks import GradientNoiseScale
from bsopt.trial.plan import Plan
from bsopt.trial.record import TrialRecord
from bsopt.trial.spec import Channel, TrialSpec
from gpu_checks.driver import ROOT, Found, Place
from gpu_checks.trials import WATCHED, MadeImages, Net, launcher, make_spec


def deterministic(place: Place) -> Found:
    """Train the same trial twice in deterministic mode, in processes of its own, and compare every number."""
    is_cuda = place.device == "cuda"
    data = {"num_train": 2048 if is_cuda and not place.small else 256}
    curves = {}
    for mode in (True, False):
        trainer = {"precision": "bf16-mixed", "deterministic": mode}
        runs = [
            launcher().run(make_spec(place, Plan(64), data=data, trainer=trainer, number=0), WATCHED) for _ in range(2)
        ]
        curves[mode] = [_curve(run) for run in runs]
    is_same = {mode: first == second for mode, (first, second) in curves.items()}
    text = f"deterministic: {_words(is_same[True])}; otherwise: {_words(is_same[False])}"
    return Found(
        text, is_same[True] and bool(curves[True][0]), {"curves": {str(mode): c for mode, c in curves.items()}}
    )


def _curve(run: TrialRecord) -> list[dict[str, float]]:
    """Return all that a trial logged at each validation, without the times that bsopt measures."""
    return [{name: x for name, x in tick.metrics.items() if not name.startswith("bsopt/")} for tick in run.ticks]


def noise(place: Place) -> Found:
    """Compare the noise scale that the callback measures with that of every sample's own gradient, at fixed weights."""
    count = 1024 if place.device == "cuda" and not place.small else 128
    # Classes of unequal size, so that there is a gradient to tell from its noise.
    spec = make_spec(place, Plan(16, 4), model={"network": "resnet8"}, data={"num_train": count, "skew": 3.0})
    return Found(**launcher().call("gpu_checks.learning:both_noise_scales", spec, WATCHED, place.device == "cuda"))


def both_noise_scales(spec: TrialSpec, channel: Channel, is_cuda: bool) -> dict[str, Any]:
    """Return what `noise` found. Normalisation is by running statistics, so that a sample has a gradient of its own."""
    from bsopt.training.lightning_internals import quiet_lightning

    quiet_lightning()
    pl.seed_everything(0, verbose=False)
    torch.set_float32_matmul_precision("highest")
    network = Net(1e-3, **spec.task.source["model"]["init_args"], momentum=0.0, weight_decay=0.0)
    images = MadeImages(spec.plan.micro_batch_size, **spec.task.source["data"]["init_args"])
    _trainer(is_cuda, max_steps=20).fit(network, images)  # for the running statistics
    network.hparams.lr = 1e-30
    callback = GradientNoiseScale("accumulation", every=1)
    _trainer(is_cuda, max_epochs=8, accumulate_grad_batches=4, callbacks=[_Frozen(), callback]).fit(network, images)
    true = _noise_scale(network.to("cuda" if is_cuda else "cpu"), images)
    measured = callback.estimate
    assert measured is not None
    text = f"measured {measured.value:.3g} ({measured.low:.3g} to {measured.high:.3g}), sample by sample {true:.3g}"
    is_near = measured.low <= true <= measured.high or 0.8 <= measured.value / true <= 1.25
    holds = math.isfinite(measured.value) and is_near
    return {"text": text, "holds": holds, "numbers": {"measured": measured.value, "true": true}}


def mnist(place: Place, num_trials: int = 20) -> Found:
    """Run the same study on the GPU and on the CPU, and compare what they recommend."""
    path = place.data or str(_made_digits(Path(place.folder)))
    count = 3 if place.small or place.device != "cuda" else num_trials
    answers = {}
    for name, accelerator, workers in (("GPU", "gpu" if place.device == "cuda" else "cpu", 4), ("CPU", "cpu", 4)):
        answers[name] = _answer(place, path, name, accelerator=accelerator, workers=workers, num_trials=count)
    gpu, cpu = answers["GPU"], answers["CPU"]
    text = "; ".join(
        f"{name} B {a['batch_size']}, lr {a['lr']:.2g}, val_loss {a['value']:.3f}, {a['seconds']:.0f} s"
        for name, a in answers.items()
    )
    near = abs(gpu["value"] - cpu["value"]) <= 0.25 * max(gpu["value"], cpu["value"]) + 0.02
    data = "MNIST" if place.data else "made digits"
    return Found(f"{data}, {count} trials: {text}", near if count == num_trials else None, {"answers": answers})


def _answer(place: Place, path: str, name: str, *, accelerator: str, workers: int, num_trials: int) -> dict[str, Any]:
    import time

    from bsopt.config import LoadedConfig, validate_config
    from bsopt.recommendation import recommend
    from bsopt.study.study import Study

    folder = ROOT / "studies" / "mnist"
    config = {
        "name": f"mnist-{name}",
        "task": {
            "model": {"class_path": "model.MnistCNN", "init_args": {"momentum": 0.9}},
            "data": {"class_path": "model.MnistData", "init_args": {"path": path, "num_train": 10000, "num_val": 2000}},
        },
        "search": {
            "batch_size": {"low": 16, "high": 2048},
            "lr": {"low": 1e-3, "high": 1.0, "reference": {"batch_size": 32, "lr": 0.01}},
        },
        "budget": {"trials": num_trials, "epochs": 2, "validate_every": "1 epoch"},
        "limits": {"max_micro_batch_size": 2048},
        "pruning": "none",
        "trainer": {"accelerator": accelerator, "devices": 1},
        "workers": workers,
        "storage": f"sqlite:///{place.folder}/{name}.db",
        "output": f"{place.folder}/{name}",
    }
    study = Study.create(LoadedConfig(validate_config(config), folder / "study.yaml"))
    began = time.monotonic()
    study.run()
    seconds = time.monotonic() - began
    choice = recommend(study.optuna).choice
    if choice is None:
        messages = {record.message for record in study.records}
        raise RuntimeError(f"no trial succeeded on the {name}: {messages}")
    best = min(r.value for r in study.records if r.value is not None)
    return {"batch_size": choice.batch_size, "lr": choice.lr.value, "value": best, "seconds": seconds}


def _trainer(is_cuda: bool, **arguments: Any) -> Any:
    return pl.Trainer(
        accelerator="gpu" if is_cuda else "cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0, **arguments,
    )  # fmt: skip


class _Frozen(pl.Callback):
    """Normalises by running statistics in training, too."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        for module in pl_module.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()


def _noise_scale(network: Any, data: Any) -> float:
    """Return tr Σ / |G|² over all training samples, from each one's own gradient."""
    network.eval()
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    buffers = dict(network.named_buffers())
    device = next(iter(parameters.values())).device

    def loss(values: Any, image: Any, label: Any) -> Any:
        logits = functional_call(network, (values, buffers), (image[None],))
        return torch.nn.functional.cross_entropy(logits, label[None])

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))
    count, total, square = len(data.train_set), 0.0, 0.0
    for begin in range(0, count, 64):
        batch = (
            data.train_set.images[begin : begin + 64].to(device),
            data.train_set.labels[begin : begin + 64].to(device),
        )
        images, labels = data.on_after_batch_transfer(batch, 0)
        found = gradients(parameters, images, labels)
        flat = torch.cat([g.flatten(1) for g in found.values()], dim=1).double()
        total = total + flat.sum(0)
        square += float(flat.square().sum())
    mean = total / count
    trace = (square - count * float(mean.square().sum())) / (count - 1)
    return trace / max(float(mean.square().sum()) - trace / count, 1e-30)


def _made_digits(folder: Path) -> Path:
    """Write a file shaped like MNIST, in which the digit is the place of a bright square under noise."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (12000, 28, 28)).astype(np.uint8)
    labels = np.arange(12000) % 10
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 4)
        part = image[8 * row : 8 * row + 7, 7 * column : 7 * column + 6]
        part[:] = np.minimum(255, part.astype(int) + 55)
    path = folder / "digits.npz"
    np.savez(path, x_train=images[:10000], y_train=labels[:10000], x_test=images[10000:], y_test=labels[10000:])
    return path


def _words(is_same: bool) -> str:
    return "the same to the last bit" if is_same else "different"
