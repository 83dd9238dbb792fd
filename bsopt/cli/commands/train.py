"""`bsopt study train`."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from bsopt.cli.group import Command
from bsopt.cli.options import json_option, set_option, storage_option, study_argument, study_name_option

if TYPE_CHECKING:
    from bsopt.trial.events import Listener

__all__ = ["train"]

SECONDS_BETWEEN_LINES = 30.0


@click.command(cls=Command, short_help="Train the best once more and keep a checkpoint.")
@study_argument
@click.option("--trial", type=click.IntRange(min=0), metavar="NUMBER", help="The trial to train; by default the best.")
@set_option
@storage_option
@study_name_option
@json_option
def train(
    study: str | None,
    trial: int | None,
    overrides: tuple[str, ...],
    storage: str | None,
    study_name: str | None,
    as_json: bool,
) -> None:
    """Train the best trial of STUDY once more, at full budget and with a checkpoint.

    STUDY is its study file or its name. --set needs the study file.
    """
    from bsopt.cli.opening import is_study_file, open_study, quiet_hosts
    from bsopt.serialization import to_json
    from bsopt.units import format_duration, format_number

    if study is not None and is_study_file(study):
        from bsopt.config import load_config

        loaded = load_config(study, overrides)
        quiet_hosts()
        from bsopt.study.study import Study

        opened = Study.create(loaded, storage=storage, study_name=study_name)
    elif overrides:
        raise click.UsageError("--set overrides a study file: give the file instead of the study's name.")
    else:
        from bsopt.study.study import load_study

        known = open_study(study, storage=storage, study_name=study_name)
        opened = load_study(known.optuna.study_name, known.storage)
    with _watching(opened.info.objective.monitor, is_shown=not as_json) as listener:
        record = opened.train(trial, listener=listener)
    checkpoint = record.measurements.get("checkpoint")
    if as_json:
        click.echo(json.dumps(to_json(record), ensure_ascii=False))
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


@contextlib.contextmanager
def _watching(monitor: str, *, is_shown: bool) -> Iterator[Listener]:
    """Show the training under way: in place in a terminal, now and then a line elsewhere."""
    from rich.console import Console

    from bsopt.trial.events import Listener

    console = Console(highlight=False)
    if not is_shown:
        yield Listener()
    elif console.is_terminal:
        with console.status("starting") as status:
            yield _listener(monitor, tell=status.update, seconds_between=0.0)
    else:
        yield _listener(monitor, tell=click.echo, seconds_between=SECONDS_BETWEEN_LINES)


def _listener(monitor: str, *, tell: Callable[[str], object], seconds_between: float) -> Listener:
    from bsopt.cli.terminal.formatting import sparkline
    from bsopt.trial.events import Listener, TrialStart
    from bsopt.trial.record import Tick
    from bsopt.units import format_number

    class Watcher(Listener):
        def __init__(self) -> None:
            self.values: list[float] = []
            self.last = time.monotonic()

        def trial_started(self, start: TrialStart) -> None:
            tell(f"training with batch size {start.plan}, lr {format_number(start.lr)}; its log: {start.log}")

        def ticked(self, number: int, tick: Tick) -> None:
            self.values.append(tick.value)
            if time.monotonic() - self.last >= seconds_between:
                self.last = time.monotonic()
                tell(f"epoch {tick.epoch:.3g}: {monitor} {format_number(tick.value)}  {sparkline(self.values)}")

    return Watcher()
