"""`bsopt study plot`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bsopt.cli.group import Command, writing
from bsopt.cli.opening import NamedStudy
from bsopt.cli.options import named_study, names_options, output_option

if TYPE_CHECKING:
    from bsopt.visualization.figure import Figure

__all__ = ["plot"]


@click.command(cls=Command)
@click.option("-f", "--figure", metavar="NAME", multiple=True, help="Which figure; all where none is named.")
@output_option(
    "A file (.html, .png, .svg, .pdf), or a folder for several; by default the study's folder.",
    metavar="PATH",
)
@click.option(
    "--format",
    "ending",
    type=click.Choice(["html", "png", "svg", "pdf"]),
    help="Of figures in a folder; html by default. Pictures have no menus and no tools.",
)
@click.option("--dark", "is_dark", is_flag=True, help="Light on a dark page, for slides.")
@click.option("--list", "is_listed", is_flag=True, help="List the figures.")
@names_options
@named_study
def plot(
    named: NamedStudy,
    figure: tuple[str, ...],
    output: str | None,
    ending: str | None,
    is_dark: bool,
    is_listed: bool,
    batch_size_name: str | None,
    lr_name: str | None,
) -> None:
    """Write figures of a study.

    STUDY is its name or its study file; it may be left out where the storage holds one study. Figures named
    experiment_… belong to a study with a designed experiment and are written for no other. A figure for which nothing
    was measured yet is written only where it is named.
    """
    from bsopt.errors import ConfigError, nearest_or_all
    from bsopt.visualization.figure import EXPERIMENT_FIGURES, FIGURES
    from bsopt.visualization.saving import save_figures
    from bsopt.visualization.study_data import load

    if is_listed:
        click.echo(_listed(FIGURES.values()))
        click.echo("\nOf a study with a designed experiment:")
        click.echo(_listed(EXPERIMENT_FIGURES.values()))
        return
    figures = {**FIGURES, **EXPERIMENT_FIGURES}
    for name in figure:
        if name not in figures:
            raise ConfigError(f"there is no figure {name!r}.{nearest_or_all(name, figures)}")
    opened = named.open()
    data = load(opened.optuna, batch_size=batch_size_name, lr=lr_name)
    names = figure or (*FIGURES, *(EXPERIMENT_FIGURES if data.experiment is not None else ()))
    target = Path(output) if output else opened.folder
    if target.suffix and len(names) > 1:
        raise ConfigError(f"{len(names)} figures don't fit in the file {target}: name one with --figure, or a folder.")
    if target.suffix and ending is not None and target.suffix.lower() != f".{ending}":
        raise ConfigError(f"the file {target} isn't .{ending}, which --format asks for: leave one of the two out.")
    drawn = {name: figures[name](data) for name in names}
    shown = {name: one for name, one in drawn.items() if one.data or name in figure}
    if is_dark:
        for one in shown.values():
            one.update_layout(template="bsopt_dark")
    paths = {target if target.suffix else target / f"{name}.{ending or 'html'}": one for name, one in shown.items()}
    with writing(target):
        written = save_figures(paths)
    for name, path in zip(shown, written, strict=True):
        click.echo(f"{name}: {path}")
    if len(shown) < len(drawn):
        click.echo(f"Nothing was measured yet for: {', '.join(name for name in drawn if name not in shown)}")


def _listed(figures: Iterable[Figure]) -> str:
    lines = []
    for figure in figures:
        article = f" (Chang & Pathak 2020, figure {figure.article})" if figure.article else ""
        lines.append(f"{figure.name:<28} {figure.heading}{article}.")
    return "\n".join(lines)
