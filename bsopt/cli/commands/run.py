"""`bsopt study run`."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from bsopt.cli.group import Command
from bsopt.cli.opening import as_typed, load_study_file, quiet_hosts, start_processes
from bsopt.cli.options import (
    json_option,
    set_option,
    storage_option,
    study_file_argument,
    study_name_option,
    workers_option,
)
from bsopt.cli.placing import Placing, engine_options
from bsopt.cli.terminal.output import closing_hangs_up
from bsopt.units import count_of, format_duration, format_number

if TYPE_CHECKING:
    from bsopt.config import LoadedConfig
    from bsopt.engines.leader import Leader
    from bsopt.engines.ranks import Ranks
    from bsopt.study.runner import Callback
    from bsopt.study.study import Study
    from bsopt.trial.events import Listener, RunSummary

__all__ = ["follow", "run"]

_COMMAND_LINE = click.core.ParameterSource.COMMANDLINE


@click.command(cls=Command, short_help="Run a study, or continue it.")
@study_file_argument
@set_option
@storage_option
@study_name_option
@workers_option
@click.option(
    "--publish", type=click.IntRange(min=1), metavar="N", help="Renew the figures in optuna-dashboard every N trials."
)
@click.option(
    "--settle",
    is_flag=True,
    help="First run what would settle what can't be told yet: what `bsopt study recommend` names, and the seeds that "
    "the verdicts of an experiment name.",
)
@click.option("--verbose", is_flag=True, help="Also tell how long each trial takes to start.")
@json_option
@engine_options
def run(
    file: str,
    overrides: tuple[str, ...],
    storage: str | None,
    study_name: str | None,
    workers: int | None,
    publish: int | None,
    settle: bool,
    verbose: bool,
    as_json: bool,
    engine: str | None,
    **placing_options: Any,
) -> None:
    """Run the study of FILE, or continue it to its number of trials.

    The same command on several hosts, with one storage, shares the study; --engine places workers from one
    terminal; under torchrun or srun every rank takes part in each trial. Ctrl-C ends it and keeps everything so
    far, and so does a terminal that is closed; the same command goes on from there. Exit codes: 0 done, 1 no trial
    succeeded or the last eight failed the same way, 2 something is wrong with the study, 3 the storage or the machine
    failed, 129, 130 and 143 hung up, interrupted, terminated. A storage that fails is waited for, two minutes or
    BSOPT_STORAGE_WAIT seconds.
    """
    placing = Placing.of(engine, placing_options)
    loaded = load_study_file(file, overrides, storage=storage, study_name=study_name, workers=workers)
    if (script := placing.script(loaded)) is not None:
        click.echo(script)
        return
    if engine is None:
        start_processes(loaded)
    quiet_hosts()
    if storage is not None:
        _warn_of_password(storage)
    ranks = _ranks(loaded) if engine is None else None
    if ranks is not None and ranks.rank > 0:
        code = ranks.serve()
    else:
        code = 2
        try:
            with closing_hangs_up():
                code = _lead(
                    loaded, placing, ranks, publish=publish, is_settled=settle, as_json=as_json, verbose=verbose
                )
        finally:
            if ranks is not None:
                ranks.dismiss(code)
    if code:
        click.get_current_context().exit(code)


def _warn_of_password(storage: str) -> None:
    """Say so where a password was typed; one in the environment or a file is seen by nobody else."""
    from bsopt.storage.addresses import shows_password

    if shows_password(storage) and click.get_current_context().get_parameter_source("storage") is _COMMAND_LINE:
        click.echo(
            "Warning: other users of this machine can read the password in --storage in the list of processes. Put the "
            "address into BSOPT_STORAGE or a file (--storage @FILE), or write ${NAME} for a variable that holds it.",
            err=True,
        )


def _ranks(loaded: LoadedConfig) -> Ranks | None:
    """Return the ranks that torchrun or srun started, of which this process is one; None for an ordinary run."""
    import os

    nodes = int(loaded.config.trainer.get("num_nodes", 1))
    if nodes == 1 and not {"TORCHELASTIC_RUN_ID", "SLURM_PROCID"} & set(os.environ):
        return None
    from bsopt.engines.ranks import Ranks, standing_of
    from bsopt.errors import ConfigError

    rank_info = standing_of(os.environ)
    if rank_info is not None:
        return Ranks(rank_info, loaded.config)
    if nodes > 1:
        raise ConfigError(
            f"trainer.num_nodes: {nodes} needs every rank to be started: by srun, or on each node by\n"
            f"  torchrun --nnodes {nodes} --nproc-per-node {loaded.config.trainer.get('devices', 1)} "
            "--rdzv-backend c10d --rdzv-endpoint HOST:29500 -m bsopt study run FILE"
        )
    return None


def _lead(
    loaded: LoadedConfig,
    placing: Placing,
    ranks: Ranks | None,
    *,
    publish: int | None,
    is_settled: bool,
    as_json: bool,
    verbose: bool,
) -> int:
    """Run the study from here and return the exit code."""
    study: Study | Leader
    if placing.engine is not None:
        from bsopt.engines.leader import Leader

        with _waiting("starting the engine", is_shown=not as_json):
            engine = placing.start(loaded)
        try:
            study = Leader.create(loaded, engine)
        except BaseException:
            engine.close()
            raise
    else:
        from bsopt.study.study import Study

        with _waiting("importing PyTorch and building the task", is_shown=not as_json):
            study = Study.create(loaded, ranks=ranks.launch if ranks is not None else None)
    if is_settled:
        has_design = _queue_settling_seeds(study, is_told=not as_json)
        if not has_design or study.config.budget.trials:
            _queue_settling(study, is_told=not as_json)
    callbacks = []
    if publish is not None:
        from bsopt.report.dashboard import Publisher

        callbacks.append(Publisher(publish, artifact_dir=study.config.artifact_folder))
    summary = follow(study, as_json=as_json, callbacks=callbacks, verbose=verbose)
    if publish is not None:
        from bsopt.report.dashboard import publish as publish_now

        publish_now(study.optuna, study.config.artifact_folder)
    if not as_json:
        _tell(study, summary, storage=loaded.config.storage)
    return _exit_code(summary)


def _queue_settling_seeds(study: Study | Leader, *, is_told: bool) -> bool:
    """Queue the seeds that would settle the study's experiment, and say which; return whether it has one."""
    from bsopt.experiment.settling import MOST_TIMES, queue_settling_seeds

    found = queue_settling_seeds(study.optuna)
    if found is None or not is_told:
        return found is not None
    for key, seeds in found.seeds.items():
        click.echo(f"To settle: {key.replace('_', ' ')} ({seeds} seeds)")
    if found.left_open:
        names = ", ".join(key.replace("_", " ") for key in found.left_open)
        click.echo(f"Left open, since more than {MOST_TIMES} times the seeds would be needed: {names}")
    if found.runs:
        click.echo(
            f"{count_of(len(found.runs), 'run')} with new seeds will be trained; then judge again: bsopt study analyze"
        )
    elif found.seeds:
        click.echo("The runs of the design, or of an earlier --settle, are still to be trained.")
    else:
        click.echo("No finding of the experiment can be settled by a few more seeds.")
    return True


