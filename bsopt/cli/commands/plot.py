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
    "A file (.html, .png, .svg, .pdf), or a folder for several; by default the study's folder, as .html.",
    metavar="PATH",
)
@click.option("--list", "is_listed", is_flag=True, help="List the figures.")
@names_options
@named_study
def plot(
    named: NamedStudy,
    figure: tuple[str, ...],
    output: str | None,
    is_listed: bool,
    batch_size_name: str | None,
    lr_name: str | None,
) -> None:
    """Write figures of a study.

    STUDY is its name or its study file; it may be left out where the storage holds one study. Figures named
    experiment_… belong to a study with a designed experiment and are written for no other.
    """
    from bsopt.errors import ConfigError, nearest_or_all
    from bsopt.visualization.figure import EXPERIMENT_FIGURES, FIGURES
    from bsopt.visualization.saving import save_figure
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
    for name in names:
        path = target if target.suffix else target / f"{name}.html"
        with writing(path):
            click.echo(f"{name}: {save_figure(figures[name](data), path)}")


def _listed(figures: Iterable[Figure]) -> str:
    lines = []
    for figure in figures:
        article = f" (Chang & Pathak 2020, figure {figure.article})" if figure.article else ""
        lines.append(f"{figure.name:<28} {figure.heading}{article}.")
    return "\n".join(lines)
