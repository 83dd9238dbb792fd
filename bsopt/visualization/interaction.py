"""Batch size × learning rate: every trial, coloured by its value, and the scaling rules through the reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import cast

import numpy as np
import plotly.graph_objects as go

from bsopt.laws.lr_ridge import LrPrediction
from bsopt.laws.scaling import Reference, scaled_learning_rate
from bsopt.recommendation.result import Choice
from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.units import digits_telling, format_number
from bsopt.visualization import _traces
from bsopt.visualization._axes import batch_size_axis, lr_axis, value_label
from bsopt.visualization._theme import ACCENT, GOOD_TO_BAD, INK, MARKERS, STAR, escape, faded, panels
from bsopt.visualization.study_data import Source, Status, StudyData, load_all, status_of, why_empty
from bsopt.visualization.surface import Surface, believed_surface

__all__ = ["InteractionInfo", "RuleLine", "Setting", "interaction_info", "plot_interaction"]

TITLE = "Batch size × learning rate"
_CLIPPED = 0.5
"""Share of the valued trials that the colours resolve; the worse rest share the last colour."""
_SURE = 0.25
"""Share of the colours' range up to which a believed value's standard deviation counts as sure."""
_LEVELS = (0.7, 0.4, 0.2)
"""Shares of the colours' range, from the best, that the clouds reach to."""
_KNOWN_FACTOR = 4.0
"""Width of the 90 % interval up to which a best learning rate counts as known: a wider band would hide the trials."""
_LARGEST, _SMALLEST = 14.0, 7.0
"""Pixels of the best and of the worst mark."""


@dataclass(frozen=True, slots=True)
class RuleLine:
    """A scaling rule through the reference; learning rates at the batch sizes, both of the same length."""

    rule: str
    is_prior: bool
    batch_sizes: tuple[float, ...]
    lrs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """The completed trials of one batch size and learning rate, the best first: one mark, however many seeds."""

    records: tuple[TrialRecord, ...]

    @property
    def value(self) -> float:
        """The median of their values."""
        return median(cast(float, record.value) for record in self.records)


@dataclass(frozen=True, slots=True)
class InteractionInfo:
    """What the figure shows.

    Attributes:
        info: The study.
        trials: Every trial with a batch size and a learning rate, by how it is told apart.
        settings: The completed ones with a value, those of one setting together; the best last.
        lines: The linear and square-root rules, and the study's own prior rule.
        reference: The point they pass through; the best trial where the study names none.
        reference_is_best: Whether the reference is the best trial, for lack of one.
        colour_range: Best value, and the value from which on all trials share the last colour.
        best: The best completed trial.
        choice: What is recommended; None without a trial that has a value.
        ridge: The fitted best learning rate at each batch size that ran; empty where it isn't fitted.
        surface: What is believed of the value; None with too few trials.
        message: What the fit of the ridge says.
        num_objectives: Values per trial; with several nothing is recommended, and the colours are of the first.
    """

    info: StudyInfo
    trials: dict[Status, tuple[TrialRecord, ...]]
    settings: tuple[Setting, ...]
    lines: tuple[RuleLine, ...]
    reference: Reference | None
    reference_is_best: bool
    colour_range: tuple[float, float] | None
    best: TrialRecord | None
    choice: Choice | None
    ridge: tuple[LrPrediction, ...]
    surface: Surface | None
    message: str
    num_objectives: int = 1

    @property
    def tells_colours(self) -> bool:
        """Whether the trials have different values, which colours can tell."""
        return self.colour_range is not None and self.colour_range[0] != self.colour_range[1]


def interaction_info(study: Source) -> InteractionInfo:
    """Return every trial on (batch size, learning rate), and the rules' lines through the reference."""
    data = load_all(study)[0]
    placed = [record for record in data.records if record.is_placed]
    reference = data.info.reference
    reference_is_best = reference is None and data.best is not None
    if reference is None and data.best is not None and data.best.batch_size and data.best.lr:
        reference = Reference(data.best.batch_size, data.best.lr)
    return InteractionInfo(
        info=data.info,
        trials={
            status: tuple(record for record in placed if status_of(record) is status)
            for status in Status
            if any(status_of(record) is status for record in placed)
        },
        settings=_settings(data),
        lines=_lines(data, reference),
        reference=reference,
        reference_is_best=reference_is_best,
        colour_range=_colour_range(data),
        best=data.best,
        choice=data.recommendation.choice,
        ridge=_ridge(data),
        surface=believed_surface(data),
        message=data.fits.ridge.message,
        num_objectives=data.evidence.num_objectives,
    )


