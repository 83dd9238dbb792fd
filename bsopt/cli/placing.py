"""Options of `bsopt study run` that say where its workers run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from bsopt.units import in_words

if TYPE_CHECKING:
    from bsopt.config import LoadedConfig
    from bsopt.engines.leader import Engine

__all__ = ["Placing", "engine_options"]

_OF = {  # option -> engines that it goes with
    "address": ("ray",),
    "upload_code": ("ray",),
    "gpus_per_trial": ("ray", "slurm"),
    "cpus_per_trial": ("ray", "slurm"),
    "partition": ("slurm",),
    "time": ("slurm",),
    "mem": ("slurm",),
    "sbatch": ("slurm",),
    "dry_run": ("slurm",),
    "local": ("slurm",),
}


@dataclass(frozen=True, slots=True)
class Placing:
    """Where workers run, as it was typed.

    Attributes:
        engine: "ray", "slurm", or None for this process.
        options: The engine's options by name; those not given are None, False or empty.
    """

    engine: str | None
    options: dict[str, Any]

    @classmethod
    def of(cls, engine: str | None, options: dict[str, Any]) -> Placing:
        """Check that every option that was given goes with the engine.

        Raises:
            click.UsageError: One doesn't.
        """
        for name, value in options.items():
            if value not in (None, False, ()) and engine not in _OF[name]:
                engines = in_words((f"--engine {e}" for e in _OF[name]), last="or")
                raise click.UsageError(f"--{name.replace('_', '-')} goes with {engines}.")
        return cls(engine, options)

    def script(self, loaded: LoadedConfig) -> str | None:
        """Return the script to print in place of a run; None where the study is to be run."""
        if not self.options["dry_run"]:
            return None
        from bsopt.engines.slurm import sbatch_script

        return sbatch_script(loaded.config, self._slurm(), **self._resources())

    def start(self, loaded: LoadedConfig) -> Engine:
        """Return the engine, ready to place workers.

        Raises:
            BsoptError: It isn't installed, or its cluster can't be reached.
        """
        options = self.options
        if self.engine == "ray":
            from bsopt.engines.ray import RayEngine

            return RayEngine(
                loaded.config,
                loaded.folder,
                address=options["address"],
                upload_code=options["upload_code"],
                **self._resources(),
            )
        from bsopt.engines.slurm import SlurmEngine

        return SlurmEngine(loaded.config, self._slurm(), is_local=options["local"], **self._resources())

    def _resources(self) -> dict[str, int | None]:
        return {"cpus": self.options["cpus_per_trial"], "gpus": self.options["gpus_per_trial"]}

    def _slurm(self) -> Any:
        from bsopt.engines.slurm import SlurmOptions

        options = self.options
        return SlurmOptions(
            partition=options["partition"],
            minutes=options["time"] or SlurmOptions().minutes,
            memory=options["mem"],
            further=dict(_pair(text) for text in options["sbatch"]),
        )


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command."""
    at_least_none, at_least_one = click.IntRange(min=0), click.IntRange(min=1)
    for option in reversed(
        [
            click.option(
                "--engine", type=click.Choice(["ray", "slurm"]), help="Place the workers on a Ray cluster, or as jobs."
            ),
            click.option("--cpus-per-trial", type=at_least_one, metavar="N", help="Cores reserved for each worker."),
            click.option("--gpus-per-trial", type=at_least_none, metavar="N", help="GPUs reserved for each worker."),
            click.option(
                "--address", metavar="ADDRESS", help="Ray: the cluster (auto, host:6379); else one is started here."
            ),
            click.option(
                "--upload-code", is_flag=True, help="Ray: send the study's folder along, without a shared disk."
            ),
            click.option("--partition", metavar="NAME", help="SLURM: the partition."),
            click.option("--time", type=at_least_one, metavar="MINUTES", help="SLURM: of a job, then it is requeued."),
            click.option("--mem", metavar="SIZE", help="SLURM: memory of a job, e.g. 32G."),
            click.option("--sbatch", multiple=True, metavar="KEY=VALUE", help="SLURM: any option of sbatch."),
            click.option("--dry-run", is_flag=True, help="SLURM: print a worker's script and submit nothing."),
            click.option("--local", is_flag=True, help="SLURM: start the jobs here, without SLURM, to try it."),
        ]
    ):
        command = option(command)
    return command


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise click.UsageError(f"--sbatch takes KEY=VALUE, e.g. account=lab; got {text!r}.")
    return key.strip().lstrip("-"), value.strip()
