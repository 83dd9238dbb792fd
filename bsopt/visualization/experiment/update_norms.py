"""How large an experiment's updates are, as a distribution per batch size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from bsopt.experiment.measurements import Experiment, ExperimentRun
from bsopt.visualization import _theme
from bsopt.visualization.experiment import _drawing
from bsopt.visualization.experiment.seeds import SeedMean, interval_words, mean_over_seeds
from bsopt.visualization.study_data import Source

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
    _drawing.check_arms([arm])
    experiment = _drawing.experiment_in(study)
    if experiment is None:
        return ExperimentNormsInfo(None, (), (), _drawing.NO_EXPERIMENT)
    message = _drawing.empty_arm(experiment, [arm])
    if message is not None:
        return ExperimentNormsInfo(experiment, (), (), message)
    measured: dict[int, dict[int, Mapping[str, Sequence[float]]]] = {}
    medians: dict[int, dict[int, float]] = {}
    for run in experiment.arm(arm):
        found = _norms(run)
        if found is not None and not _drawing.is_diverged(run):
            measured.setdefault(run.batch_size, {})[run.seed] = found
            medians.setdefault(run.batch_size, {})[run.seed] = run.measurements["update_norm"]
    if not measured:
        return ExperimentNormsInfo(experiment, (), (), "No ended run measured the norms of its updates.")
    edges = _common_edges([norms for runs in measured.values() for norms in runs.values()])
    sizes = []
    for size in sorted(measured):
        shares = {seed: _rebinned(norms, edges) for seed, norms in measured[size].items()}
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
        return _theme.empty_figure(TITLE, found.message)
    figure = make_subplots(rows=1, cols=1)
    _theme.style(figure, TITLE)
    centres = [math.sqrt(low * high) for low, high in pairwise(found.edges)]
    for item in found.sizes:
        place = _drawing.size_place(found.experiment, item.batch_size)
        group = f"batch size {item.batch_size}"
        shown = [i for i in range(NUM_BINS) if item.shares[i].value > 0]
        shown = list(range(max(0, shown[0] - 1), min(NUM_BINS, shown[-1] + 2)))
        shares = [_not_below_zero(item.shares[i]) for i in shown]
        _drawing.add_band(figure, [centres[i] for i in shown], shares, place=place, group=group, row=1)
        figure.add_trace(
            go.Scatter(
                x=[_drawing.rounded(centres[i]) for i in shown],
                y=[_drawing.rounded(share.value) for share in shares],
                mode="lines+markers",
                name=f"{group}, median {_theme.number(item.median.value, 2)}",
                legendgroup=group,
                line={"color": _theme.colour_of(place), "width": 2, "dash": _theme.dash_of(place)},
                marker={"size": 6, "symbol": _theme.symbol_of(place), "maxdisplayed": 8},
                hovertemplate=f"{group}, median {_drawing.interval_text(item.median)}<br>"
                "around %{x:.3~g}: <b>%{y:.3~g} % per factor of ten</b><extra></extra>",
            ),
            row=1,
            col=1,
        )
        figure.add_vline(
            x=item.median.value, line={"color": _theme.colour_of(place), "dash": "dot", "width": 1.5}, row=1, col=1
        )
    ticks = _theme.log_ticks([found.edges[0], found.edges[-1]])
    figure.update_xaxes(
        type="log", title={"text": "norm of an update"}, tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks]
    )
    figure.update_yaxes(title={"text": "updates [% per factor of ten]"}, rangemode="tozero")
    words = interval_words([item.median.num_seeds for item in found.sizes], mark="bands")
    _drawing.add_caption(figure, words, "dotted: medians")
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


def _not_below_zero(mean: SeedMean) -> SeedMean:
    return SeedMean(mean.value, max(0.0, mean.low), mean.high, mean.num_seeds)