def plot_interaction(
    study: Source | Sequence[Source], *, batch_size: str | None = None, lr: str | None = None
) -> go.Figure:
    """Plot the value of every trial over batch size and learning rate; one panel per study.

    Circles ran to their end, the better the more vivid and the larger; several seeds of one setting are one circle
    with their median's colour, in a ring with that of the worst. Triangles were pruned, crosses diverged, crossed
    squares ran out of memory. The lines are the linear and the square-root rule through the study's reference;
    beneath lies what is believed of the value, where that is sure, and the solid line is the fitted best learning
    rate with its 90 % interval, without it where that is wider than 4 times.

    Args:
        study: One or several.
        batch_size: The parameter's name; as for `load`.
        lr: The parameter's name; as for `load`.
    """
    sources = load_all(study, batch_size=batch_size, lr=lr)
    infos = [interaction_info(data) for data in sources]
    infos = [info for info in infos if info.trials]
    if not infos:
        return _traces.empty_figure(
            TITLE, why_empty(sources, "No trial with a batch size and a learning rate has been started yet.")
        )
    return _draw(infos)


def _lines(data: StudyData, reference: Reference | None) -> tuple[RuleLine, ...]:
    sizes = [float(size) for size in data.batch_sizes]
    if data.info.batch_size_range is not None:
        sizes += [float(size) for size in data.info.batch_size_range]
    if reference is None or not sizes or min(sizes) == max(sizes):
        return ()
    grid = np.geomspace(min(sizes), max(sizes), 33)
    own = data.info.rule
    rules = dict.fromkeys([*([own] if own in ("saturating", "surge", "none") else []), "linear", "sqrt"])
    return tuple(
        RuleLine(
            rule=rule,
            is_prior=rule == own,
            batch_sizes=tuple(grid.tolist()),
            lrs=tuple(scaled_learning_rate(grid, reference=reference, rule=rule).tolist()),
        )
        for rule in rules
    )


def _settings(data: StudyData) -> tuple[Setting, ...]:
    groups: dict[tuple[int | None, str], list[TrialRecord]] = {}
    for record in sorted(data.completed, key=data.rank):
        groups.setdefault((record.batch_size, f"{record.lr:.4g}"), []).append(record)
    found = [Setting(tuple(records)) for records in groups.values()]
    return tuple(sorted(found, key=lambda setting: -data.sign * setting.value))


def _ridge(data: StudyData) -> tuple[LrPrediction, ...]:
    """Return the fitted best learning rates from the smallest to the largest batch size that ran."""
    fit = data.fits.ridge
    if fit.tried_low is None or fit.tried_high is None or fit.tried_low == fit.tried_high:
        return ()
    grid = np.geomspace(fit.tried_low, fit.tried_high, 17).tolist()
    found = [fit.predict(size) for size in grid]
    return tuple(prediction for prediction in found if prediction is not None)


def _colour_range(data: StudyData) -> tuple[float, float] | None:
    values = [record.value for record in sorted(data.valued, key=data.rank) if record.value is not None]
    if not values:
        return None
    return values[0], values[min(len(values) - 1, math.ceil(_CLIPPED * len(values)))]


def _draw(infos: Sequence[InteractionInfo]) -> go.Figure:
    names = [info.info.name for info in infos]
    figure = panels(TITLE, names, height=520, spacing=0.28 / len(infos))
    for column, info in enumerate(infos, start=1):
        for trace in _panel(info, column=column, num_columns=len(infos)):
            figure.add_trace(trace, row=1, col=column)
        _axes(figure, info, column)
    figure.update_layout(showlegend=True)
    if len(infos) == 1:
        _traces.add_caption(figure, *_caption(infos[0]))
    return figure


