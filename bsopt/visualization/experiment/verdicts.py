"""The article's findings as this study's runs judge them: effects with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from bsopt.experiment.findings.claims import Kind
from bsopt.experiment.findings.verdicts import Outcome, Verdict
from bsopt.laws.estimate import Estimate
from bsopt.visualization import _axes, _theme, _traces
from bsopt.visualization.experiment._arms import experiment_or_reason
from bsopt.visualization.study_data import Source

__all__ = [
    "VERDICT_COLOURS",
    "VerdictsInfo",
    "experiment_verdicts_info",
    "plot_experiment_verdicts",
    "short_name",
]

TITLE = "The article's findings in this study"
VERDICT_COLOURS: Mapping[Outcome, str] = {
    Outcome.SUPPORTED: "#009E73",
    Outcome.CONTRADICTED: "#D55E00",
    Outcome.CANT_TELL: "#7F7F8C",
}
_SYMBOLS = {Outcome.SUPPORTED: "circle", Outcome.CONTRADICTED: "x", Outcome.CANT_TELL: "circle-open"}
_AXES: Mapping[Kind, tuple[str, tuple[float, ...]]] = {
    "ratio": ("ratio", (1.0,)),
    "fraction": ("fraction of the gap closed", (0.5, 1.5)),
    "exponent": ("exponent of the batch size", (0.0,)),
}
_ROW = 28  # pixels


@dataclass(frozen=True, slots=True)
class VerdictsInfo:
    """What the figure shows: verdicts by what kind of number their effect is, or why there are none."""

    kinds: Mapping[Kind, tuple[Verdict, ...]]
    message: str


def experiment_verdicts_info(study: Source) -> VerdictsInfo:
    """Return the verdicts on the article's findings; where none could be tested, why."""
    experiment = experiment_or_reason(study)
    if isinstance(experiment, str):
        return VerdictsInfo({}, experiment)
    tested = [verdict for verdict in experiment.verdicts if verdict.effect is not None]
    if not tested:
        reasons = dict.fromkeys(verdict.sentence.partition(": ")[2] for verdict in experiment.verdicts)
        return VerdictsInfo({}, f"No finding can be judged yet: {next(iter(reasons), 'nothing was measured.')}")
    kinds: dict[Kind, tuple[Verdict, ...]] = {}
    for kind in _AXES:
        found = tuple(verdict for verdict in experiment.verdicts if verdict.kind == kind)
        if any(verdict.effect is not None for verdict in found):
            kinds[kind] = found
    return VerdictsInfo(kinds, "")


def short_name(verdict: Verdict) -> str:
    """Return what a finding is called in the figure: a few words."""
    return verdict.key.rpartition(":")[2].replace("_", " ").replace(" lr", " rate")


def plot_experiment_verdicts(study: Source) -> go.Figure:
    """Plot the effect behind each of the article's findings with its interval, coloured by the verdict.

    Ratios, fractions and exponents have a plot each, since they share no scale. A finding is supported or
    contradicted where its interval, which is corrected for the number of findings, leaves out "no effect".

    Args:
        study: A study with an experiment.
    """
    found = experiment_verdicts_info(study)
    if not found.kinds:
        return _traces.empty_figure(TITLE, found.message)
    heights = [len(verdicts) for verdicts in found.kinds.values()]
    figure_height = _ROW * (sum(heights) + 3 * len(heights)) + 150
    figure = _theme.stacked_figure(
        TITLE,
        len(heights),
        height=figure_height,
        spacing=3.0 * _ROW / figure_height,
        shared_x=False,
        heights=[height + 0.6 for height in heights],
    )
    clipped = [_draw(figure, kind, verdicts, row=row) for row, (kind, verdicts) in enumerate(found.kinds.items(), 1)]
    _legend(figure)
    _traces.add_caption(
        figure,
        "bars: 95 % interval of the effect, corrected for the number of findings",
        "at the edge, they go further" if any(clipped) else None,
    )
    return figure


