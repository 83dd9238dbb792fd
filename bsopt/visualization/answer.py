"""The answer as a picture: what each batch size gives at its best learning rate, and which one is recommended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import cast

import plotly.graph_objects as go

from bsopt.laws.estimate import Estimate, FitStatus
from bsopt.recommendation.result import Choice, Cost, Recommendation, SizeFinding, SizeState
from bsopt.recommendation.sentences import devices_in_words, to_what
from bsopt.recommendation.views import as_good_in_words
from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.units import count_of, digits_telling, format_number
from bsopt.visualization import _traces
from bsopt.visualization._axes import batch_size_axis, beyond, is_wide, log_axis, lr_axis, value_axis, value_label
from bsopt.visualization._theme import INK, STAR, Look, colour_of, escape, faded, panels
from bsopt.visualization.study_data import Source, load_all, spread_evenly

__all__ = ["AnswerInfo", "answer_info", "plot_answer"]

TITLE = "The answer"
MOST_PLACEMENTS = 4
MOST_TEXTS = 500

_BAND = colour_of(0)
_MARKS = {
    SizeState.TESTED: {"symbol": "circle", "size": 13, "color": "#009E73"},
    SizeState.SUPPORTED: {"symbol": "circle-open", "size": 12, "color": "#009E73", "line": {"width": 2}},
    SizeState.OPEN: {"symbol": "diamond", "size": 11, "color": "#C98A00"},
    SizeState.WORSE: {"symbol": "x", "size": 10, "color": "#7F7F8C"},
    SizeState.NOT_TESTED: {"symbol": "square-open", "size": 9, "color": "#7F7F8C", "line": {"width": 2}},
}


@dataclass(frozen=True, slots=True)
class AnswerInfo:
    """What the figure shows.

    Attributes:
        info: The study.
        found: Its one recommendation: every number but those of single runs.
        runs: The trials that ran to their end with a value.
        cost_is: What times are to: "to val_loss 0.35", "over the budget".
        message: Why there are no bands; empty where a law is fitted.
    """

    info: StudyInfo
    found: Recommendation
    runs: tuple[TrialRecord, ...]
    cost_is: str
    message: str

    def value_at(self, size: SizeFinding) -> float | None:
        """Return what a batch size gives: the law's value, or without a law that of its best trial."""
        if size.value is not None:
            return size.value.value
        return next((run.value for run in self.runs if run.number == size.trial), None)

    def lr_at(self, size: SizeFinding) -> float | None:
        """Return its best learning rate: the law's, or without a law that of its best trial."""
        if size.lr is not None:
            return size.lr.value
        return next((run.lr for run in self.runs if run.number == size.trial), None)

    @property
    def placements(self) -> list[tuple[int, int]]:
        """Devices per node and nodes on which times are known; with many, some of them, first and last included."""
        found = {(cost.plan.num_devices, cost.plan.num_nodes) for size in self.found.sizes for cost in size.costs}
        return spread_evenly(sorted(found), MOST_PLACEMENTS)


def answer_info(study: Source) -> AnswerInfo:
    """Return a study's recommendation with the runs that it rests on."""
    data = load_all(study)[0]
    return AnswerInfo(
        info=data.info,
        found=data.recommendation,
        runs=tuple(data.completed),
        cost_is=to_what(data.evidence),
        message="" if data.evidence.is_fitted else data.fits.ridge.message,
    )


def plot_answer(study: Source | Sequence[Source], *, batch_size: str | None = None, lr: str | None = None) -> go.Figure:
    """Plot what each batch size gives at its best learning rate, that rate below, and a star at the recommendation.

    Every batch size is marked by what is known of it beside the best one; bands are 90 % intervals, hatched where no
    trial ran to its end. Small points are the runs. Where times were measured a menu changes the upper plot to the
    time that each batch size takes on a number of devices. Several studies stand side by side.

    Args:
        study: One or several.
        batch_size: The parameter's name; as for `load`.
        lr: The parameter's name; as for `load`.
    """
    sources = load_all(study, batch_size=batch_size, lr=lr)
    infos = [answer_info(data) for data in sources if data.recommendation.choice is not None]
    if not infos:
        return _traces.empty_figure(TITLE, sources[0].recommendation.sentence)
    several = len(infos) > 1
    names = [info.info.name for info in infos]
    figure = panels(
        TITLE if several else _title(infos[0].found),
        names,
        height=600,
        spacing=0.14 / len(infos),
        heights=(0.58, 0.42),
        row_spacing=0.06,
    )
    for column, info in enumerate(infos, start=1):
        _draw(figure, info, column=column)
    if not several:
        _add_times(figure, infos[0])
        _traces.add_caption(figure, *_caption(infos[0], figure))
    return figure


