"""The answer that opens the report: the recommendation as HTML. What it says is chosen in `bsopt.recommendation`."""

from __future__ import annotations

from collections.abc import Sequence

from bsopt.laws.estimate import Estimate
from bsopt.recommendation.result import Choice, Recommendation
from bsopt.recommendation.sentences import to_what
from bsopt.recommendation.views import GOAL_NAMES
from bsopt.report.boxes import code, framed
from bsopt.report.figures import hero
from bsopt.report.markup import Html, join, tag
from bsopt.report.next_steps import next_steps
from bsopt.report.sizes import size_lights
from bsopt.units import digits_telling
from bsopt.visualization.study_data import StudyData

__all__ = ["answer_section", "comparison_table"]


def answer_section(data: StudyData, *, prefix: str) -> Html:
    """Return the answer in a sentence, its caveats, what is known of each batch size, and settings to paste."""
    found = data.recommendation
    return tag(
        "section",
        _numbers(found),
        tag("p", found.sentence, class_="answer"),
        hero(data, prefix=prefix),
        tag("ul", *(tag("li", caveat) for caveat in found.caveats), class_="caveats") if found.caveats else None,
        size_lights(found),
        next_steps(data, prefix=prefix),
        _by_goal(data),
        _front(data),
        _settings(found, prefix),
        class_="answer-card",
        id=f"{prefix}-recommended",
    )


def comparison_table(sources: Sequence[StudyData]) -> Html:
    """Return one row per study: its answer in numbers."""
    heads = ("study", "metric", "trials", "completed", "best batch size", "learning rate", "value", "noise (1 sd)")
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in heads)))
    rows = (
        tag(
            "tr",
            tag("th", tag("a", data.name, href=f"#s{index}"), scope="row"),
            *(tag("td", cell) for cell in _in_numbers(data)),
        )
        for index, data in enumerate(sources)
    )
    return framed(tag("table", head, tag("tbody", *rows)), label="The studies' answers")


def _in_numbers(data: StudyData) -> list[str]:
    choice = data.recommendation.choice
    value = choice.value if choice is not None else None
    return [
        data.info.objective.monitor,
        str(len(data.records)),
        str(len(data.completed)),
        _text(choice.batch_size if choice is not None else None, ","),
        _text(choice.lr.value if choice is not None else None, ".3g"),
        "–" if value is None else format(value.value, f".{digits_telling(value.low, value.high, digits=5)}g"),
        _text(data.fits.noise_sd if choice is not None else None, ".2g"),
    ]


def _numbers(found: Recommendation) -> Html | None:
    """Return what to set and what to expect of it, to be read from across the room; the sentence says it in full."""
    choice = found.choice
    if choice is None:
        return None
    facts = [("Batch size", Html(f"{choice.batch_size:,}")), ("Learning rate", _interval(choice.lr, ".2g"))]
    if choice.value is not None:
        facts.append((f"{found.monitor} to expect", _interval(choice.value, _form(choice.value))))
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts), class_="numbers")


def _by_goal(data: StudyData) -> Html | None:
    """Return what to take for each goal, where the data tell more than one."""
    found = data.recommendation
    if found.choice is None or not (found.alternatives or found.refusals):
        return None
    names = ("batch size", "learning rate", data.info.objective.monitor, _time_name(data))
    rows = [_goal_row(choice, names) for choice in (found.choice, *found.alternatives)]
    rows += [
        tag("tr", tag("th", GOAL_NAMES[no.goal], scope="row"), tag("td", no.reason, colspan=str(len(names) + 1)))
        for no in found.refusals
    ]
    numbers = (tag("th", name, scope="col", class_="number") for name in names)
    head = tag("tr", tag("th", "goal", scope="col"), *numbers, tag("th", "why", scope="col"))
    table = tag("table", tag("thead", head), tag("tbody", *rows))
    hint = tag("p", "In small print: where it lies with 90 %.", class_="hint")
    return join(tag("h3", "By goal"), hint, framed(table, label="By goal", class_="wide"))


def _goal_row(choice: Choice, names: Sequence[str]) -> Html:
    cells = (
        str(choice.batch_size),
        _interval(choice.lr, ".2g"),
        _interval(choice.value, _form(choice.value)),
        _interval(choice.cost.seconds if choice.cost is not None else None, ".3g"),
    )
    numbers = (
        tag("td", cell, class_="number", data_label=name)  # the label stands before it in a narrow card
        for name, cell in zip(names, cells, strict=True)
    )
    return tag(
        "tr",
        tag("th", GOAL_NAMES[choice.goal], scope="row"),
        *numbers,
        tag("td", " ".join((*choice.reasons, *choice.doubts))),
    )


def _time_name(data: StudyData) -> str:
    """Return what the goals' times are to, as the figure above says it."""
    return f"time {to_what(data.evidence)} [s]"


def _front(data: StudyData) -> Html | None:
    """Return the trials of a study of several objectives that no other beats in all of them."""
    points = data.recommendation.front
    if not points:
        return None
    names = ("batch size", "learning rate", *(f"objective {i + 1}" for i in range(len(points[0].values))), "trial")
    head = tag("tr", *(tag("th", name, scope="col", class_="number") for name in names))
    rows = (
        tag("tr", *(tag("td", cell, class_="number") for cell in (
            _text(point.batch_size, ","), _text(point.lr, ".3g"), *(_text(v, ".5g") for v in point.values),
            str(point.trial),
        )))
        for point in points
    )  # fmt: skip
    table = tag("table", tag("thead", head), tag("tbody", *rows))
    return join(tag("h3", "The Pareto front by batch size"), framed(table, label="The Pareto front by batch size"))


def _settings(found: Recommendation, prefix: str) -> Html | None:
    if found.choice is None:
        return None
    titles = ("YAML, for LightningCLI", "Python, for a Lightning Trainer")
    if found.code.asked.args:
        titles = ("YAML, with the script's arguments", "The script's command line, and its Trainer")
    return join(
        tag("h3", "Settings to paste"),
        tag(
            "div",
            code(titles[0], found.to_yaml().strip(), f"{prefix}-yaml"),
            code(titles[1], found.to_lightning().strip(), f"{prefix}-python"),
            class_="settings",
        ),
    )


def _interval(estimate: Estimate | None, form: str) -> Html:
    """Return a value, and in small print where it lies with 90 %."""
    if estimate is None:
        return Html("–")
    value = Html(format(estimate.value, form))
    if not estimate.is_bounded:
        return value
    return join(value, " ", tag("small", f"{format(estimate.low, form)} to {format(estimate.high, form)}"))


def _form(value: Estimate | None) -> str:
    """Return the format of a metric's value, with the digits that tell its interval's ends apart."""
    return ".4g" if value is None else f".{digits_telling(value.low, value.high)}g"


def _text(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
