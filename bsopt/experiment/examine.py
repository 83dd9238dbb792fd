"""What runs in a child process: a trained network built again, its weights loaded, and examined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from bsopt.errors import TaskError
from bsopt.trial.spec import TrialSpec

__all__ = ["Examination", "examine"]


@dataclass(frozen=True, slots=True)
class Examination:
    """One analysis of kept weights.

    Attributes:
        kind: Sharpness (Keskar's in full space and in a subspace, the adaptive one and the largest curvature), the line
            between two minimizers, or the landscape around one.
        weights: Paths of the checkpoints: one, or two for a line.
        settings: Arguments of the functions of `bsopt.analysis`.
    """

    kind: Literal["sharpness", "line", "landscape"]
    weights: tuple[str, ...]
    settings: Mapping[str, Any]


class _Progress(Protocol):
    def progress(self, done: int, total: int) -> None: ...


def examine(spec: TrialSpec, channel: _Progress, examination: Examination) -> Mapping[str, Any]:
    """Build a run's network and data, load its weights, and return what the analysis finds, as plain data.

    Args:
        spec: The run, on one device.
        channel: Receives the progress.
        examination: What to do.

    Raises:
        BsoptError: The task can't be built, or the weights don't fit it.
    """
    from bsopt.training.task.ready import use_task

    return use_task(spec, lambda ready: _examined(ready.task, ready.trainer, channel, examination), for_training=False)


def _examined(task: Any, trainer: Any, channel: _Progress, examination: Examination) -> Mapping[str, Any]:
    import torch

    from bsopt.analysis.interpolation import interpolate
    from bsopt.analysis.landscape import landscape_2d
    from bsopt.analysis.stored_results import to_stored
    from bsopt.training.task.loaders import train_loader_of, validation_loader_of

    train_data = train_loader_of(task)
    states = [torch.load(path, map_location="cpu", weights_only=True)["state_dict"] for path in examination.weights]
    module = task.module.to(trainer.strategy.root_device)
    try:
        module.load_state_dict(states[0])
    except RuntimeError as error:
        raise TaskError(f"the kept weights don't fit the model that the study's file builds now: {error}") from error
    settings = dict(examination.settings)
    if examination.kind == "line":
        line = interpolate(
            module,
            states[0],
            states[1],
            train_data=train_data,
            validation_data=validation_loader_of(task),
            **settings,
            progress=channel.progress,
        )
        return to_stored(line)
    if examination.kind == "landscape":
        return to_stored(landscape_2d(module, train_data, **settings, progress=channel.progress))
    return _sharpness(module, train_data, settings, channel)


def _sharpness(module: Any, data: Any, settings: dict[str, Any], channel: _Progress) -> Mapping[str, Any]:
    from bsopt.analysis.curvature import top_curvature
    from bsopt.analysis.sharpness import adaptive_sharpness, keskar_sharpness
    from bsopt.analysis.stored_results import to_stored

    names = ("subspace_dim", "epsilon", "rho", "max_products")
    subspace_dim, epsilon, rho, max_products = (settings.pop(name) for name in names)
    starts = settings["num_starts"]
    plain = {name: value for name, value in settings.items() if name != "num_starts"}

    def after(before: int) -> Any:
        return lambda done, total: channel.progress(before + done, 3 * starts + 1)

    found = {
        "full": keskar_sharpness(module, data, epsilon=epsilon, **settings, progress=after(0)),
        "subspace": keskar_sharpness(
            module, data, epsilon=epsilon, subspace_dim=subspace_dim, **settings, progress=after(starts)
        ),
        "adaptive": adaptive_sharpness(module, data, rho=rho, **settings, progress=after(2 * starts)),
        "curvature": top_curvature(module, data, max_products=max_products, **plain),
    }
    channel.progress(3 * starts + 1, 3 * starts + 1)
    return {name: to_stored(result) for name, result in found.items()}
