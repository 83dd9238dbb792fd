"""How far each layer ends from its initial weights, at the smallest and at the largest batch size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import plotly.graph_objects as go

from bsopt.experiment.measurements import Experiment
from bsopt.visualization import _theme
from bsopt.visualization.experiment import _drawing
from bsopt.visualization.experiment.seeds import SeedMean, interval_words, mean_over_seeds
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
    _drawing.check_arms([arm])
    experiment = _drawing.experiment_in(study)
    if experiment is None:
        return LayersInfo(None, {}, 0, _drawing.NO_EXPERIMENT)
    message = _drawing.empty_arm(experiment, [arm])
    if message is not None:
        return LayersInfo(experiment, {}, 0, message)
    found: dict[int, dict[str, dict[int, float]]] = {}
    for run in experiment.arm(arm):
        layers = (run.record.measurements.get("WeightDistance") or {}).get("per_layer") or {}
        if layers and not _drawing.is_diverged(run):
            for layer, distance in layers.items():
                if math.isfinite(distance):
                    found.setdefault(run.batch_size, {}).setdefault(layer, {})[run.seed] = float(distance)
    if not found:
        return LayersInfo(experiment, {}, 0, "No ended run measured how far its layers moved.")
    ends = sorted({min(found), max(found)})
    means = {size: {layer: mean_over_seeds(values) for layer, values in found[size].items()} for size in ends}
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
        return _theme.empty_figure(TITLE, found.message)
    names = list(dict.fromkeys(name for layers in found.sizes.values() for name in layers))
    figure = _theme.new_figure(TITLE, height=200 + 30 * len(names))
    for place, (size, layers) in zip((0, 4), found.sizes.items(), strict=False):
        figure.add_trace(
            go.Scatter(
                x=[_drawing.rounded(mean.value) for mean in layers.values()],
                y=[_theme.escape(name) for name in layers],
                mode="markers",
                name=f"batch size {size}",
                marker={"size": 10, "symbol": _theme.symbol_of(place), "color": _theme.colour_of(place)},
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [_drawing.rounded(mean.high - mean.value) for mean in layers.values()],
                    "arrayminus": [_drawing.rounded(mean.value - mean.low) for mean in layers.values()],
                    "thickness": 1.5,
                    "width": 5,
                    "color": _theme.colour_of(place),
                    "visible": any(mean.num_seeds > 1 for mean in layers.values()),
                },
                text=[_drawing.interval_text(mean) for mean in layers.values()],
                hovertemplate=f"%{{y}}, batch size {size}<br>%{{text}}<extra></extra>",
            )
        )
    figure.update_xaxes(title={"text": "distance from the start at the end"}, rangemode="tozero")
    figure.update_yaxes(
        title={"text": "layer"},
        type="category",
        categoryorder="array",
        categoryarray=[_theme.escape(name) for name in reversed(names)],
    )
    counts = [mean.num_seeds for layers in found.sizes.values() for mean in layers.values()]
    left_out = f"{found.num_left_out} layers that moved less are not drawn" if found.num_left_out else None
    _drawing.add_caption(figure, interval_words(counts), left_out)
    return figure