def _caption(info: InteractionInfo) -> list[str]:
    said = []
    if not info.settings and info.choice is None:
        said.append("no trial has a value yet")
    elif info.num_objectives > 1:
        said.append(f"no recommendation: that is for one objective; the colours are the first of {info.num_objectives}")
    elif len(info.settings) > 1:
        said.append("the more vivid and large a circle, the better its value")
    if info.lines:
        said.append(f"dashed and dotted: scaling rules through {_of_reference(info)}")
    if any(not _is_known(point) for point in info.ridge):
        said.append(
            f"no band where the 90 % interval of the best learning rate is wider than a factor of {_KNOWN_FACTOR:g}"
        )
    if any(len(item.records) > 1 for item in info.settings):
        said.append("several seeds of one setting: a circle for their median, a ring for the worst")
    if info.surface is not None and info.tells_colours:
        said.append("clouds: what the value is believed to be, where sure")
    if info.ridge and info.lines:
        said.append("a rule that runs along the solid line holds here")
    return said


def _of_reference(info: InteractionInfo) -> str:
    if info.reference_is_best or info.reference is None:
        return "the best trial"
    size, rate = info.reference.batch_size, format_number(info.reference.lr, digits=3)
    return f"the reference, batch size {size} at learning rate {rate}"


def _panel(info: InteractionInfo, *, column: int, num_columns: int) -> list[go.Contour | go.Scatter]:
    """Return the traces of a study from the lowest to the uppermost; the first panel's stand in the legend."""
    traces = []
    if info.surface is not None and info.colour_range is not None and info.tells_colours:
        traces += _clouds(info.surface, info.colour_range)
    if info.ridge:
        traces += _ridge_traces(info.ridge)
    traces += [_rule_trace(line) for line in info.lines]
    # Good trials last, so that they lie on top.
    for status in reversed(Status):
        if status is Status.COMPLETE:
            traces += _complete(info, column=column, num_columns=num_columns)
        elif info.trials.get(status):
            traces.append(_trials(info, status, column=column, num_columns=num_columns))
    if info.best is not None:
        traces.append(_ring(info, info.best))
    if info.choice is not None:
        traces.append(_star(info.choice))
    if column > 1:
        for trace in traces:
            trace.showlegend = False
    return traces


def _rule_trace(line: RuleLine) -> go.Scatter:
    name = {"sqrt": "square-root rule", "none": "constant"}.get(line.rule, f"{line.rule} rule")
    return go.Scatter(
        x=line.batch_sizes,
        y=line.lrs,
        mode="lines",
        name=f"{name} (prior)" if line.is_prior else name,
        legendgroup=line.rule,
        legendrank=3000,
        line={
            "color": INK,
            "width": 2 if line.is_prior else 1.2,
            "dash": {"linear": "dash", "sqrt": "dot"}.get(line.rule, "longdash"),
        },
        hovertemplate=f"{line.rule} rule<br>batch size %{{x:.0f}}, lr %{{y:.3g}}<extra></extra>",
    )


def _clouds(surface: Surface, colour_range: tuple[float, float]) -> list[go.Contour]:
    """Return nested areas of good values, thicker towards the best; what isn't sure is left out of them."""
    best, worst = colour_range
    is_sure = np.asarray(surface.sd) <= _SURE * abs(worst - best)
    shares = np.clip((np.asarray(surface.values) - best) / (worst - best), 0.0, 1.0)
    z = np.where(is_sure, shares, 1.0).round(6).tolist()
    return [
        go.Contour(
            x=surface.batch_sizes,
            y=surface.lrs,
            z=z,
            # plotly shades where the constraint does not hold
            contours={"type": "constraint", "operation": ">", "value": level},
            fillcolor=faded(GOOD_TO_BAD[0][1], 0.1),
            line={"width": 0},
            showscale=False,
            showlegend=False,
            name="what is believed",
            hoverinfo="skip",
        )
        for level in _LEVELS
    ]


