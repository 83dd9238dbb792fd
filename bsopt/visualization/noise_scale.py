"""The gradient noise scale over training, beside the batch size in use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from bsopt.laws.estimate import Estimate
from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.visualization import _traces
from bsopt.visualization._axes import log_axis
from bsopt.visualization._size_colours import SizeColours, size_colours
from bsopt.visualization._theme import INK, escape, new_figure
from bsopt.visualization.study_data import Source, Status, StudyData, load_all, status_of

__all__ = ["NoisePath", "NoiseScaleInfo", "noise_scale_info", "plot_noise_scale"]

TITLE = "Gradient noise scale over training"
METRIC = "bsopt/noise_scale"
"""What the callback GradientNoiseScale logs, with `_low` and `_high` for its interval."""
MAX_PATHS = 9


@dataclass(frozen=True, slots=True)
class NoisePath:
    """One trial's noise scale, in samples, by samples seen; low and high are infinite where they are unbounded."""

    study: str
    record: TrialRecord
    samples: tuple[float, ...]
    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class NoiseScaleInfo:
    """The best measured trial of each batch size, the best of all first."""

    info: StudyInfo
    paths: tuple[NoisePath, ...]
    colours: SizeColours


def noise_scale_info(study: Source | Sequence[Source]) -> NoiseScaleInfo:
    """Return the noise scale of the best trial of each batch size in which it was measured."""
    sources = load_all(study)
    paths = [path for data in sources for path in _paths(data)[: MAX_PATHS // len(sources) or 1]]
    return NoiseScaleInfo(info=sources[0].info, paths=tuple(paths), colours=size_colours(sources))


def plot_noise_scale(
    study: Source | Sequence[Source], *, batch_size: str | None = None, lr: str | None = None
) -> go.Figure:
    """Plot the noise scale against samples seen, with the 95 % interval of the best trial.

    A batch size well below the noise scale loses almost nothing by growing; one well above it wastes samples. The
    noise scale is good to about one order of magnitude.

    Args:
        study: One or several.
        batch_size: The parameter's name; as for `load`.
        lr: The parameter's name; as for `load`.
    """
    sources = load_all(study, batch_size=batch_size, lr=lr)
    info = noise_scale_info(sources)
    if not info.paths:
        return _traces.empty_figure(
            TITLE,
            "The gradient noise scale was not measured. `measure: [noise_scale]` in the study file, or the callback "
            "bsopt.callbacks.GradientNoiseScale, measures it.",
        )
    return _draw(info, several=len(sources) > 1)


def _paths(data: StudyData) -> list[NoisePath]:
    ranked = sorted(
        (r for r in data.records if any(_is_known(tick.metrics.get(METRIC)) for tick in r.ticks)),
        key=lambda r: (status_of(r) is not Status.COMPLETE, data.rank(r)),
    )
    best_of = {record.batch_size: record for record in reversed(ranked)}
    return [_path(data, record) for record in ranked if best_of[record.batch_size] is record]


def _path(data: StudyData, record: TrialRecord) -> NoisePath:
    ticks = [tick for tick in record.ticks if _is_known(tick.metrics.get(METRIC))]
    return NoisePath(
        study=data.name,
        record=record,
        samples=tuple(tick.samples for tick in ticks),
        value=tuple(float(tick.metrics[METRIC]) for tick in ticks),
        low=tuple(float(tick.metrics.get(f"{METRIC}_low", 0.0)) for tick in ticks),
        high=tuple(float(tick.metrics.get(f"{METRIC}_high", math.inf)) for tick in ticks),
    )


def _is_known(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value > 0


def _draw(info: NoiseScaleInfo, *, several: bool) -> go.Figure:
    figure = new_figure(TITLE)
    best = info.paths[0]
    interval = _band(best)
    figure.add_traces(interval)
    size = best.record.batch_size
    _traces.add_caption(
        figure,
        f"grey: 95 % interval at batch size {size}" if interval else None,
        f"dashed: {size} samples, the batch size of the best trial" if size else None,
    )
    for path in sorted(info.paths, key=lambda path: (path.study, path.record.batch_size or 0)):
        label, about = f"batch size {path.record.batch_size}", _traces.describe(path.record, info.info)
        trace = _traces.line(
            path.samples,
            path.value,
            info.colours.look(path.record.batch_size),
            name=escape(f"{path.study} · {label}") if several else label,
            hover=f"{about}<br>after %{{x:,.4~g}} samples: noise scale <b>%{{y:,.3~g}}</b>",
            width=2.5 if path is best else 1.5,
            is_curve=True,
        )
        figure.add_trace(trace)
    if size:
        figure.add_hline(y=size, line={"color": INK, "dash": "dash", "width": 1.5})
    values = [value for path in info.paths for value in path.value] + ([float(size)] if size else [])
    span = [math.log10(min(values)) - 0.15, math.log10(max(values)) + 0.2]
    figure.update_yaxes(**log_axis(values, title="noise scale [samples]"), range=span)
    figure.update_xaxes(title={"text": "samples seen"}, rangemode="tozero")
    return figure


def _band(path: NoisePath) -> list[go.Scatter]:
    """Return the interval where it is bounded, above zero too, which a log axis lacks."""
    bounds = zip(path.samples, path.value, path.low, path.high, strict=True)
    bounded = [(samples, Estimate(value, low, high)) for samples, value, low, high in bounds if low > 0]
    return _traces.band(
        [samples for samples, _ in bounded],
        [interval for _, interval in bounded],
        "rgba(128,128,128,0.2)",
    )
