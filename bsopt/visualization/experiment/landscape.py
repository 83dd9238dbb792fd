"""The loss around the minimizers of the smallest and of the largest batch size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from bsopt.experiment.measurements import Experiment, landscape_key
from bsopt.serialization import from_plain
from bsopt.units import format_number
from bsopt.visualization import _traces
from bsopt.visualization.experiment._arms import NOT_ANALYSED, experiment_or_reason
from bsopt.visualization.landscape import plot_landscape
from bsopt.visualization.study_data import Source

__all__ = ["LandscapeInfo", "StoredLandscape", "experiment_landscape_info", "plot_experiment_landscape"]

TITLE = "Loss around the minimizers"


@dataclass(frozen=True, slots=True)
class StoredLandscape:
    """What `bsopt.analysis.landscape_2d` found, read back without loading torch."""

    alphas: tuple[float, ...]
    betas: tuple[float, ...]
    losses: tuple[tuple[float, ...], ...]
    center_loss: float


@dataclass(frozen=True, slots=True)
class LandscapeInfo:
    """What the figure shows: name -> landscape, the smallest batch size first; or why there is none."""

    panels: Mapping[str, StoredLandscape]
    message: str


def experiment_landscape_info(study: Source, *, arms: Sequence[str] = ("fixed_lr", "scaled_lr")) -> LandscapeInfo:
    """Return the landscapes of the arms' smallest and largest batch size, one seed each, where computed."""
    experiment = experiment_or_reason(study, arms, needs_runs=False)
    if isinstance(experiment, str):
        return LandscapeInfo({}, experiment)
    panels: dict[str, StoredLandscape] = {}
    for arm in arms:
        for size in (experiment.design.batch_sizes[0], experiment.design.batch_sizes[-1]):
            panels.update(_panel(experiment, arm, size))
    return LandscapeInfo(panels, "" if panels else f"The loss around the minimizers {NOT_ANALYSED}")


def plot_experiment_landscape(study: Source, *, arms: Sequence[str] = ("fixed_lr", "scaled_lr")) -> go.Figure:
    """Plot contours of the loss in two filter-normalised directions around the best weights of single runs.

    Chang & Pathak 2020, figure 22. All panels share their levels; each is one seed's run, since contours have no
    mean.

    Args:
        study: A study with an experiment whose weights were examined.
        arms: Whose smallest and largest batch size.

    Raises:
        ConfigError: An arm is unknown.
    """
    found = experiment_landscape_info(study, arms=arms)
    if not found.panels:
        return _traces.empty_figure(TITLE, found.message)
    figure = plot_landscape(found.panels)
    figure.update_layout(title={"text": TITLE})
    return figure


def _panel(experiment: Experiment, arm: str, size: int) -> dict[str, StoredLandscape]:
    """Return the first whole landscape by its run's name; nothing where none was computed."""
    for run in experiment.arm(arm):
        stored = experiment.analyses.get(landscape_key(run.trial))
        if run.batch_size == size and stored is not None and None not in stored["losses"][0]:
            return {f"B = {size}, lr {format_number(run.lr, digits=3)}": from_plain(StoredLandscape, stored)}
    return {}
