"""Updates and samples to a target against the batch size, with the critical batch size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from bsopt.laws.estimate import Estimate
from bsopt.laws.steps_to_target import TargetRun
from bsopt.trial.record import StudyInfo
from bsopt.units import format_number
from bsopt.visualization import _traces
from bsopt.visualization._axes import batch_size_axis, log_axis, share_x_axis
from bsopt.visualization._theme import ACCENT, colour_of, escape, look_of, stacked_figure
from bsopt.visualization.study_data import Source, load_all, why_empty

__all__ = ["StepsToTargetInfo", "plot_steps_to_target", "steps_to_target_info"]

TITLE = "Updates and samples to the target"
MOST_NAMED = 6


@dataclass(frozen=True, slots=True)
class StepsToTargetInfo:
    """What the figure shows.

    Attributes:
        info: The study.
        target: The value that counts as reached.
        runs: Runs that reached it.
        not_reached: Batch sizes whose completed trials didn't.
        batch_sizes: Grid of the fitted law.
        steps: Fitted updates to the target on the grid; empty where the law isn't fitted.
        samples: Fitted samples to the target.
        critical_batch_size: Where both cost twice their least.
        message: What the fit says.
    """

    info: StudyInfo
    target: float | None
    runs: tuple[TargetRun, ...]
    not_reached: tuple[int, ...]
    batch_sizes: tuple[float, ...]
    steps: tuple[Estimate, ...]
    samples: tuple[Estimate, ...]
    critical_batch_size: Estimate | None
    message: str


def steps_to_target_info(study: Source) -> StepsToTargetInfo:
    """Return the runs that reached the target, and the fitted law over their batch sizes."""
    data = load_all(study)[0]
    fit = data.fits.steps
    runs = tuple(run for run in data.fits.target_runs if math.isfinite(run.samples))
    sizes = [run.batch_size for run in runs]
    grid = np.geomspace(min(sizes), max(sizes), 33).tolist() if len(set(sizes)) > 1 else []
    predictions = [(size, fit.predict(size)) for size in grid]
    known = [(size, prediction) for size, prediction in predictions if prediction is not None]
    return StepsToTargetInfo(
        info=data.info,
        target=fit.target,
        runs=runs,
        not_reached=tuple(
            sorted({int(r.batch_size) for r in data.completed if r.batch_size} - {int(s) for s in sizes})
        ),
        batch_sizes=tuple(size for size, _ in known),
        steps=tuple(prediction.steps for _, prediction in known),
        samples=tuple(prediction.samples for _, prediction in known),
        critical_batch_size=fit.critical_batch_size,
        message=fit.message,
    )


def plot_steps_to_target(
    study: Source | Sequence[Source], *, batch_size: str | None = None, lr: str | None = None
) -> go.Figure:
    """Plot updates and samples to the target against the batch size; the shade is the critical batch size.

    Left of it, doubling the batch size nearly halves the updates at hardly more samples; right of it, it costs
    samples and saves few updates.

    Args:
        study: One or several.
        batch_size: The parameter's name; as for `load`.
        lr: The parameter's name; as for `load`.
    """
    sources = load_all(study, batch_size=batch_size, lr=lr)
    infos = [info for info in map(steps_to_target_info, sources) if info.runs and info.info.step_unit is not None]
    if len({run.batch_size for info in infos for run in info.runs}) < 2:  # nothing to compare
        return _traces.empty_figure(TITLE, why_empty(sources, f"{sources[0].fits.steps.message}"))
    figure = stacked_figure(_title(infos), 2, height=620, spacing=0.06)
    for place, info in enumerate(infos):
        _draw(figure, info, place, several=len(infos) > 1)
    if len(infos) == 1 and not infos[0].batch_sizes:
        _traces.add_sentence(figure, infos[0].message)
    is_shaded = bool(figure.layout.shapes)
    _traces.add_caption(
        figure,
        "left of the shade, the critical batch size, doubling the batch nearly halves the updates; right of it, it "
        "only spends samples"
        if is_shaded
        else None,
        "the study names no target: this one tells its batch sizes apart"
        if any(info.info.objective.target is None for info in infos)
        else None,
        *(_not_reached(info, several=len(infos) > 1) for info in infos),
    )
    sizes = [run.batch_size for info in infos for run in info.runs]
    pad = 0.05 * math.log10(max(sizes) / min(sizes)) + 0.05
    span = [math.log10(min(sizes)) - pad, math.log10(max(sizes)) + pad]
    share_x_axis(figure, {**batch_size_axis(sizes), "range": span}, rows=2)
    for row, title in enumerate(("updates to the target", "samples to the target"), start=1):
        values = [cost for info in infos for cost in _costs(info, row)]
        figure.update_yaxes(**log_axis(values, title=title, form=",.0f"), row=row, col=1)
    return figure


def _not_reached(info: StepsToTargetInfo, *, several: bool) -> str | None:
    """Return which batch sizes have no point, and why."""
    if not info.not_reached:
        return None
    where = f" in {info.info.name}" if several else ""
    named = ", ".join(map(str, info.not_reached[:MOST_NAMED]))
    if len(info.not_reached) > MOST_NAMED:
        return f"no trial reached the target at {len(info.not_reached)} other batch sizes{where}"
    return f"no trial reached the target at batch size {named}{where}"


def _title(infos: Sequence[StepsToTargetInfo]) -> str:
    first = infos[0]
    if first.target is None or len(infos) > 1:
        return TITLE
    return f"Updates and samples to {first.info.objective.monitor} = {format_number(first.target, thousands=True)}"


def _costs(info: StepsToTargetInfo, row: int) -> list[float]:
    """Return updates in the first row, samples in the second."""
    return [run.samples / (run.batch_size if row == 1 else 1) for run in info.runs]


def _draw(figure: go.Figure, info: StepsToTargetInfo, place: int, *, several: bool) -> None:
    name, look = escape(info.info.name), look_of(place)
    law_name = f"{name}: law" if several else "fitted law with 90 % interval"
    for row, law in enumerate((info.steps, info.samples), start=1):
        if law:
            _traces.add_law(figure, info.batch_sizes, law, place, name=law_name, row=row)
        runs = _traces.points(
            [run.batch_size for run in info.runs],
            _costs(info, row),
            {"color": look.colour, "size": 9, "symbol": look.symbol},
            name=name if several else "trials that reached it",
            hover="batch size %{x}: %{y:,.4~g}",
            group=f"{place} runs",
            showlegend=row == 1,
        )
        figure.add_trace(runs, row=row, col=1)
    _critical(figure, info, place, several=several)


def _critical(figure: go.Figure, info: StepsToTargetInfo, place: int, *, several: bool) -> None:
    """Mark the critical batch size, cut at the plot's edges where its interval is open."""
    if info.critical_batch_size is None or not info.batch_sizes:
        return
    left, right = info.batch_sizes[0] / 1.3, info.batch_sizes[-1] * 1.3
    low, high = max(left, info.critical_batch_size.low), min(right, info.critical_batch_size.high)
    if low >= high:
        return
    colour = colour_of(place) if several else ACCENT
    for row in (1, 2):
        figure.add_vrect(x0=low, x1=high, fillcolor=colour, opacity=0.12, line_width=0, row=row, col=1)
        if left < info.critical_batch_size.value < right:
            figure.add_vline(
                x=info.critical_batch_size.value, line={"color": colour, "dash": "dash", "width": 1.5}, row=row, col=1
            )
    if not several:
        figure.add_annotation(
            text=_critical_text(info.critical_batch_size),
            x=math.log10(math.sqrt(low * high)),
            xref="x",
            y=1,
            yref="y domain",
            yanchor="bottom",
            showarrow=False,
            font={"size": 11},
        )


def _critical_text(critical: Estimate) -> str:
    if math.isinf(critical.high):
        return f"critical batch size above {_number(critical.low)}"
    if critical.low <= 0:
        return f"critical batch size below {_number(critical.high)}"
    return f"critical batch size {_number(critical.value)} ({_traces.span_text(critical, digits=2)})"


def _number(size: float) -> str:
    return format_number(size, digits=2, thousands=True)
