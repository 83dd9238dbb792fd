"""`bsopt probe`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from bsopt.cli.group import Command
from bsopt.cli.options import json_option, set_option, study_file_argument

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
    from bsopt.cli.opening import quiet_hosts
    from bsopt.config import load_config
    from bsopt.serialization import to_json

    loaded = load_config(file, overrides)
    quiet_hosts()
    from bsopt.study.task_runner import TaskRunner

    task = TaskRunner(loaded.config, loaded.folder)
    if as_json:
        result = task.probe(lambda row: click.echo(json.dumps({"event": "measured", **to_json(row)})))
        click.echo(json.dumps({"event": "result", **to_json(result.as_dict())}))
    else:
        click.echo(f"{'samples in a pass':>17}  {'step':>9}  {'samples/s':>10}  {'memory':>10}")
        result = task.probe(lambda row: click.echo(_line(row)))
        click.echo(result.message)
    if result.max_micro_batch_size == 0:
        click.get_current_context().exit(1)


def _line(row: ProbeRow) -> str:
    step = "–" if row.seconds_per_step is None else f"{row.seconds_per_step * 1e3:.3g} ms"
    speed = "–" if row.samples_per_second is None else f"{row.samples_per_second:,.0f}"
    memory = "–" if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / 2**20:,.0f} MiB"
    verdict = {"ok": "", "over": "  above what it may use", "out_of_memory": "  out of memory"}[row.status]
    return f"{row.micro_batch_size:>17}  {step:>9}  {speed:>10}  {memory:>10}{verdict}"