def _title(found: Recommendation) -> str:
    choice = cast(Choice, found.choice)
    start = "Batch size" if found.status is FitStatus.OK else "Best so far: batch size"
    return f"{start} {choice.batch_size}, learning rate {format_number(choice.lr.value, digits=2)}"


def _draw(figure: go.Figure, info: AnswerInfo, *, column: int) -> None:
    for row, key in ((1, "value"), (2, "lr")):
        for trace in _panel(info, key, is_first=row == 1 and column == 1):
            figure.add_trace(trace, row=row, col=column)
    values, rates = _values_seen(info), _rates_seen(info)
    is_log = info.info.objective.sign > 0 and is_wide(values)
    label = value_label(info.info) if column == 1 else None
    figure.update_yaxes(title={"text": label}, **_axis(values, is_log=is_log), row=1, col=column)
    axis = {**lr_axis(rates), **_axis(rates, is_log=True)}
    figure.update_yaxes(**axis, row=2, col=column)
    if column > 1:
        figure.update_yaxes(title=None, row=2, col=column)
    sizes = _sizes_seen(info)
    x_axis = batch_size_axis(sizes)
    low, high = math.log10(min(sizes)), math.log10(max(sizes))
    pad = max(0.12, 0.05 * (high - low))
    figure.update_xaxes(**{**x_axis, "range": [low - pad, high + pad]}, col=column)
    figure.update_xaxes(title=None, row=1, col=column)


def _panel(info: AnswerInfo, key: str, *, is_first: bool) -> list[go.Scatter]:
    """Return the traces of the values, or those of the learning rates: bands, runs, batch sizes, the star."""
    star = cast(Choice, info.found.choice)
    at = info.value_at if key == "value" else info.lr_at
    told = [(size, y) for size in info.found.sizes if (y := at(size)) is not None]
    traces = [*_bands(info, key), *_runs(info, key, is_first=is_first)]
    if len(told) > 1 and not info.message:
        sizes, ys = [size.batch_size for size, _ in told], [y for _, y in told]
        law = _traces.line(sizes, ys, Look(_BAND, "circle"), name="", hover="", showlegend=False, size=1)
        traces.append(law.update(mode="lines", hoverinfo="skip", hovertemplate=None))
    for state, marker in _MARKS.items():
        there = [(size, y) for size, y in told if size.state is state and size.batch_size != star.batch_size]
        if there:
            trace = _traces.points(
                [size.batch_size for size, _ in there],
                [y for _, y in there],
                marker,
                name=state.words,
                text=[_size_text(info, size) for size, _ in there],
                group=state.value,
                showlegend=is_first,
            )
            traces.append(trace.update(cliponaxis=False))
    y = star.lr.value if key == "lr" else (star.value.value if star.value is not None else None)
    text = [_choice_text(info, star)]
    mark = _traces.points([star.batch_size], [y], STAR, name="recommended", text=text, group="star")
    interval = getattr(star, key)
    if len(told) == 1 and not info.message and interval is not None:  # a band needs two
        mark.update(error_y=_traces.bars([interval], _BAND))
    traces.append(mark.update(showlegend=is_first, legendrank=1, cliponaxis=False))
    return traces


def _bands(info: AnswerInfo, key: str) -> list[go.Scatter]:
    """Return the intervals as bands, hatched between batch sizes of which one has no complete trial."""
    known = [(size, _drawn(found)) for size in info.found.sizes if (found := getattr(size, key)) is not None]
    groups: list[tuple[bool, list[tuple[SizeFinding, Estimate]]]] = []
    for before, after in pairwise(known):
        is_open = not (before[0].num_complete and after[0].num_complete)
        if groups and groups[-1][0] == is_open:
            groups[-1][1].append(after)
        else:
            groups.append((is_open, [before, after]))
    traces = []
    for is_open, group in groups:
        fill = faded(_BAND, 0.05 if is_open else 0.2)
        found = _traces.band([size.batch_size for size, _ in group], [one for _, one in group], fill)
        if is_open:
            pattern = {"shape": "/", "fgcolor": faded(_BAND, 0.45), "bgcolor": fill, "size": 7, "solidity": 0.18}
            found = [trace.update(fillpattern=pattern) for trace in found]
        traces += found
    return traces


def _drawn(found: Estimate) -> Estimate:
    """Return an interval that a logarithmic axis can show: one from zero on, from a thousandth of its number on."""
    return replace(found, low=found.value / 1e3) if found.low == 0.0 else found


