"""`bsopt study train`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from bsopt.cli.group import Command
from bsopt.cli.opening import NamedStudy, load_study_file, quiet_hosts
from bsopt.cli.options import json_option, named_study, set_option
from bsopt.cli.terminal.formatting import json_text
from bsopt.units import format_duration, format_number

if TYPE_CHECKING:
    from bsopt.study.study import Study

__all__ = ["train"]


@click.command(cls=Command, short_help="Train the best once more and keep a checkpoint.")
@click.option("--trial", type=click.IntRange(min=0), metavar="NUMBER", help="The trial to train; by default the best.")
@set_option
@named_study
@json_option
def train(named: NamedStudy, trial: int | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Train the best trial of STUDY once more, at full budget and with a checkpoint.

    STUDY is its study file or its name. --set needs the study file.
    """
    from bsopt.cli.terminal.progress_training import showing_training

    opened = _opened(named, overrides)
    with showing_training(opened.info.objective.monitor, is_shown=not as_json) as listener:
        record = opened.train(trial, listener=listener)
    checkpoint = record.measurements.get("checkpoint")
    if as_json:
        click.echo(json_text(record, indent=None))
    else:
        value = f"{opened.info.objective.monitor} {format_number(record.value)}"
        click.echo(
            f"batch size {record.batch_size} with lr {format_number(record.lr)}: {value}, {record.ending} after "
            f"{format_duration(record.seconds)}."
        )
        if checkpoint:
            click.echo(f"checkpoint: {checkpoint}")
        if record.outcome == "fail":
            click.echo(record.message, err=True)
    if record.outcome != "complete":
        click.get_current_context().exit(1)


def _opened(named: NamedStudy, overrides: Sequence[str]) -> Study:
    """Return the study to train from: as its file says now, or as it was stored."""
    if named.study is not None and named.is_file:
        loaded = load_study_file(named.study, overrides, storage=named.storage, study_name=named.study_name)
        quiet_hosts()
        from bsopt.study.study import Study

        return Study.create(loaded)
    if overrides:
        raise click.UsageError("--set overrides a study file: give the file instead of the study's name.")
    known = named.open()
    from bsopt.study.study import load_study

    return load_study(known.optuna.study_name, known.storage)
