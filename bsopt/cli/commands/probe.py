"""`bsopt probe`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bsopt.cli.group import Command
from bsopt.cli.opening import load_study_file, quiet_hosts
from bsopt.cli.options import json_option, set_option, study_file_argument
from bsopt.cli.terminal.formatting import json_text
from bsopt.units import format_bytes, format_number

if TYPE_CHECKING:
    from bsopt.training.probe.probe import ProbeRow

__all__ = ["probe"]


@click.command(cls=Command, short_help="Measure memory and throughput of batch sizes.")
@study_file_argument
@set_option
@json_option
def probe(file: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Measure what batch sizes of FILE's task take in memory and time, and find the largest that fits.

    Runs a few steps at each micro-batch (samples per device and pass), in processes of their own; trains no trial
    and leaves no study. With --json one object a line: each measurement, then the result.
    """
    from bsopt.serialization import to_plain

    loaded = load_study_file(file, overrides)
    quiet_hosts()
    from bsopt.study.task_runner import TaskRunner

    task = TaskRunner(loaded.config, loaded.folder)

    def tell(event: str, value: object) -> None:
        click.echo(json_text({"event": event, **to_plain(value)}, indent=None))

    if as_json:
        result = task.probe(lambda row: tell("measured", row))
        tell("result", result)
    else:
        click.echo(f"{'samples in a pass':>17}  {'step':>9}  {'samples/s':>10}  {'memory':>10}")
        result = task.probe(lambda row: click.echo(_line(row)))
        click.echo(result.message)
    if result.max_micro_batch_size == 0:
        click.get_current_context().exit(1)


def _line(row: ProbeRow) -> str:
    step = "–" if row.seconds_per_step is None else f"{format_number(row.seconds_per_step * 1e3, digits=3)} ms"
    speed, memory = format_number(row.samples_per_second, thousands=True), format_bytes(row.peak_memory_bytes)
    verdict = {"ok": "", "over": "  above what it may use", "out_of_memory": "  out of memory"}[row.status]
    return f"{row.micro_batch_size:>17}  {step:>9}  {speed:>10}  {memory:>10}{verdict}"