def _runs(info: AnswerInfo, key: str, *, is_first: bool) -> list[go.Scatter]:
    if not info.runs:
        return []
    has_texts = len(info.runs) <= MOST_TEXTS
    return [
        _traces.points(
            [run.batch_size for run in info.runs],
            [getattr(run, key) for run in info.runs],
            {"symbol": "circle", "size": 5, "color": faded(INK, 0.55)},
            name="one run each",
            text=[_traces.describe(run, info.info) for run in info.runs] if has_texts else None,
            hover="%{text}" if has_texts else "%{x}: %{y:.4~g}",
            group="runs",
            showlegend=is_first,
        )
    ]


def _add_times(figure: go.Figure, info: AnswerInfo) -> None:
    """Add what each batch size takes on each placement, and a menu that changes the upper plot to one of them."""
    placements = info.placements
    if not placements:
        return
    is_of_values = [trace.yaxis == "y" for trace in figure.data]
    costs = [_costs_on(info, placement) for placement in placements]
    unit, seconds = _unit([cost.seconds.value for row in costs for cost in row.values()])
    num_before = len(figure.data)
    for place, row in enumerate(costs):
        for trace in _time_traces(info, row, f"on {devices_in_words(*placements[place])}", seconds):
            figure.add_trace(trace, row=1, col=1)
    owners = [place for place, row in enumerate(costs) for _ in range(_num_time_traces(info, row))]
    value_title, value = figure.layout.yaxis.title.text, figure.layout.yaxis.to_plotly_json()
    choices = [(escape(info.found.monitor), [*is_of_values, *(False for _ in owners)], value_title, value)]
    for place, placement in enumerate(placements):
        times = [end / seconds for cost in costs[place].values() for end in _ends(cost.seconds)]
        title = f"time {info.cost_is} [{unit}]"
        choices.append(
            (
                f"time on {devices_in_words(*placement)}",
                [*(False for _ in is_of_values), *(owner == place for owner in owners)],
                escape(title),
                {**log_axis(times), **_axis(times, is_log=True)},
            )
        )
    assert len(figure.data) == num_before + len(owners)
    _traces.add_view_menu(
        figure,
        [
            (
                label,
                [shown if trace.yaxis == "y" else True for shown, trace in zip(visible, figure.data, strict=True)],
                {"yaxis.title.text": title, **{f"yaxis.{key}": axis.get(key) for key in _AXIS_KEYS}},
            )
            for label, visible, title, axis in choices
        ],
    )


_AXIS_KEYS = ("type", "range", "tickvals", "ticktext")


def _costs_on(info: AnswerInfo, placement: tuple[int, int]) -> dict[int, Cost]:
    """Return global batch size -> what it costs on a placement."""
    return {
        size.batch_size: cost
        for size in info.found.sizes
        for cost in size.costs
        if (cost.plan.num_devices, cost.plan.num_nodes) == placement
    }


def _time_traces(info: AnswerInfo, costs: dict[int, Cost], where: str, unit: float) -> list[go.Scatter]:
    times = [cost.seconds.scaled(1.0 / unit) for cost in costs.values()]
    texts = [
        f"<b>batch size {size}</b>: {cost.plan}<br>{_traces.span_text(time)} (90 %)"
        for (size, cost), time in zip(costs.items(), times, strict=True)
    ]
    look = Look(_BAND, "circle")
    line = _traces.line(
        list(costs), [time.value for time in times], look, name=f"time {where} (90 %)", hover="%{y:.3~g}<br>%{text}",
        text=texts, size=9, error_y=_traces.bars(times, _BAND),
    )  # fmt: skip
    star = cast(Choice, info.found.choice)
    found = [line]
    if star.batch_size in costs:
        y = costs[star.batch_size].seconds.value / unit
        found.append(_traces.points([star.batch_size], [y], STAR, name="recommended", hover=texts[0], showlegend=True))
    return [trace.update(visible=False) for trace in found]


def _num_time_traces(info: AnswerInfo, costs: dict[int, Cost]) -> int:
    return 1 + (cast(Choice, info.found.choice).batch_size in costs)


def _unit(seconds: Sequence[float]) -> tuple[str, float]:
    middle = median(seconds)
    return ("h", 3600.0) if middle >= 5400 else ("min", 60.0) if middle >= 90 else ("s", 1.0)


