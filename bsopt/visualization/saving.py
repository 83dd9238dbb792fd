"""A figure as a file: a page that works offline, or a picture through an installed Chromium."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go

from bsopt.errors import ConfigError, MissingExtraError, nearest
from bsopt.visualization._theme import TITLE_ROOM

__all__ = ["FORMATS", "save_figure"]

FORMATS = ("html", "png", "svg", "pdf")

# plotly 7 would offer to upload the chart.
_CONFIG = {"responsive": True, "displaylogo": False, "modeBarButtonsToRemove": ["sendChartToCloud"]}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>bsopt figure</title>
<style>
:root {{ color-scheme: light dark; --ink: #24262b; --page: #fff }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #d9dbe0; --page: #15171b }} }}
@media print {{ :root {{ --ink: #000; --page: #fff }} }}
body {{ margin: 1rem; background: var(--page) }}
.js-plotly-plot :is(.cartesianlayer, .infolayer, .menulayer) text {{ fill: var(--ink) !important }}
</style></head><body>{figure}</body></html>
"""


def save_figure(figure: go.Figure, path: Path | str) -> Path:
    """Write a figure in the format that the file's ending names; return the path.

    Args:
        figure: Any plotly figure.
        path: Ends in .html (one offline page of about 5 MB), .png, .svg or .pdf. Missing folders are made.

    Raises:
        ConfigError: Another ending.
        MissingExtraError: A picture is asked for and kaleido or Chromium is missing.
    """
    path = Path(path)
    suffix = path.suffix.lower().lstrip(".")
    if suffix not in FORMATS:
        raise ConfigError(
            f"can't write a figure as {path.name!r}: the file must end in "
            f"{', '.join('.' + name for name in FORMATS)}." + nearest(suffix, FORMATS)
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == "html":
        content = figure.to_html(full_html=False, include_plotlyjs=True, config=_CONFIG)
        path.write_text(_PAGE.format(figure=content), encoding="utf-8")
    else:
        _write_image(figure, path)
    return path


def _write_image(figure: go.Figure, path: Path) -> None:
    try:
        import kaleido  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"writing {path.suffix} pictures needs kaleido: pip install 'bsopt[images]', or write an .html file."
        ) from error
    from kaleido.errors import ChromeNotFoundError

    picture = go.Figure(figure)
    # A picture has no page behind it to give it a background.
    picture.update_layout(paper_bgcolor="white", plot_bgcolor="white", font={"color": "#24262b"})
    if picture.layout.updatemenus:  # nobody can press a picture's buttons
        picture.layout.updatemenus = ()
        picture.update_layout(margin={"t": TITLE_ROOM})
    try:
        picture.write_image(path, width=900, height=picture.layout.height or 460, scale=2)
    except (ChromeNotFoundError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "chrome" not in str(error).lower():
            raise
        raise MissingExtraError(
            f"writing {path.suffix} pictures needs Chromium or Chrome, and none was found. Install one "
            "(Debian: apt install chromium; anywhere: kaleido_get_chrome), or write an .html file."
        ) from error