def _ridge_traces(ridge: Sequence[LrPrediction]) -> list[go.Scatter]:
    sizes, rates = [point.batch_size for point in ridge], [point.lr for point in ridge]
    line = go.Scatter(
        x=sizes,
        y=[lr.value for lr in rates],
        mode="lines",
        name="best learning rate, fitted (90 %)",
        legendgroup="ridge",
        legendrank=2000,
        line={"color": ACCENT, "width": 2.5},
        text=[_traces.span_text(lr, digits=2) for lr in rates],
        hovertemplate="batch size %{x:.0f}: best learning rate <b>%{y:.3g}</b><br>90 %: %{text}<extra></extra>",
    )
    known = [point for point in ridge if _is_known(point)]
    at, intervals = [point.batch_size for point in known], [point.lr for point in known]
    return [*_traces.band(at, intervals, faded(ACCENT, 0.16), group="ridge"), line]


def _is_known(point: LrPrediction) -> bool:
    return point.lr.high <= _KNOWN_FACTOR * point.lr.low


def _complete(info: InteractionInfo, *, column: int, num_columns: int) -> list[go.Scatter]:
    """Return the completed trials, a mark each setting: the better, the more vivid and the larger."""
    if not info.settings or info.colour_range is None:
        return []
    best, worst = info.colour_range
    shares = [min(1.0, (item.value - best) / (worst - best)) if worst != best else 0.0 for item in info.settings]
    shrink = 4.0 if len(info.settings) > 400 else 0.0
    sizes = [_LARGEST - shrink - (_LARGEST - _SMALLEST) * max(0.0, share) for share in shares]
    num = len(info.trials[Status.COMPLETE])
    marker = {
        **MARKERS[Status.COMPLETE],
        **_coloured(info),
        "color": [item.value for item in info.settings],
        "size": [round(size, 1) for size in sizes],
        "opacity": 1.0,
        **_colour_bar(info, column, num_columns),
        "line": {"width": 0.8, "color": "rgba(255,255,255,0.7)"},
    }
    name = f"complete ({num})" if num_columns == 1 else "complete"
    marks = _of_settings(info, info.settings, marker, name, group=Status.COMPLETE.value)
    repeated = [(item, size) for item, size in zip(info.settings, sizes, strict=True) if len(item.records) > 1]
    if not repeated:
        return [marks]
    rings = {
        **_coloured(info),
        "symbol": "circle-open",
        "size": [round(size + 8.0, 1) for _, size in repeated],
        "color": [cast(float, item.records[-1].value) for item, _ in repeated],
        "opacity": 1.0,
        "line": {"width": 2.5},
    }
    return [_of_settings(info, [item for item, _ in repeated], rings, "worst of its seeds", group="seeds"), marks]


def _of_settings(
    info: InteractionInfo, settings: Sequence[Setting], marker: dict[str, object], name: str, *, group: str
) -> go.Scatter:
    trace = _traces.points(
        [item.records[0].batch_size for item in settings],
        [item.records[0].lr for item in settings],
        marker,
        name=name,
        text=[_describe(item, info.info) for item in settings],
        group=group,
    )
    return trace.update(legendrank=1000)


def _describe(setting: Setting, info: StudyInfo) -> str:
    """Return a setting's hover text: its trial, or the spread of its seeds."""
    records = setting.records
    if len(records) == 1:
        return _traces.describe(records[0], info)
    size, rate = format_number(records[0].batch_size, thousands=True), format_number(records[0].lr, digits=3)
    ends = sorted(cast(float, record.value) for record in (records[0], records[-1]))
    low, high = (format_number(end, thousands=True) for end in ends)
    shown = ", ".join(str(number) for number in sorted(record.number for record in records)[:8])
    return (
        f"<b>{len(records)} trials at one setting</b><br>batch size {size}, lr {rate}<br>"
        f"{escape(info.objective.cost or info.objective.monitor)} {format_number(setting.value, thousands=True)} "
        f"(median; {low} to {high})<br>trials {shown}{', …' if len(records) > 8 else ''}"
    )


def _trials(info: InteractionInfo, status: Status, *, column: int, num_columns: int) -> go.Scatter:
    """Return the trials that didn't run to their end."""
    records = info.trials[status]
    marker = dict(MARKERS[status])
    if len(records) > 400:
        marker["size"] = max(5, marker["size"] - 4)
    if status is Status.PRUNED and info.colour_range is not None:
        marker |= {
            **_coloured(info),
            "color": [record.value for record in records],
            "line": {"width": 0.8, "color": "rgba(255,255,255,0.7)"},
            "opacity": 0.75,
            **({} if info.settings else _colour_bar(info, column, num_columns)),
        }
    trace = _traces.points(
        [record.batch_size for record in records],
        [record.lr for record in records],
        marker,
        name=f"{status.value} ({len(records)})" if num_columns == 1 else status.value,
        text=[_traces.describe(record, info.info) for record in records],
        group=status.value,
    )
    return trace.update(legendrank=1000 + list(Status).index(status))