def _ends(estimate: Estimate) -> list[float]:
    """Return the number, and the ends of its interval as far as they help to see it."""
    value = estimate.value
    return [value, max(estimate.low, value / 3.0), min(estimate.high, 3.0 * value)]


def _caption(info: AnswerInfo, figure: go.Figure) -> list[str]:
    found = info.found
    said = []
    if info.message:
        said.append(info.message)
    else:
        above = "above, where one more training would end; "
        if not any(size.value is not None and size.value.is_bounded for size in found.sizes):
            above = "none above, where the noise between seeds isn't known; "
        said.append(f"90 % intervals: {above}below, where the best learning rate lies.")
        if any(not size.num_complete for size in found.sizes):
            said.append("Hatched: no trial ran to its end there.")
        if found.margin is not None and len(found.sizes) > 1:
            said.append(f"As good: {as_good_in_words(found.margin)}.")
    values = [cast(float, run.value) for run in info.runs]
    left_out = beyond(values, figure.layout.yaxis, info.info.objective.sign, noun="worse run")
    return [*said, left_out] if left_out else said


def _values_seen(info: AnswerInfo) -> list[float]:
    """Return the values that the upper plot must hold, and of bands and runs what lies as far around as they do."""
    choice = cast(Choice, info.found.choice)
    told = [value for size in info.found.sizes if (value := info.value_at(size)) is not None]
    told += [choice.value.value] if choice.value is not None else []
    runs = [cast(float, run.value) for run in info.runs]
    if info.message or not told:
        return told + runs
    known = [size.value for size in info.found.sizes if size.value is not None and size.value.is_bounded]
    ends = [end for value in known for end in (value.low, value.high)]
    own = [choice.value.low, choice.value.high] if choice.value is not None and choice.value.is_bounded else []
    if is_wide(told):
        seen = [end for end in [*ends, *runs] if min(told) / 2.0 <= end <= 2.0 * max(told)]
        return told + seen + [min(max(end, min(told) / 4.0), 4.0 * max(told)) for end in own]
    reach = max(max(told) - min(told), max(own, default=0.0) - min(own, default=0.0))
    low, high = min(told) - 0.5 * reach, max(told) + 0.5 * reach
    return told + own + [end for end in runs if low <= end <= high] + [min(max(end, low), high) for end in ends]


def _rates_seen(info: AnswerInfo) -> list[float]:
    choice = cast(Choice, info.found.choice)
    rates = [cast(float, run.lr) for run in info.runs] + [choice.lr.value]
    for size in info.found.sizes:
        rates += [end for end in ((size.lr.low, size.lr.high) if size.lr is not None else ()) if end > 0]
    return [rate for rate in rates if math.isfinite(rate)]


def _sizes_seen(info: AnswerInfo) -> list[float]:
    sizes = [float(cast(int, run.batch_size)) for run in info.runs]
    sizes += [float(size.batch_size) for size in info.found.sizes]
    return [*sizes, float(cast(Choice, info.found.choice).batch_size)]


def _axis(values: Sequence[float], *, is_log: bool) -> dict[str, object]:
    low, high = min(values), max(values)
    if is_log:
        margin = 1.12 * (high / low) ** 0.04
        return value_axis((low / margin, high * margin), is_log=True)
    margin = 0.07 * (high - low) or 0.06 * abs(low) or 1.0
    return {"type": "linear", "range": [low - margin, high + margin]}


def _size_text(info: AnswerInfo, size: SizeFinding) -> str:
    name = escape(info.info.objective.cost or info.info.objective.monitor)
    lines = [f"<b>batch size {size.batch_size}</b>: {size.words}"]
    if size.value is not None:
        digits = digits_telling(size.value.low, size.value.high)
        span = f" (90 %: {_traces.span_text(size.value)})" if size.value.is_bounded else ""
        lines.append(f"{name} {size.value.value:.{digits}g}{span}")
    if size.lr is not None:
        lines.append(f"lr {format_number(size.lr.value, digits=2)} (90 %: {_traces.span_text(size.lr, digits=2)})")
    best = f", the best is trial {size.trial}" if size.trial is not None else ""
    lines.append(f"{count_of(size.num_complete, 'complete trial')}{best}")
    return "<br>".join(lines)


def _choice_text(info: AnswerInfo, choice: Choice) -> str:
    name = escape(info.info.objective.cost or info.info.objective.monitor)
    lines = [f"<b>recommended: batch size {choice.batch_size}, lr {format_number(choice.lr.value, digits=2)}</b>"]
    if choice.value is not None:
        lines.append(f"{name} {choice.value.value:.4g}")
    return "<br>".join([*lines, escape(choice.plan)])
