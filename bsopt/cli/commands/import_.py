"""`bsopt study import`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from bsopt.cli.group import Command
from bsopt.cli.opening import DEFAULT_STORAGE
from bsopt.cli.options import storage_option

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

    from bsopt.cli.terminal.trial_tables import PastTrial

__all__ = ["import_"]


@click.command("import", cls=Command, short_help="Make a study of runs from a table.")
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False))
@click.option("--study-name", metavar="NAME", required=True, help="The study to make.")
@storage_option
@click.option("--batch-size-column", metavar="COLUMN", default="batch_size", show_default=True)
@click.option("--lr-column", metavar="COLUMN", default="lr", show_default=True)
@click.option("--value-column", metavar="COLUMN", default="value", show_default=True)
@click.option(
    "--param",
    "params",
    metavar="COLUMN[=NAME]",
    multiple=True,
    help="A further parameter: its column and, if it is to be called otherwise, its name. Can be repeated.",
)
@click.option(
    "--direction",
    type=click.Choice(["minimize", "maximize"]),
    help="Which way values get better; by default minimize, or with --append the study's.",
)
@click.option("--append", is_flag=True, help="Add to a study that exists.")
def import_(
    file: str,
    study_name: str,
    storage: str | None,
    batch_size_column: str,
    lr_column: str,
    value_column: str,
    params: tuple[str, ...],
    direction: Literal["minimize", "maximize"] | None,
    append: bool,
) -> None:
    """Make a study of runs that were made elsewhere, from the table FILE (CSV).

    Each row becomes a complete trial with its batch size, learning rate and value. Rows without a value are left
    out, and those that a column outcome or state says were pruned or failed. The study can then be shown, plotted
    and reported like any other, or teach a later study: name it in that study's search.prior_from.
    """
    import optuna

    from bsopt.cli.opening import quiet_hosts
    from bsopt.cli.terminal.trial_tables import Columns, read_past_trials
    from bsopt.errors import ConfigError, StudyError
    from bsopt.storage.databases import open_storage

    quiet_hosts()
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't read the table {file}: {getattr(error, 'strerror', None) or error}.") from error
    mapping = {column: name or column for column, _, name in (param.partition("=") for param in params)}
    past = read_past_trials(text, Columns(batch_size_column, lr_column, value_column, mapping))
    if not past.trials:
        raise ConfigError(f"{file} has no row to import. " + " ".join(f"{reason}." for reason in past.skipped[:3]))
    opened = open_storage(storage or DEFAULT_STORAGE)
    exists = study_name in optuna.get_all_study_names(opened)
    if exists and not append:
        raise StudyError(f"a study {study_name!r} exists: --append adds to it, or choose another --study-name.")
    ranges: Mapping[str, BaseDistribution] = {}
    if exists:
        study = optuna.load_study(study_name=study_name, storage=opened)
        _check_directions(study, direction)
        ranges = _ranges_of(study)
    else:
        study = optuna.create_study(study_name=study_name, storage=opened, direction=direction or "minimize")
        study.set_metric_names([value_column])
    study.add_trials(_frozen(past.trials, ranges))
    click.echo(f"{len(past.trials)} trials in the study {study_name}.")
    for reason in past.skipped:
        click.echo(f"left out: {reason}")


def _check_directions(study: optuna.Study, asked: str | None) -> None:
    """Refuse to add values to a study that would read them otherwise.

    Raises:
        StudyError: It has several objectives, or its values get better the other way.
    """
    from bsopt.errors import StudyError

    own = [direction.name.lower() for direction in study.directions]
    if len(own) > 1:
        raise StudyError(
            f"the study {study.study_name!r} has {len(own)} objectives, and a table holds one value a row."
        )
    if asked is not None and own != [asked]:
        raise StudyError(
            f"--direction {asked}, but the study {study.study_name!r} has direction {own[0]}: leave --direction out if "
            "the table's values get better that way too, or choose another --study-name."
        )


def _frozen(trials: Sequence[PastTrial], ranges: Mapping[str, BaseDistribution]) -> list[optuna.trial.FrozenTrial]:
    import optuna

    values: dict[str, list[int | float | str]] = {}
    for trial in trials:
        for name, value in trial.params.items():
            values.setdefault(name, []).append(value)
    ours = {name: _distribution(name, found) for name, found in values.items()}
    frozen = []
    for trial in trials:
        fitting = {name: _wide_enough(ranges.get(name), ours[name], value) for name, value in trial.params.items()}
        frozen.append(optuna.trial.create_trial(params=dict(trial.params), distributions=fitting, value=trial.value))
    return frozen


def _ranges_of(study: optuna.Study) -> dict[str, BaseDistribution]:
    """Return the parameters' ranges in a study; an equal range keeps a sampler's joint space whole."""
    ranges: dict[str, BaseDistribution] = {}
    for trial in study.get_trials(deepcopy=False):
        ranges.update(trial.distributions)
    return ranges


def _wide_enough(known: BaseDistribution | None, ours: BaseDistribution, value: object) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if known is None:
        return ours
    if isinstance(known, CategoricalDistribution):
        return known if value in known.choices else ours
    if isinstance(value, (int, float)) and isinstance(known, (IntDistribution, FloatDistribution)):
        return known if known.low <= value <= known.high else ours
    return ours


def _distribution(name: str, values: Sequence[int | float | str]) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    numbers = [value for value in values if not isinstance(value, str)]
    if len(numbers) < len(values):
        return CategoricalDistribution(list(dict.fromkeys(str(value) for value in values)))
    low, high = min(numbers), max(numbers)
    if name == "batch_size":
        return IntDistribution(int(low), int(high), log=True)
    if all(isinstance(value, int) for value in numbers):
        return IntDistribution(int(low), int(high))
    return FloatDistribution(low, high, log=name == "lr" or (low > 0 and high / low > 20))
