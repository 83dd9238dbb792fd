"""How large the updates of the weights are, by batch size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.units import format_number
from bsopt.visualization import _traces
from bsopt.visualization._axes import log_axis
from bsopt.visualization._size_colours import SizeColours, size_colours
from bsopt.visualization._theme import Look, escape, new_figure
from bsopt.visualization.study_data import Source, StudyData, load_all

__all__ = [
    "NUM_BINS",
    "NormHistogram",
    "UpdateNormsInfo",
    "common_edges",
    "name_norm_axes",
    "norms_line",
    "plot_update_norms",
    "rebinned",
    "update_norms_info",
]

TITLE = "Norms of the updates, best trials"
MEASUREMENT = "UpdateNorms"
MAX_ROWS = 12
NUM_BINS = 24


@dataclass(frozen=True, slots=True)
class NormHistogram:
    """The best measured trial of one batch size: edges of n + 1, shares of n bins that add up to one."""

    study: str
    record: TrialRecord
    median: float
    edges: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class UpdateNormsInfo:
    """Histograms by study, smallest batch size first."""

    info: StudyInfo
    histograms: tuple[NormHistogram, ...]
    colours: SizeColours


def update_norms_info(study: Source | Sequence[Source]) -> UpdateNormsInfo:
    """Return the histogram of the best trial of each batch size in which the norms were measured."""
    sources = load_all(study)
    found = [item for data in sources for item in data.best_measured(partial(_histogram, data))]
    return UpdateNormsInfo(sources[0].info, tuple(found[:MAX_ROWS]), size_colours(sources))


def plot_update_norms(
    study: Source | Sequence[Source], *, batch_size: str | None = None, lr: str | None = None
) -> go.Figure:
    """Plot the distribution of ‖θ_{t+1} − θ_t‖ over a trial's updates, a line per batch size.

    Chang & Pathak 2020, figure 13: at one learning rate larger batches make fewer and smaller updates.

    Args:
        study: One or several.
        batch_size: The parameter's name; as for `load`.
        lr: The parameter's name; as for `load`.
    """
    sources = load_all(study, batch_size=batch_size, lr=lr)
    info = update_norms_info(sources)
    if not info.histograms:
        return _traces.empty_figure(
            TITLE,
            "Norms of the updates were not measured. `measure: [update_norms]` in the study file, or the callback "
            "bsopt.callbacks.UpdateNorms, measures them.",
        )
    several = len({item.study for item in info.histograms}) > 1
    figure = new_figure(TITLE)
    edges = common_edges([edge for item in info.histograms for edge in item.edges])
    for item in info.histograms:
        figure.add_trace(_line(info, item, edges, several=several))
    name_norm_axes(figure, edges.tolist())
    return figure


def norms_line(
    norms: Sequence[float], shares: Sequence[float], look: Look, *, name: str, hover: str, has_band: bool
) -> go.Scatter:
    """Return a distribution of update norms: one trial's bins as steps, or means that have a band as a curve.

    Args:
        norms: Centres of the bins.
        shares: Of the updates, in percent of each bin.
        look: Colour, marker and dash.
        name: In the legend, escaped.
        hover: Its hover text begins so.
        has_band: Whether a band is drawn around it, in the group of the same name.
    """
    hover = f"{hover}<br>around %{{x:.3~g}}: <b>%{{y:.3~g}} % of the updates</b>"
    group, shape = (name, "linear") if has_band else (None, "hvh")
    return _traces.line(norms, shares, look, name=name, hover=hover, group=group, shape=shape, is_curve=True)


def name_norm_axes(figure: go.Figure, edges: Sequence[float]) -> None:
    """Set the axes of distributions whose bins have these edges."""
    figure.update_xaxes(**log_axis(edges, title="norm of an update"))
    figure.update_yaxes(title={"text": "share of the updates [%]"}, rangemode="tozero")


def common_edges(edges: Sequence[float]) -> NDArray[np.float64]:
    """Return bins over all that was measured, updates of length zero aside, which have no logarithm."""
    positive = [edge for edge in edges if edge > 0]
    low, high = min(positive), max(positive)
    return np.geomspace(low, high if high > low else 2 * low, NUM_BINS + 1)


def rebinned(counts: Sequence[float], own_edges: Sequence[float], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the percentage of updates in each bin, counts spread evenly in the logarithm.

    Args:
        counts: Of updates, or their shares, in n bins.
        own_edges: Of those bins, n + 1.
        edges: Of the bins that are wanted.
    """
    found = np.asarray(counts, dtype=float)
    own = np.maximum(np.asarray(own_edges, dtype=float), edges[0])
    below = np.concatenate([[0.0], np.cumsum(found)]) / found.sum()
    return np.asarray(100.0 * np.diff(np.interp(np.log10(edges), np.log10(own), below)))


def _line(info: UpdateNormsInfo, item: NormHistogram, edges: NDArray[np.float64], *, several: bool) -> go.Scatter:
    label = f"batch size {item.record.batch_size}"
    median = format_number(item.median, digits=3, thousands=True)
    return norms_line(
        np.sqrt(edges[:-1] * edges[1:]).tolist(),
        rebinned(item.shares, item.edges, edges).tolist(),
        info.colours.look(item.record.batch_size),
        name=escape(f"{item.study} · {label}") if several else label,
        hover=f"{_traces.describe(item.record, info.info)}<br>median {median}",
        has_band=False,
    )


def _histogram(data: StudyData, record: TrialRecord) -> NormHistogram | None:
    measured: Any = record.measurements.get(MEASUREMENT)
    total = sum(measured["bin_counts"]) if measured else 0
    if not total:
        return None
    return NormHistogram(
        study=data.name,
        record=record,
        median=float(measured["quantiles"]["0.5"]),
        edges=tuple(measured["bin_edges"]),
        shares=tuple(count / total for count in measured["bin_counts"]),
    )
