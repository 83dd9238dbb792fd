"""How large an experiment's updates are, as a distribution per batch size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

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
from bsopt.visualization.update_norms import name_norm_axes, norms_line

__all__ = ["ExperimentNormsInfo", "SizeNorms", "experiment_update_norms_info", "plot_experiment_update_norms"]

TITLE = "Norms of the updates"
NUM_BINS = 24


@dataclass(frozen=True, slots=True)
class SizeNorms:
    """One batch size: its median norm and, per bin, the share of updates per factor of ten, over seeds."""

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
    edges = _common_edges([norms for runs in measured.values() for norms in runs.values()])
    sizes = []
    for size, runs in measured.items():
        shares = {seed: _rebinned(norms, edges) for seed, norms in runs.items()}
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
    _traces.add_caption(figure, words, "dotted: medians")
    return figure


def _norms(run: ExperimentRun) -> Mapping[str, Sequence[float]] | None:
    measured = run.record.measurements.get("UpdateNorms") or {}
    return measured if sum(measured.get("bin_counts") or ()) and "update_norm" in run.measurements else None


def _common_edges(norms: Sequence[Mapping[str, Sequence[float]]]) -> NDArray[np.float64]:
    """Return bins over all that was measured, updates of length zero aside, which have no logarithm."""
    positive = [edge for one in norms for edge in one["bin_edges"] if edge > 0]
    low, high = min(positive), max(positive)
    return np.geomspace(low, high if high > low else 2 * low, NUM_BINS + 1)


def _rebinned(norms: Mapping[str, Sequence[float]], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the percentage of updates per factor of ten in each bin, counts spread evenly in the logarithm."""
    counts = np.asarray(norms["bin_counts"], dtype=float)
    own = np.maximum(np.asarray(norms["bin_edges"], dtype=float), edges[0])
    below = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
    at = np.interp(np.log10(edges), np.log10(own), below)
    return np.asarray(100.0 * np.diff(at) / np.diff(np.log10(edges)))


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
