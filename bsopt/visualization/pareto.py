"""Value against what it cost: the trials that nothing else beats in both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import plotly.graph_objects as go
from optuna.study import StudyDirection
from optuna.trial import TrialState

from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.visualization import _traces
from bsopt.visualization._axes import beyond, fitting_axis, is_wide, log_axis, value_label, worth_seeing
from bsopt.visualization._size_colours import SizeColours, size_colours
from bsopt.visualization._theme import INK, Look, colour_of, escape, look_of, new_figure
from bsopt.visualization.study_data import MOST_SIZES, Source, StudyData, load_all, why_empty

__all__ = ["Cost", "ParetoInfo", "ParetoPoint", "pareto_info", "plot_pareto"]

TITLE = "Value against cost"
Cost = Literal["seconds", "samples", "steps", "energy", "objective"]
_AXES: dict[Cost, str] = {
    "seconds": "training time to the value [s]",
    "samples": "samples seen to the value",
    "steps": "optimizer updates to the value",
    "energy": "energy of the trial [J]",
    "objective": "second objective",
}
_TIME_OF_TRIAL = "time of the trial [s]"


@dataclass(frozen=True, slots=True)
class ParetoPoint:
    """A trial with what it cost, and whether none is both cheaper and better."""

    record: TrialRecord
    cost: float
    value: float
    is_efficient: bool


@dataclass(frozen=True, slots=True)
class ParetoInfo:
    """Points by rising cost, which is that of whole trials where only their time is known."""

    info: StudyInfo
    cost: Cost
    points: tuple[ParetoPoint, ...]
    colours: SizeColours
    is_of_trial: bool = False


def pareto_info(study: Source, *, cost: Cost | None = None) -> ParetoInfo:
    """Return the completed trials with value and cost.

    Args:
        study: The study.
        cost: What to set the value against; by default the second objective of a study with two, else seconds
            where they were measured, else samples.
    """
    data = load_all(study)[0]
    if cost is None and data.info.step_unit is None and _default_cost(data) == "samples":
        return ParetoInfo(data.info, "samples", (), size_colours([data]))  # nobody knows what the reports count
    chosen = cost or _default_cost(data)
    pairs = _two_objectives(data) if chosen == "objective" else _measured(data, chosen)
    # A second objective that gets better upwards is turned round for the comparison only.
    turned = -1.0 if chosen == "objective" and _second_is_maximized(data) else 1.0
    pairs.sort(key=lambda pair: (turned * pair[1], data.sign * pair[2]))
    points, best = [], math.inf
    for record, price, value in pairs:
        is_efficient = data.sign * value < best
        best = min(best, data.sign * value)
        points.append(ParetoPoint(record, price, value, is_efficient))
    is_of_trial = chosen == "seconds" and not any(_is_timed(point.record) for point in points)
    return ParetoInfo(data.info, chosen, tuple(points), size_colours([data]), is_of_trial)


def plot_pareto(
    study: Source | Sequence[Source], *, cost: Cost | None = None, batch_size: str | None = None, lr: str | None = None
) -> go.Figure:
    """Plot the value against the cost; the line joins the trials that none beats in both.

    Args:
        study: One or several.
        cost: As for `pareto_info`.
        batch_size: The parameter's name; as for `load`.
        lr: The parameter's name; as for `load`.
    """
    sources = load_all(study, batch_size=batch_size, lr=lr)
    infos = [info for info in (pareto_info(data, cost=cost) for data in sources) if info.points]
    if not infos:
        return _traces.empty_figure(
            TITLE,
            why_empty(
                sources,
                "No completed trial has both a value and a measured cost"
                + (
                    " yet." if sources[0].info.step_unit else ": neither its time, nor in what its reports are counted."
                ),
            ),
        )
    figure = new_figure(TITLE)
    sizes = sorted({p.record.batch_size for info in infos for p in info.points if p.record.batch_size})
    for place, info in enumerate(infos):
        _draw(figure, info, sizes, place, several=len(infos) > 1)
    costs = [point.cost for info in infos for point in info.points]
    figure.update_xaxes(
        **(log_axis(costs) if min(costs) > 0 else {}),
        title={"text": _TIME_OF_TRIAL if infos[0].is_of_trial else _AXES[infos[0].cost]},
    )
    label = value_label(infos[0].info) if infos[0].cost != "objective" else "first objective"
    values = [point.value for info in infos for point in info.points]
    front = [point.value for info in infos for point in info.points if point.is_efficient]
    seen = worth_seeing(values, infos[0].info.objective.sign, typical=0.4)
    if is_wide(front):
        axis = fitting_axis([*front, *(value for value in values if value <= max(front))], is_log=True)
    else:  # every trial on the line is seen, and of the others those that lie beside it
        beside = [value for value in values if seen and seen[0] <= value <= seen[1]]
        axis = fitting_axis([*front, *beside], is_log=False)
    figure.update_yaxes(title={"text": label}, **axis)
    sign = infos[0].info.objective.sign
    _traces.add_caption(
        figure, "on the line: no other is both cheaper and better", beyond(values, figure.layout.yaxis, sign)
    )
    return figure


def _default_cost(data: StudyData) -> Cost:
    if data.study is not None and len(data.study.directions) == 2:
        return "objective"
    return "seconds" if _measured(data, "seconds") else "samples"


def _second_is_maximized(data: StudyData) -> bool:
    return data.study is not None and data.study.directions[1] == StudyDirection.MAXIMIZE


def _two_objectives(data: StudyData) -> list[tuple[TrialRecord, float, float]]:
    if data.study is None:
        return []
    values = {
        trial.number: trial.values
        for trial in data.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if trial.values and all(math.isfinite(value) for value in trial.values)
    }
    return [(r, values[r.number][1], values[r.number][0]) for r in data.records if r.number in values]


def _measured(data: StudyData, cost: Cost) -> list[tuple[TrialRecord, float, float]]:
    found = []
    for record in data.completed:
        price = _price(record, cost)
        if price is not None and math.isfinite(price) and record.value is not None:
            found.append((record, price, record.value))
    return found


def _price(record: TrialRecord, cost: Cost) -> float | None:
    if cost == "energy":
        return record.energy_joules
    best = record.best
    if cost == "seconds" and not _is_timed(record):
        return record.seconds
    if best is None:
        return None
    return float({"seconds": best.seconds, "samples": best.samples, "steps": best.step}[cost])


def _is_timed(record: TrialRecord) -> bool:
    """Whether it is known when its best value came, not just how long the trial took."""
    return record.best is not None and math.isfinite(record.best.seconds)


def _draw(figure: go.Figure, info: ParetoInfo, sizes: Sequence[int], place: int, *, several: bool) -> None:
    front = [point for point in info.points if point.is_efficient]
    figure.add_trace(
        go.Scatter(
            x=[point.cost for point in front],
            y=[point.value for point in front],
            mode="lines",
            showlegend=False,
            line={"color": colour_of(place) if several else INK, "width": 1.5, "shape": "hv"},
            hoverinfo="skip",
        )
    )
    if several or not sizes:
        figure.add_trace(_points(info, info.points, look_of(place), name=info.info.name))
        return
    if len(sizes) > MOST_SIZES:
        figure.add_trace(_shaded(info))
        return
    for size in sizes:
        points = [point for point in info.points if point.record.batch_size == size]
        if points:
            figure.add_trace(_points(info, points, info.colours.look(size), name=f"batch size {size}"))


def _shaded(info: ParetoInfo) -> go.Scatter:
    """Return all points in one trace, the batch size as their colour: too many of them for a legend."""
    placed = [point for point in info.points if point.record.batch_size]
    trace = _points(info, placed, look_of(0), name="batch size").update(showlegend=False)
    return trace.update(marker=info.colours.marker([float(cast(int, point.record.batch_size)) for point in placed]))


def _points(info: ParetoInfo, points: Sequence[ParetoPoint], look: Look, *, name: str) -> go.Scatter:
    return _traces.points(
        [point.cost for point in points],
        [point.value for point in points],
        {
            "color": look.colour,
            "symbol": look.symbol,
            "size": [11 if point.is_efficient else 7 for point in points],
            "opacity": [1.0 if point.is_efficient else 0.7 for point in points],
        },
        name=escape(name),
        text=[_traces.describe(point.record, info.info) for point in points],
        hover="%{text}<br>cost %{x:,.4~g}",
    )
