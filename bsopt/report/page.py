"""A study, or several side by side, as one HTML file that needs neither network nor JavaScript to be read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path

from plotly.offline import get_plotlyjs

import bsopt
from bsopt.errors import ConfigError
from bsopt.report import sections
from bsopt.report.answer import answer_section, comparison_table
from bsopt.report.experiment import experiment_section
from bsopt.report.explanation import reasons
from bsopt.report.figures import comparisons, pictures
from bsopt.report.markup import Html, join, tag, verbatim
from bsopt.report.trials_table import trials_table
from bsopt.visualization.figure import FIGURES
from bsopt.visualization.study_data import Source, StudyData, load_all

__all__ = ["write_report"]


def write_report(studies: Sequence[Source], path: Path | str) -> Path:
    """Write the report of one study or several and return its path; missing folders are made.

    The file holds everything, plotly.js (4.8 MB) included: it opens offline, and its text and tables also where
    JavaScript is off.

    Args:
        studies: At least one; several stand side by side, then one after the other.
        path: Where to write; an existing file is replaced.

    Raises:
        ConfigError: No study is given.
    """
    sources = load_all(studies)
    if not sources:
        raise ConfigError("a report needs at least one study, got none.")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_page(sources), encoding="utf-8")
    return path


def _page(sources: Sequence[StudyData]) -> str:
    title = f"bsopt report: {', '.join(data.name for data in sources)}"
    body = join(
        _header(sources),
        tag("main", *(_one(sources[0]) if len(sources) == 1 else _several(sources))),
        tag("footer", f"Written by bsopt {bsopt.__version__} on {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC."),
        verbatim("script", get_plotlyjs()),
        verbatim("script", _asset("report.js")),
    )
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        verbatim("style", _asset("report.css")),
    )
    return f'<!doctype html>\n<html lang="en">{tag("head", head)}{tag("body", body)}</html>\n'


def _header(sources: Sequence[StudyData]) -> Html:
    names = sources[0].name if len(sources) == 1 else f"{len(sources)} studies"
    return tag("header", tag("p", "bsopt report", class_="kicker"), tag("h1", names))


def _one(data: StudyData) -> list[Html]:
    return [answer_section(data, prefix="s0"), *_details(data, prefix="s0")]


def _several(sources: Sequence[StudyData]) -> list[Html]:
    parts = [tag("h2", "Answers"), comparison_table(sources)]
    cards = [
        tag("div", tag("h3", data.name), answer_section(data, prefix=f"s{index}")) for index, data in enumerate(sources)
    ]
    parts.append(tag("div", *cards, class_="cards"))
    parts.append(tag("h2", "Side by side"))
    parts += comparisons(sources)
    for index, data in enumerate(sources):
        prefix = f"s{index}"
        parts.append(tag("section", tag("h2", data.name), *_details(data, prefix=prefix), id=prefix))
    return parts


def _details(data: StudyData, *, prefix: str) -> list[Html]:
    asked, why = sections.questions(data), reasons(data)
    experiment = experiment_section(data, prefix=prefix)
    return [
        *([tag("h2", "Questions"), asked] if asked is not None else []),
        *([tag("h2", "The batch-size experiment"), experiment] if experiment is not None else []),
        tag("h2", "Figures"),
        tag("noscript", tag("p", "The figures need JavaScript; the answer and the tables don't.")),
        *pictures(data, FIGURES.values(), prefix=prefix),
        *([tag("h2", "Why the search looked where it did"), why] if why is not None else []),
        tag("h2", "How the trials ended"),
        sections.stopped(data),
        tag("h2", "Every trial"),
        tag("p", "Best first; a click on a heading sorts by it.", class_="hint"),
        trials_table(data, table_id=f"{prefix}-trials"),
        tag("h2", "Configuration and how to reproduce"),
        sections.configuration(data),
    ]


def _asset(name: str) -> str:
    return files("bsopt.report").joinpath("assets", name).read_text(encoding="utf-8")
