"""A study, or several side by side, as one HTML file that needs neither network nor JavaScript to be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from plotly.offline import get_plotlyjs

import bsopt
from bsopt.errors import ConfigError
from bsopt.recommendation.result import Recommendation
from bsopt.report import sections
from bsopt.report.answer import answer_section, comparison_table
from bsopt.report.experiment import experiment_section
from bsopt.report.explanation import reasons
from bsopt.report.figures import HERO, comparisons, pictures
from bsopt.report.markup import Html, join, tag, verbatim
from bsopt.report.trials_table import trials_table
from bsopt.visualization.figure import FIGURES
from bsopt.visualization.saving import script
from bsopt.visualization.study_data import Source, StudyData, load_all

__all__ = ["Report", "write_report"]

FRAME_HEIGHT = 700
"""In pixels, of the page in a notebook."""


@dataclass(frozen=True, slots=True)
class Report:
    """A report that was written: a path for `open` and `Path`, and in a notebook its answers and the page.

    Attributes:
        path: Of the HTML file.
        answers: Of each study in it.
    """

    path: Path
    answers: tuple[Recommendation, ...]

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        """Return the answers, a link and the page in a frame; the page itself stays in its file."""
        here, full = Path.cwd(), self.path.resolve()
        address = quote(full.relative_to(here).as_posix()) if full.is_relative_to(here) else full.as_uri()
        link = tag("p", tag("a", str(self.path), href=address, target="_blank"))
        frame = tag("iframe", src=address, width="100%", height=FRAME_HEIGHT, style="border: 0")
        return join(*(Html(answer._repr_html_()) for answer in self.answers), link, frame)


def write_report(
    study: Source | Sequence[Source],
    path: Path | str | None = None,
    *,
    batch_size: str | None = None,
    lr: str | None = None,
) -> Report:
    """Write the report of one study, or of several side by side, as one HTML file; missing folders are made.

    The file holds everything, plotly.js (4.8 MB) included: it opens offline, and its text and tables also where
    JavaScript is off.

    Args:
        study: One or several; several stand side by side, then one after the other.
        path: Where to write; an existing file is replaced. By default `report.html` in the study's folder
            (`runs/NAME`), for several studies in the working folder.
        batch_size: Name of the parameter that holds the batch size, where the study doesn't tell.
        lr: Name of the parameter that holds the learning rate, where the study doesn't tell.

    Raises:
        ConfigError: No study is given, or a name that no trial has.
    """
    sources = load_all(study, batch_size=batch_size, lr=lr)
    if not sources:
        raise ConfigError("a report needs at least one study, got none.")
    if path is None:
        path = (sources[0].info.folder if len(sources) == 1 else Path()) / "report.html"
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_page(sources), encoding="utf-8")
    return Report(path, tuple(data.recommendation for data in sources))


def _page(sources: Sequence[StudyData]) -> str:
    title = f"bsopt report: {', '.join(data.name for data in sources)}"
    # The scripts stand right below the answer, so that its figure doesn't wait for a thousand trials to be parsed.
    code = (get_plotlyjs(), script("narrow") + _asset("report.js"))
    scripts = [verbatim("script", text, type="text/javascript") for text in code]
    opening, rest = _one(sources[0]) if len(sources) == 1 else _several(sources)
    body = join(
        _header(sources),
        tag("main", *opening, *scripts, *rest),
        tag("footer", f"Written by bsopt {bsopt.__version__} on {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC."),
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


def _one(data: StudyData) -> tuple[list[Html], list[Html]]:
    """Return what opens the report of a study, and all that follows."""
    return [answer_section(data, prefix="s0")], _details(data, prefix="s0")


def _several(sources: Sequence[StudyData]) -> tuple[list[Html], list[Html]]:
    """Return what opens the report of several studies, and all that follows."""
    cards = [
        tag("div", tag("h3", data.name), answer_section(data, prefix=f"s{index}")) for index, data in enumerate(sources)
    ]
    opening = [tag("h2", "Answers"), comparison_table(sources), tag("div", *cards, class_="cards")]
    parts = [tag("h2", "Side by side"), *comparisons(sources)]
    for index, data in enumerate(sources):
        prefix = f"s{index}"
        parts.append(tag("section", tag("h2", data.name), *_details(data, prefix=prefix), id=prefix))
    return opening, parts


def _details(data: StudyData, *, prefix: str) -> list[Html]:
    asked, why = sections.questions(data), reasons(data)
    experiment = experiment_section(data, prefix=prefix)
    return [
        *([tag("h2", "Questions"), asked] if asked is not None else []),
        *([tag("h2", "The batch-size experiment"), experiment] if experiment is not None else []),
        tag("noscript", tag("p", "The figures need JavaScript; the answer and the tables don't.")),
        *_figures(data, prefix=prefix, has_design=experiment is not None),
        *([tag("h2", "Where the search stands"), why] if why is not None else []),
        tag("h2", "How the trials ended"),
        sections.stopped(data),
        tag("h2", "Every trial"),
        tag("p", "Best first; a heading sorts by its column.", class_="hint"),
        trials_table(data, table_id=f"{prefix}-trials"),
        tag("h2", "Configuration and how to reproduce"),
        sections.configuration(data),
    ]


def _figures(data: StudyData, *, prefix: str, has_design: bool) -> list[Html]:
    """Return the figures of any study; folded away where a designed experiment has its own.

    They mix its learning rates, which the experiment's figures keep apart, and may so show an opposite trend.
    """
    shown = pictures(data, [figure for name, figure in FIGURES.items() if name != HERO], prefix=prefix)
    if not has_design:
        return [tag("h2", "Figures"), *shown]
    words = (
        "The figures that every study has, over all runs together. They mix the learning rates that the experiment "
        "keeps apart, so a trend here may be that of the learning rate and not of the batch size."
    )
    summary = tag("summary", "Show the figures over all runs")
    return [tag("h2", "All runs together"), tag("p", words, class_="hint"), tag("details", summary, *shown)]


def _asset(name: str) -> str:
    return files("bsopt.report").joinpath("assets", name).read_text(encoding="utf-8")