def _queue_settling(study: Study | Leader, *, is_told: bool) -> None:
    """Queue the runs that the study's recommendation names, and say which."""
    from bsopt.recommendation.recommender import recommend
    from bsopt.recommendation.views import next_run_text
    from bsopt.storage.queue import queue_settling

    runs = recommend(study.optuna).next_runs
    params = [({"batch_size": run.batch_size, "lr": run.lr, **run.further}, run.repeats) for run in runs]
    queued = queue_settling(study.optuna, params)
    if not is_told:
        return
    if not runs:
        click.echo("Nothing that a few runs would settle: `bsopt study recommend` says what is known.")
    elif not queued:
        click.echo("The runs of an earlier --settle are still to be trained.")
    for run in runs[:queued]:
        click.echo(f"To settle: {next_run_text(run)}")


def follow(
    study: Study | Leader, *, as_json: bool, callbacks: Sequence[Callback] = (), verbose: bool = False
) -> RunSummary:
    """Run a study and show its progress: live in a terminal, in lines elsewhere, as JSON for programs."""
    from rich.console import Console

    from bsopt.cli.terminal.progress_json import JsonLines
    from bsopt.cli.terminal.progress_lines import PlainLines
    from bsopt.cli.terminal.progress_live import LiveProgress
    from bsopt.cli.terminal.run_progress import RunProgress
    from bsopt.cli.terminal.start_times import StartTimes
    from bsopt.storage.attributes import continued_number, read_records

    console = Console(highlight=False)
    gone_on_with = {continued_number(trial) for trial in study.optuna.get_trials(deepcopy=False)}
    progress = RunProgress(r for r in read_records(study.optuna) if r.number not in gone_on_with)

    def run(view: Listener) -> RunSummary:
        return study.run(progress.shown_by(StartTimes(view) if verbose else view), callbacks=callbacks)

    if as_json:
        return run(JsonLines(_write_line))
    if not console.is_terminal:
        return run(PlainLines(_write_line, progress))
    with contextlib.closing(LiveProgress(console, progress)) as live:
        return run(live)


def _waiting(what: str, *, is_shown: bool) -> contextlib.AbstractContextManager[object]:
    """Show that something happens, for some seconds."""
    from rich.console import Console

    console = Console(highlight=False)
    if not (is_shown and console.is_terminal):
        return contextlib.nullcontext()
    return console.status(what)


def _write_line(line: str) -> None:
    click.echo(line)  # flushes, so that a pipe sees a line when it happens


def _exit_code(summary: RunSummary) -> int:
    if summary.ended == "interrupted":
        return 128 + (summary.signal or signal.SIGINT)
    return 0 if summary.best is not None and summary.ended != "same_failure" else 1


def _tell(study: Study | Leader, summary: RunSummary, *, storage: str) -> None:
    took = f" ({summary.num_new} in this run, {format_duration(summary.seconds)})" if summary.num_new else ""
    click.echo(f"{summary.message}{took}")
    best, info = summary.best, study.info
    where = as_typed(info.name, storage)
    if best is None and summary.ended == "interrupted":
        click.echo("No trial is complete yet.")
        return
    if best is None:
        click.echo(
            f"No trial succeeded: {summary.num_pruned} pruned, {summary.num_failed} failed. "
            f"`bsopt study show {where}` lists why."
        )
        return
    name = info.objective.value_name
    click.echo(
        f"Best: batch size {best.batch_size} with lr {format_number(best.lr)}, {name} "
        f"{format_number(best.value)} (trial {best.number})."
    )
    click.echo(f"Next: bsopt study recommend {where}   (which batch size to use, and how sure that is)")
    click.echo(f"      bsopt study report {where} --open   (the same with every figure)")
