"""A figure as a file: a page that works offline, or a picture through an installed Chromium."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import plotly.graph_objects as go
import plotly.io as pio
from plotly.offline import get_plotlyjs

from bsopt.errors import ConfigError, MissingExtraError, nearest
from bsopt.visualization._theme import TEMPLATES
from bsopt.visualization._traces import MENU_ROOM

__all__ = ["FORMATS", "save_figure", "save_figures", "script"]

FORMATS = ("html", "png", "svg", "pdf")

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>bsopt figure</title>
<style>
:root {{ color-scheme: light dark; --ink: #24262b; --page: #fff }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #d9dbe0; --page: #15171b }} }}
@media print {{ :root {{ --ink: #000; --page: #fff }} }}
body {{ margin: clamp(.25rem, 2vw, 1rem); background: var(--page) }}
.js-plotly-plot :is(.cartesianlayer, .infolayer, .menulayer) text {{ fill: var(--ink) !important }}
</style></head><body><div id="figure"></div>
<script type="application/json" data-figure="figure">{data}</script>
{scripts}
</body></html>
"""


def save_figure(figure: go.Figure, path: Path | str) -> Path:
    """Write a figure in the format that the file's ending names; return the path.

    A page has the figure's menus and tools, a picture has none. Pictures are 900 pixels wide, drawn at twice that, and
    white but for figures with the template `bsopt_dark`.

    Args:
        figure: Any plotly figure.
        path: Ends in .html (one offline page of about 5 MB), .png, .svg or .pdf. Missing folders are made.

    Raises:
        ConfigError: Another ending.
        MissingExtraError: A picture is asked for and kaleido or Chromium is missing.
    """
    return save_figures({Path(path): figure})[0]


def save_figures(figures: Mapping[Path, go.Figure]) -> list[Path]:
    """Write figures as `save_figure` does, all pictures through one browser; return the paths.

    Args:
        figures: Where to write -> any plotly figure.

    Raises:
        ConfigError: An ending that isn't known; then none is written.
        MissingExtraError: A picture is asked for and kaleido or Chromium is missing.
    """
    for path in figures:
        suffix = _suffix(path)
        if suffix not in FORMATS:
            raise ConfigError(
                f"can't write a figure as {path.name!r}: the file must end in "
                f"{', '.join('.' + name for name in FORMATS)}." + nearest(suffix, FORMATS)
            )
    pictures = {path: figure for path, figure in figures.items() if _suffix(path) != "html"}
    for path, figure in figures.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if path not in pictures:
            path.write_text(_page(figure), encoding="utf-8")
    if pictures:
        _write_images(pictures)
    return list(figures)


def script(name: str) -> str:
    """Return code that a page with figures runs: `narrow`, which fits them on a phone, or `figure`, which draws one."""
    return files("bsopt.visualization").joinpath("assets", f"{name}.js").read_text(encoding="utf-8")


def _page(figure: go.Figure) -> str:
    code = (get_plotlyjs(), script("narrow"), script("figure"))
    scripts = "\n".join(f"<script>{text}</script>" for text in code)
    data = str(figure.to_json()).replace("</", "<\\/")
    return _PAGE.format(data=data, scripts=scripts)


def _suffix(path: Path) -> str:
    return path.suffix.lower().lstrip(".")


def _write_images(figures: Mapping[Path, go.Figure]) -> None:
    endings = ", ".join(sorted({path.suffix for path in figures}))
    try:
        import kaleido  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"writing {endings} pictures needs kaleido: pip install 'bsopt[images]', or write an .html file."
        ) from error
    from kaleido.errors import ChromeNotFoundError

    pictures = [_picture(figure) for figure in figures.values()]
    heights = [picture.layout.height or 460 for picture in pictures]
    try:
        pio.write_images(pictures, list(figures), width=900, height=heights, scale=2)
    except (ChromeNotFoundError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "chrome" not in str(error).lower():
            raise
        raise MissingExtraError(
            f"writing {endings} pictures needs Chromium or Chrome, and none was found. Install one "
            "(Debian: apt install chromium; anywhere: kaleido_get_chrome), or write an .html file."
        ) from error


def _picture(figure: go.Figure) -> go.Figure:
    """Return a figure as a picture shows it: on a page of its own, without menus, which nobody can press there."""
    picture = go.Figure(figure)
    if picture.layout.template == TEMPLATES["bsopt"]:
        picture.update_layout(template=TEMPLATES["bsopt_light"])
    if picture.layout.updatemenus:
        picture.layout.updatemenus = ()
        picture.update_layout(margin={"t": picture.layout.margin.t - MENU_ROOM})
    return picture
