"""How large the updates of the weights are, by batch size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import plotly.graph_objects as go

from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.visualization import _theme
from bsopt.visualization.study_data import Source, StudyData, load_all

__all__ = ["NormHistogram", "UpdateNormsInfo", "plot_update_norms", "update_norms_info"]

TITLE = "Norms of the updates"
MEASUREMENT = "UpdateNorms"
MAX_ROWS = 12


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


def update_norms_info(study: Source | Sequence[Source]) -> UpdateNormsInfo:
    """Return the histogram of the best trial of each batch size in which the norms were measured."""
    sources = load_all(study)
    found = [item for data in sources for item in _histograms(data)]
    return UpdateNormsInfo(sources[0].info, tuple(found[:MAX_ROWS]))


def plot_update_norms(study: Source | Sequence[Source]) -> go.Figure:
    """Plot the distribution of ‖θ_{t+1} − θ_t‖ over a trial's updates, a line per batch size.

    Chang & Pathak 2020, figure 13: at one learning rate larger batches make fewer and smaller updates.
    """
    info = update_norms_info(study)
    if not info.histograms:
        return _theme.empty_figure(
            TITLE,
            "Norms of the updates were not measured. `measure: [update_norms]` in the study file, or the callback "
            "bsopt.callbacks.UpdateNorms, measures them.",
        )
    several = len({item.study for item in info.histograms}) > 1
    figure = _theme.new_figure(TITLE)
    for place, item in enumerate(info.histograms):
        label = f"batch size {item.record.batch_size}"
        figure.add_trace(
            go.Scatter(
                x=[math.sqrt(low * high) if low > 0 else high / 2 for low, high in pairwise(item.edges)],
                # Per factor of ten, as bins of different trials have different widths.
                y=[
                    100.0 * share / _decades(low, high)
                    for share, (low, high) in zip(item.shares, pairwise(item.edges), strict=True)
                ],
                mode="lines+markers",
                name=_theme.escape(f"{item.study} · {label}") if several else label,
                line={"color": _theme.colour_of(place), "shape": "hvh", "dash": _theme.dash_of(place)},
                marker={"size": 6, "symbol": _theme.symbol_of(place), "maxdisplayed": 10},
                hovertemplate=_theme.describe(item.record, info.info)
                + f"<br>median {_theme.number(item.median, 3)}<br>"
                + "around %{x:.3~g}: <b>%{y:.3~g} % per factor of ten</b><extra></extra>",
            )
        )
    ticks = _theme.log_ticks([edge for item in info.histograms for edge in item.edges])
    figure.update_xaxes(
        type="log", title={"text": "norm of an update"}, tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks]
    )
    figure.update_yaxes(title={"text": "updates [% per factor of ten]"}, rangemode="tozero")
    return figure


def _decades(low: float, high: float) -> float:
    return math.log10(high / low) if low > 0 else 1.0


def _histograms(data: StudyData) -> list[NormHistogram]:
    found: dict[int, NormHistogram] = {}
    for record in sorted(data.completed, key=lambda r: data.sign * cast(float, r.value)):
        measured: Any = record.measurements.get(MEASUREMENT)
        total = sum(measured["bin_counts"]) if measured else 0
        if total:
            item = NormHistogram(
                study=data.name,
                record=record,
                median=float(measured["quantiles"]["0.5"]),
                edges=tuple(measured["bin_edges"]),
                shares=tuple(count / total for count in measured["bin_counts"]),
            )
            found.setdefault(cast(int, record.batch_size), item)
    return [found[size] for size in sorted(found)]
