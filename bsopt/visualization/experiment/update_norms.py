"""How large an experiment's updates are, as a distribution per batch size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import plotly.graph_objects as go

from bsopt.experiment.measurements import Experiment, ExperimentRun
from bsopt.experiment.seed_statistics import SeedMean, mean_over_seeds
from bsopt.units import format_number
from bsopt.visualization import _traces
from bsopt.visualization._theme import Look, new_figure
from bsopt.visualization.experiment._arms import (
    experiment_or_reason,
    healthy_values,
    interval_words,
    look_of_size,
    mean_band,
    mean_text,
)
from bsopt.visualization.study_data import Source
from bsopt.visualization.update_norms import NUM_BINS, common_edges, name_norm_axes, norms_line, rebinned

__all__ = ["ExperimentNormsInfo", "SizeNorms", "experiment_update_norms_info", "plot_experiment_update_norms"]

TITLE = "Norms of the updates, one learning rate"


@dataclass(frozen=True, slots=True)
class SizeNorms:
    """One batch size: its median norm and, per bin, the share of updates in percent, over seeds."""

    batch_size: int
    median: SeedMean
    shares: tuple[SeedMean, ...]


@dataclass(frozen=True, slots=True)
class ExperimentNormsInfo:
    """What the figure shows.

    Attributes:
        experiment: The study's; None where it has none.
        edges: Of the bins, evenly spaced in the logarithm, the same for all; NUM_BINS + 1.
        sizes: Smallest batch size first.
        message: Why there is nothing to show.
    """

    experiment: Experiment | None
    edges: tuple[float, ...]
    sizes: tuple[SizeNorms, ...]
    message: str


def experiment_update_norms_info(study: Source, *, arm: str = "fixed_lr") -> ExperimentNormsInfo:
    """Return the distributions of ‖θ_{t+1} − θ_t‖ of an arm's runs on common bins; diverged runs are left out."""
    experiment = experiment_or_reason(study, [arm])
    if isinstance(experiment, str):
        return ExperimentNormsInfo(None, (), (), experiment)
    measured = healthy_values(experiment, arm, _norms)
    medians = healthy_values(experiment, arm, lambda run: run.measurements["update_norm"] if _norms(run) else None)
    if not measured:
        return ExperimentNormsInfo(experiment, (), (), "No ended run measured the norms of its updates.")
    edges = common_edges([edge for runs in measured.values() for norms in runs.values() for edge in norms["bin_edges"]])
    sizes = []
    for size, runs in measured.items():
        shares = {seed: rebinned(norms["bin_counts"], norms["bin_edges"], edges) for seed, norms in runs.items()}
        means = [mean_over_seeds({seed: float(share[i]) for seed, share in shares.items()}) for i in range(NUM_BINS)]
        sizes.append(SizeNorms(size, mean_over_seeds(medians[size]), tuple(means)))
    return ExperimentNormsInfo(experiment, tuple(edges.tolist()), tuple(sizes), "")


def plot_experiment_update_norms(study: Source, *, arm: str = "fixed_lr") -> go.Figure:
    """Plot the distribution of ‖θ_{t+1} − θ_t‖ over a run's updates, a line per batch size with its median.

    Chang & Pathak 2020, figure 13.

    Args:
        study: A study with an experiment.
        arm: Whose runs.

    Raises:
        ConfigError: The arm is unknown.
    """
    found = experiment_update_norms_info(study, arm=arm)
    if found.experiment is None or not found.sizes:
        return _traces.empty_figure(TITLE, found.message)
    figure = new_figure(TITLE)
    for item in found.sizes:
        look = look_of_size(found.experiment, item.batch_size)
        figure.add_traces(_traces_of(item, found.edges, look))
        figure.add_vline(x=item.median.value, line={"color": look.colour, "dash": "dot", "width": 1.5}, row=1, col=1)
    name_norm_axes(figure, found.edges)
    words = interval_words([item.median.num_seeds for item in found.sizes], mark="bands")
    width = (found.edges[-1] / found.edges[0]) ** (1.0 / NUM_BINS)
    _traces.add_caption(figure, words, f"in steps of a factor of {width:.2g}; dotted: medians", _trend(found.sizes))
    return figure


def _trend(sizes: Sequence[SizeNorms]) -> str | None:
    """Return what the medians say from the smallest to the largest batch size; None for one size."""
    if len(sizes) < 2:
        return None
    small, large = sizes[0], sizes[-1]
    times = format_number(large.median.value / small.median.value, digits=2)
    return f"median at batch size {large.batch_size}: {times} times that at {small.batch_size}"


def _norms(run: ExperimentRun) -> Mapping[str, Sequence[float]] | None:
    measured = run.record.measurements.get("UpdateNorms") or {}
    return measured if sum(measured.get("bin_counts") or ()) and "update_norm" in run.measurements else None


def _traces_of(item: SizeNorms, edges: Sequence[float], look: Look) -> list[go.Scatter]:
    """Return band and means from the first bin with an update to the last, and one beside them."""
    name = f"batch size {item.batch_size}, median {format_number(item.median.value, digits=2)}"
    used = [i for i in range(NUM_BINS) if item.shares[i].value > 0]
    shown = range(max(0, used[0] - 1), min(NUM_BINS, used[-1] + 2))
    norms = [math.sqrt(edges[i] * edges[i + 1]) for i in shown]
    means = [replace(item.shares[i], low=max(0.0, item.shares[i].low)) for i in shown]
    bands = mean_band(norms, means, look, group=name)
    hover = f"batch size {item.batch_size}, median {mean_text(item.median)}"
    shares = [mean.value for mean in means]
    return [*bands, norms_line(norms, shares, look, name=name, hover=hover, has_band=bool(bands))]
