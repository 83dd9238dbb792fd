"""The article's findings as this study's runs judge them: effects with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bsopt.experiment.findings.verdicts import Outcome, Verdict
from bsopt.visualization import _theme
from bsopt.visualization.experiment import _drawing
from bsopt.visualization.study_data import Source

__all__ = [
    "VERDICT_COLOURS",
    "Kind",
    "VerdictsInfo",
    "experiment_verdicts_info",
    "kind_of",
    "plot_experiment_verdicts",
    "short_name",
]

TITLE = "The article's findings in this study"
Kind: TypeAlias = Literal["ratio", "fraction", "exponent"]
VERDICT_COLOURS: Mapping[Outcome, str] = {
    Outcome.SUPPORTED: "#009E73",
    Outcome.CONTRADICTED: "#D55E00",
    Outcome.CANT_TELL: "#7F7F8C",
}
_SYMBOLS = {Outcome.SUPPORTED: "circle", Outcome.CONTRADICTED: "x", Outcome.CANT_TELL: "circle-open"}
_FRACTIONS = {"scaling_closes_gap", "scaling_restores_distance"}
_EXPONENTS = {"best_lr_grows"}
_AXES: Mapping[Kind, tuple[str, float]] = {
    "ratio": ("ratio", 1.0),
    "fraction": ("fraction of the gap closed", 0.5),
    "exponent": ("exponent of the batch size", 0.0),
}
_ROW = 28  # pixels


@dataclass(frozen=True, slots=True)
class VerdictsInfo:
    """What the figure shows: verdicts by what kind of number their effect is, or why there are none."""

    kinds: Mapping[Kind, tuple[Verdict, ...]]
    message: str


def experiment_verdicts_info(study: Source) -> VerdictsInfo:
    """Return the verdicts on the article's findings; where none could be tested, why."""
    experiment = _drawing.experiment_in(study)
    if experiment is None:
        return VerdictsInfo({}, _drawing.NO_EXPERIMENT)
    tested = [verdict for verdict in experiment.verdicts if verdict.effect is not None]
    if not tested:
        reasons = dict.fromkeys(verdict.sentence.partition(": ")[2] for verdict in experiment.verdicts)
        return VerdictsInfo({}, f"No finding can be judged yet: {next(iter(reasons), 'nothing was measured.')}")
    kinds: dict[Kind, tuple[Verdict, ...]] = {}
    for kind in _AXES:
        found = tuple(verdict for verdict in experiment.verdicts if kind_of(verdict) == kind)
        if any(verdict.effect is not None for verdict in found):
            kinds[kind] = found
    return VerdictsInfo(kinds, "")


def kind_of(verdict: Verdict) -> Kind:
    """Return what kind of number a verdict's effect is."""
    if verdict.key in _FRACTIONS:
        return "fraction"
    return "exponent" if verdict.key in _EXPONENTS else "ratio"


def short_name(verdict: Verdict) -> str:
    """Return what a finding is called in the figure: a few words."""
    return verdict.key.replace("_", " ").replace(" lr", " rate")


def plot_experiment_verdicts(study: Source) -> go.Figure:
    """Plot the effect behind each of the article's findings with its interval, coloured by the verdict.

    Ratios, fractions and exponents have a plot each, since they share no scale. A finding is supported or
    contradicted where its p, corrected for the number of findings, is below 0.05; the intervals are not corrected.

    Args:
        study: A study with an experiment.
    """
    found = experiment_verdicts_info(study)
    if not found.kinds:
        return _theme.empty_figure(TITLE, found.message)
    heights = [len(verdicts) for verdicts in found.kinds.values()]
    figure_height = _ROW * (sum(heights) + 3 * len(heights)) + 150
    figure = make_subplots(
        rows=len(heights),
        cols=1,
        row_heights=[height + 0.6 for height in heights],
        vertical_spacing=3.0 * _ROW / figure_height,
    )
    _theme.style(figure, TITLE, height=figure_height)
    clipped = [_draw(figure, kind, verdicts, row=row) for row, (kind, verdicts) in enumerate(found.kinds.items(), 1)]
    _legend(figure)
    _drawing.add_caption(
        figure, "bars: 95 % interval of the effect", "at the edge, they go further" if any(clipped) else None
    )
    return figure


def _draw(figure: go.Figure, kind: Kind, verdicts: Sequence[Verdict], *, row: int) -> bool:
    """Draw the verdicts of one kind; return whether an interval goes beyond the axis."""
    title, no_effect = _AXES[kind]
    low, high = _span(verdicts, no_effect, is_log=kind == "ratio")
    for outcome, colour in VERDICT_COLOURS.items():
        shown = [verdict for verdict in verdicts if verdict.outcome is outcome and verdict.effect is not None]
        if not shown:
            continue
        bars = [_clipped(verdict, low, high) for verdict in shown]
        effects = [min(max(verdict.effect or 0.0, low), high) for verdict in shown]
        figure.add_trace(
            go.Scatter(
                x=[_drawing.rounded(effect) for effect in effects],
                y=[short_name(verdict) for verdict in shown],
                mode="markers",
                legendgroup=outcome.value,
                showlegend=False,
                marker={
                    "color": colour,
                    "symbol": _SYMBOLS[outcome],
                    "size": 11,
                    "line": {"width": 2, "color": colour},
                },
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [_drawing.rounded(max(0.0, b - e)) for (_, b), e in zip(bars, effects, strict=True)],
                    "arrayminus": [_drawing.rounded(max(0.0, e - a)) for (a, _), e in zip(bars, effects, strict=True)],
                    "color": colour,
                    "thickness": 2,
                    "width": 4,
                },
                text=["<br>".join([f"<b>{_theme.escape(v.claim)}</b>", *_lines(v.sentence)]) for v in shown],
                hovertemplate="%{text}<extra></extra>",
            ),
            row=row,
            col=1,
        )
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
    figure.update_xaxes(title={"text": title}, **_axis(low, high, is_log=kind == "ratio"), row=row, col=1)
    return any(v.interval is not None and (v.interval[0] < low or v.interval[1] > high) for v in verdicts)


def _legend(figure: go.Figure) -> None:
    """Name all three verdicts, also those that no finding has."""
    for outcome, colour in VERDICT_COLOURS.items():
        figure.add_trace(
            go.Scatter(
                x=[None],
                y=[None],
                mode="markers",
                name=outcome.value,
                legendgroup=outcome.value,
                marker={
                    "color": colour,
                    "symbol": _SYMBOLS[outcome],
                    "size": 11,
                    "line": {"width": 2, "color": colour},
                },
            ),
            row=1,
            col=1,
        )


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


def _clipped(verdict: Verdict, low: float, high: float) -> tuple[float, float]:
    assert verdict.interval is not None
    return max(verdict.interval[0], low), min(verdict.interval[1], high)


def _axis(low: float, high: float, *, is_log: bool) -> dict[str, object]:
    return dict(_theme.value_axis((low, high), is_log=is_log))


def _lines(sentence: str, width: int = 70) -> list[str]:
    lines = [""]
    for word in sentence.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [_theme.escape(line) for line in lines]