def _draw(figure: go.Figure, kind: Kind, verdicts: Sequence[Verdict], *, row: int) -> bool:
    """Draw the verdicts of one kind; return whether an interval goes beyond the axis."""
    title, no_effects = _AXES[kind]
    low, high = _span(verdicts, no_effects[0], is_log=kind == "ratio")
    for outcome, colour in VERDICT_COLOURS.items():
        shown = [verdict for verdict in verdicts if verdict.outcome is outcome and verdict.effect is not None]
        if not shown:
            continue
        inside = [_clipped(verdict, low, high) for verdict in shown]
        trace = _traces.points(
            [effect.value for effect in inside],
            [short_name(verdict) for verdict in shown],
            _marker(outcome),
            text=[f"<b>{_theme.escape(v.claim)}</b><br>{_traces.wrapped(v.sentence, 70)}" for v in shown],
            group=outcome.value,
            showlegend=False,
        )
        trace.error_x = _traces.bars(inside, colour)
        figure.add_trace(trace, row=row, col=1)
    for no_effect in no_effects:
        figure.add_vline(x=no_effect, line={"color": _theme.INK, "dash": "dot", "width": 1.5}, row=row, col=1)
    for verdict in verdicts:
        if verdict.effect is None:
            figure.add_annotation(
                x=0.01, xref="x domain", xanchor="left", y=short_name(verdict), text="not tested", showarrow=False,
                font={"size": 12, "color": _theme.INK}, hovertext=_theme.escape(verdict.sentence), row=row, col=1,
            )  # fmt: skip
    names = [short_name(verdict) for verdict in reversed(verdicts)]
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=names, range=(-0.6, len(names) - 0.4), row=row, col=1
    )
    axis = _axes.value_axis((low, high), is_log=kind == "ratio")
    figure.update_xaxes(title={"text": title}, **axis, row=row, col=1)
    return any(v.interval is not None and (v.interval[0] < low or v.interval[1] > high) for v in verdicts)


def _legend(figure: go.Figure) -> None:
    """Name all three verdicts, also those that no finding has."""
    for outcome in VERDICT_COLOURS:
        name = outcome.value
        figure.add_trace(_traces.points([None], [None], _marker(outcome), name=name, group=name), row=1, col=1)


def _marker(outcome: Outcome) -> dict[str, object]:
    colour = VERDICT_COLOURS[outcome]
    return {"color": colour, "symbol": _SYMBOLS[outcome], "size": 11, "line": {"width": 2, "color": colour}}


def _span(verdicts: Sequence[Verdict], no_effect: float, *, is_log: bool) -> tuple[float, float]:
    """Return the ends of the axis: all effects, and intervals as far as they don't squash everything."""
    effects = [verdict.effect for verdict in verdicts if verdict.effect is not None] + [no_effect]
    ends = [end for verdict in verdicts if verdict.interval for end in verdict.interval if math.isfinite(end)]
    if is_log:
        far = max(abs(math.log(effect)) for effect in effects if effect > 0)
        reach = 1.5 * far + math.log(2.0)
        ends = [end for end in ends if end > 0 and abs(math.log(end)) <= reach]
        low, high = min([*effects, *ends]), max([*effects, *ends])
        margin = max(1.15, (high / low) ** 0.05)
        return low / margin, high * margin
    far = max(abs(effect - no_effect) for effect in effects)
    ends = [end for end in ends if abs(end - no_effect) <= 3.0 * far + 1.0]
    low, high = min([*effects, *ends, 0.0]), max([*effects, *ends, 1.0])
    margin = 0.08 * (high - low)
    return low - margin, high + margin


def _clipped(verdict: Verdict, low: float, high: float) -> Estimate:
    """Return the effect with its interval as far as they lie on the axis."""
    assert verdict.interval is not None
    effect = min(max(verdict.effect or 0.0, low), high)
    return Estimate(effect, max(verdict.interval[0], low), min(verdict.interval[1], high))
