"""How far each layer ends from its initial weights, at the smallest and at the largest batch size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import plotly.graph_objects as go

from bsopt.experiment.measurements import Experiment, ExperimentRun
from bsopt.experiment.seed_statistics import SeedMean, mean_over_seeds
from bsopt.visualization import _theme, _traces
from bsopt.visualization.experiment._arms import (
    experiment_or_reason,
    healthy_values,
    interval_words,
    look_of_size,
    mean_text,
)
from bsopt.visualization.study_data import Source

__all__ = ["LayersInfo", "experiment_layers_info", "plot_experiment_layers"]

TITLE = "Distance from the start by layer"
MAX_LAYERS = 40


@dataclass(frozen=True, slots=True)
class LayersInfo:
    """What the figure shows.

    Attributes:
        experiment: The study's; None where it has none.
        sizes: Smallest and largest measured batch size -> layer, in the network's order -> distance at the end.
        num_left_out: Layers that moved least and aren't shown.
        message: Why there is nothing to show.
    """

    experiment: Experiment | None
    sizes: Mapping[int, Mapping[str, SeedMean]]
    num_left_out: int
    message: str


def experiment_layers_info(study: Source, *, arm: str = "fixed_lr") -> LayersInfo:
    """Return ‖θ − θ₀‖ of each layer at the end of training, for an arm's smallest and largest batch size."""
    experiment = experiment_or_reason(study, [arm])
    if isinstance(experiment, str):
        return LayersInfo(None, {}, 0, experiment)
    found = healthy_values(experiment, arm, _layers)
    if not found:
        return LayersInfo(experiment, {}, 0, "No ended run measured how far its layers moved.")
    ends = sorted({min(found), max(found)})
    means = {size: _means(found[size]) for size in ends}
    names = list(means[ends[0]])
    far = sorted(names, key=lambda name: -max(means[size][name].value for size in ends if name in means[size]))
    kept = set(far[:MAX_LAYERS])
    sizes = {size: {name: means[size][name] for name in names if name in kept & set(means[size])} for size in ends}
    return LayersInfo(experiment, sizes, len(names) - len(kept), "")


def plot_experiment_layers(study: Source, *, arm: str = "fixed_lr") -> go.Figure:
    """Plot how far each layer's weights ended from their start, smallest batch size against largest.

    Chang & Pathak 2020, figure 11. Runs that diverged are left out; of very deep networks the 40 layers that moved
    most are shown.

    Args:
        study: A study with an experiment.
        arm: Whose runs.

    Raises:
        ConfigError: The arm is unknown.
    """
    found = experiment_layers_info(study, arm=arm)
    if found.experiment is None or not found.sizes:
        return _traces.empty_figure(TITLE, found.message)
    names = list(dict.fromkeys(name for layers in found.sizes.values() for name in layers))
    figure = _theme.new_figure(TITLE, height=200 + 30 * len(names))
    for size, layers in found.sizes.items():
        look, means = look_of_size(found.experiment, size), list(layers.values())
        trace = _traces.points(
            [mean.value for mean in means],
            [_theme.escape(name) for name in layers],
            {"size": 10, "symbol": look.symbol, "color": look.colour},
            name=f"batch size {size}",
            text=[mean_text(mean) for mean in means],
            hover=f"%{{y}}, batch size {size}<br>%{{text}}",
        )
        trace.error_x = _traces.bars(means, look.colour, is_shown=any(mean.num_seeds > 1 for mean in means))
        figure.add_trace(trace)
    figure.update_xaxes(title={"text": "distance from the start at the end"}, rangemode="tozero")
    figure.update_yaxes(
        title={"text": "layer"},
        type="category",
        categoryorder="array",
        categoryarray=[_theme.escape(name) for name in reversed(names)],
    )
    counts = [mean.num_seeds for layers in found.sizes.values() for mean in layers.values()]
    left_out = f"{found.num_left_out} layers that moved less are not drawn" if found.num_left_out else None
    _traces.add_caption(figure, interval_words(counts), left_out)
    return figure


def _layers(run: ExperimentRun) -> dict[str, float] | None:
    layers = (run.record.measurements.get("WeightDistance") or {}).get("per_layer") or {}
    return {layer: float(distance) for layer, distance in layers.items() if math.isfinite(distance)} or None


def _means(runs: Mapping[int, Mapping[str, float]]) -> dict[str, SeedMean]:
    """Return layer -> mean of seed -> layer -> distance, over the seeds that have it."""
    names = dict.fromkeys(name for layers in runs.values() for name in layers)
    return {
        name: mean_over_seeds({seed: layers[name] for seed, layers in runs.items() if name in layers}) for name in names
    }