def _scale(info: InteractionInfo) -> dict[str, object]:
    """Return the colours of values, the vivid end at the good ones, whichever way the value gets better."""
    is_minimized = info.info.objective.value_direction == "minimize"
    return {"colorscale": [list(stop) for stop in GOOD_TO_BAD], "reversescale": not is_minimized}


def _coloured(info: InteractionInfo) -> dict[str, object]:
    """Return how markers are coloured by a value."""
    assert info.colour_range is not None
    low, high = sorted(info.colour_range)
    return {**_scale(info), "cmin": low, "cmax": high if high > low else low + 1e-12}


def _colour_bar(info: InteractionInfo, column: int, num_columns: int) -> dict[str, object]:
    """Return the bar of a marker's colours; none where all trials have the same one."""
    if info.colour_range is None or not info.tells_colours:
        return {"showscale": False}
    x = 1.01
    if num_columns > 1:
        spacing = 0.28 / num_columns
        width = (1 - spacing * (num_columns - 1)) / num_columns
        x = (column - 1) * (width + spacing) + width + 0.005
    label = value_label(info.info) if column == num_columns else ""
    best, worst = info.colour_range
    ticks = np.linspace(best, worst, 5)
    digits = digits_telling(*sorted(info.colour_range), digits=3)
    text = [format_number(float(tick), digits=digits, thousands=True) for tick in ticks]
    text[-1] = ("≥ " if worst > best else "≤ ") + text[-1]
    bar = {
        "title": {"text": label, "side": "right", "font": {"size": 11}},
        "thickness": 12,
        "len": 0.95,
        "x": x,
        "xanchor": "left",
        "outlinewidth": 0,
        "tickfont": {"size": 11},
        "tickvals": ticks.tolist(),
        "ticktext": text,
    }
    return {"showscale": True, "colorbar": bar}


def _ring(info: InteractionInfo, best: TrialRecord) -> go.Scatter:
    marker = {"symbol": "circle-open", "size": 26, "color": ACCENT, "line": {"width": 3}}
    text = [_traces.describe(best, info.info)]
    ring = _traces.points([best.batch_size], [best.lr], marker, name="best trial", text=text, group="best")
    return ring.update(legendrank=900)


def _star(choice: Choice) -> go.Scatter:
    text = [f"<b>recommended</b><br>batch size {choice.batch_size}, lr {format_number(choice.lr.value, digits=2)}"]
    star = _traces.points([choice.batch_size], [choice.lr.value], STAR, name="recommended", text=text, group="star")
    return star.update(legendrank=800)


def _axes(figure: go.Figure, info: InteractionInfo, column: int) -> None:
    records = [record for group in info.trials.values() for record in group]
    sizes = [float(record.batch_size) for record in records if record.batch_size]
    rates = [float(record.lr) for record in records if record.lr]
    # The lines may leave the plot; trials may not, and of the searched range a decade beyond them is seen.
    low, high = math.log10(min(rates)), math.log10(max(rates))
    if info.info.lr_range is not None:
        searched = [math.log10(end) for end in info.info.lr_range]
        low, high = min(low, max(low - 1.0, searched[0])), max(high, min(high + 1.0, searched[1]))
    margin = max(0.08, 0.04 * (high - low))
    axis = {"range": [low - margin, high + margin]} if high > low else {"range": [low - 0.5, high + 0.5]}
    x_low, x_high = math.log10(min(sizes)), math.log10(max(sizes))
    pad = max(0.1, 0.05 * (x_high - x_low))
    figure.update_xaxes(**batch_size_axis(sizes), range=[x_low - pad, x_high + pad], row=1, col=column)
    figure.update_yaxes(**lr_axis([10.0**low, 10.0**high]), **axis, row=1, col=column)
    if column > 1:
        figure.update_yaxes(title=None, row=1, col=column)
