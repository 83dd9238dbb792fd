"""What a study file may say: the study and its smaller blocks, their defaults, and what must fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from bsopt.config.fields import MOST_ROWS, Block, Bytes, Validations, amount, in_a_word
from bsopt.config.search import SearchConfig
from bsopt.config.task import TaskConfig
from bsopt.config.variants import VariantConfig
from bsopt.errors import ConfigError
from bsopt.laws.scaling import HIGHER_LR_FACTOR
from bsopt.trial.objective import Objective
from bsopt.units import Amount, in_words

__all__ = ["ExperimentConfig", "StudyConfig", "check_name"]

_ENOUGH_TO_REPEAT, _REPEATS = 15, 3
"""With `confirm_seeds: auto`, from so many trials on, so many repeat the finalists: just enough to know the noise."""

RESERVED_TRAINER_KEYS = {
    "max_epochs": "budget.epochs",
    "max_steps": "budget.steps or budget.samples",
    "max_time": "budget.time_per_trial",
    "min_epochs": "nothing: a trial ends when bsopt says so",
    "min_steps": "nothing: a trial ends when bsopt says so",
    "min_time": "nothing: a trial ends when bsopt says so",
    "val_check_interval": "budget.validate_every",
    "check_val_every_n_epoch": "budget.validate_every",
    "accumulate_grad_batches": "limits.max_micro_batch_size (the plan decides how to accumulate)",
    "fast_dev_run": "`bsopt study check`",
    "default_root_dir": "output",
}

_MOST_SAMPLES = 1e15
_MOST_TRIALS = 10**6
_BATCH_LIMITS = ("limit_train_batches", "limit_val_batches")


def check_name(name: str) -> str:
    """Return a study's name, which its output folder is called by, too.

    Raises:
        ConfigError: It is a path, or holds what can't be printed.
    """
    if not name.isprintable() or name != name.strip():
        raise ConfigError(f"the name {name!r} holds what can't be printed, or blanks at its ends")
    if name in (".", "..") or set(name) & set("/\\"):
        raise ConfigError(f"the name {name!r} is a path: a name has no / and no \\; output: says where files go")
    return name


class ObjectiveConfig(Block):
    """What counts."""

    monitor: str = Field("val_loss", min_length=1, description="name of a metric that the module logs")
    direction: Literal["minimize", "maximize"] = "minimize"
    target: float | None = Field(None, description="end a trial when the metric reaches this value")
    cost: Literal["seconds", "samples", "steps", "energy"] | None = Field(
        None, description="with target: what it takes to reach it"
    )

    @model_validator(mode="after")
    def _together(self) -> ObjectiveConfig:
        if (self.target is None) != (self.cost is None):
            raise ValueError("target and cost go together: e.g. target: 0.35, cost: seconds")
        return self

    @property
    def value(self) -> Objective:
        """The same as the value that everything else reads."""
        return Objective(self.monitor, self.direction, self.target, self.cost)


class BudgetConfig(Block):
    """How many trials, and how long each."""

    trials: int = Field(30, ge=0, le=_MOST_TRIALS, description="of the search; 0 where there is an experiment alone")
    epochs: float | None = Field(None, gt=0, le=1e9)
    samples: float | None = Field(None, gt=0, le=_MOST_SAMPLES)
    steps: int | None = Field(None, ge=1, le=10**15)
    time_per_trial: amount("seconds") | None = None  # type: ignore[valid-type]
    time: amount("seconds") | None = Field(None, description="of the whole study")  # type: ignore[valid-type]
    validate_every: Validations = Field(
        Amount(1.0, "epochs"),
        description="an amount, or geometric: at 1/16, 1/8, 1/4 and 1/2 of the first epoch, then every epoch",
    )

    @property
    def is_geometric(self) -> bool:
        """Whether validations come early, to see where a target is crossed."""
        return self.validate_every == "geometric"

    @property
    def tick_every(self) -> Amount:
        """Between regular validations."""
        return self.validate_every if isinstance(self.validate_every, Amount) else Amount(1.0, "epochs")

    @model_validator(mode="after")
    def _one(self) -> BudgetConfig:
        given = [name for name in ("epochs", "samples", "steps") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{in_words(given)} both say how long a trial is; give one")
        if not given and self.time_per_trial is None:
            raise ValueError("say how long a trial is: epochs, samples, steps or time_per_trial")
        return self


class PruningConfig(Block):
    """When a trial is stopped early."""

    pruner: str = Field("plateau", description="plateau, none, or the name of one of Optuna's pruners, e.g. median")
    patience: amount("epochs", "samples") = Amount(3.0, "epochs")  # type: ignore[valid-type]
    min_delta: float = Field(0.0, ge=0)
    options: dict[str, Any] = Field(default_factory=dict, description="further arguments of the pruner")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return in_a_word(value, "pruner")


class ExperimentConfig(Block):
    """A designed batch-size experiment (Chang & Pathak 2020), run beside the search and never pruned."""

    batch_sizes: list[int] = Field(min_length=2, max_length=1000, description="global batch sizes, samples")
    reference_lr: float = Field(gt=0, description="learning rate at the smallest of them")
    arms: tuple[Literal["fixed_lr", "scaled_lr", "higher_lr", "grid"], ...] = Field(
        ("fixed_lr", "scaled_lr", "higher_lr", "grid"),
        min_length=1,
        description="the reference's learning rate everywhere; scaled with the batch size; one higher rate "
        "everywhere; every batch size at every rate of grid",
    )
    higher_lr: float | None = Field(
        None, gt=0, description=f"{HIGHER_LR_FACTOR:g} times the reference's where it isn't given"
    )
    grid: list[float] = Field(
        default_factory=list, max_length=1000, description="learning rates of the grid; without any there is none"
    )
    seeds: int = Field(5, ge=1, le=1000, description="runs of each; below 5 no finding can be judged")
    patience: amount("epochs", "samples") = Amount(100.0, "epochs")  # type: ignore[valid-type]
    matched_loss: float | None = Field(
        None,
        gt=0,
        description="training loss at which every run's weights are kept once more, so that sharpness is compared at "
        "equal training loss; without one, at the best validation loss",
    )
    params: dict[str, Any] = Field(default_factory=dict, description="values of the parameters of search.params")
    variants: dict[Annotated[str, Field(pattern=r"^[A-Za-z][\w-]*$", max_length=40)], VariantConfig] = Field(
        default_factory=dict, description="the same runs with other settings, by a name of your own"
    )

    @model_validator(mode="after")
    def _sensible(self) -> ExperimentConfig:
        if len(set(self.batch_sizes)) < 2 or min(self.batch_sizes) < 1:
            raise ValueError(f"batch_sizes needs at least two different positive sizes, got {self.batch_sizes}")
        arms = (len(self.grid) if "grid" in self.arms else 0) + len(set(self.arms) - {"grid"})
        arms += sum(len(set(variant.arms)) for variant in self.variants.values())
        if len(self.batch_sizes) * arms * self.seeds > MOST_ROWS:
            raise ValueError(
                f"the design has up to {len(self.batch_sizes) * arms * self.seeds:,} runs; {MOST_ROWS:,} at most"
            )
        for name, variant in self.variants.items():
            if lacking := [arm for arm in variant.arms if arm not in self.arms]:
                raise ValueError(
                    f"variants.{name} is compared with the runs of {in_words(lacking)}, which arms leaves out: add "
                    f"{'it' if len(lacking) == 1 else 'them'}, or give variants.{name}.arms"
                )
        if any(not rate > 0 for rate in self.grid):
            raise ValueError(f"grid holds learning rates, which are positive, got {self.grid}")
        return self

    @property
    def higher_rate(self) -> float:
        """The learning rate of the arm `higher_lr`."""
        return self.higher_lr if self.higher_lr is not None else HIGHER_LR_FACTOR * self.reference_lr

    @property
    def highest_scaled_rate(self) -> float:
        """The learning rate of the arm `scaled_lr` at the largest batch size."""
        return self.reference_lr * max(self.batch_sizes) / min(self.batch_sizes)


class InjectConfig(Block):
    """Where the learning rate and the micro-batch go in the user's code."""

    lr: str | None = Field(
        None, description="init argument or dotted path, e.g. optimizer.lr; by default lr or learning_rate"
    )
    batch_size: str | None = Field(None, description="e.g. loader.batch_size; by default the data module's batch_size")
    verify: bool = Field(default=True, description="check at train start that what was asked for is in use")
    batch_size_is: Literal["micro", "global"] = Field("micro", description="what the data module's batch size means")


class LimitsConfig(Block):
    """What the devices allow and when a trial is given up."""

    max_micro_batch_size: int | None = Field(None, ge=1, description="most samples in one pass of a device")
    memory: Bytes | None = Field(None, description="memory of one rank; on a GPU what it has, where it isn't given")
    accumulation: bool = Field(default=True, description="whether gradients may be accumulated where memory forces it")
    stall_timeout: amount("seconds") = Amount(1800.0, "seconds")  # type: ignore[valid-type]


class CheckpointsConfig(Block):
    """Which trials keep weights, and which of them; in Optuna's artifact store."""

    trials: Literal["none", "finalists", "best_per_batch_size", "all"] = Field("none", description="which trials")
    keep: tuple[Literal["initial", "best", "last"], ...] = Field(
        ("best",), min_length=1, description="which weights of a trial"
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return in_a_word(value, "trials")


class StudyConfig(Block):
    """One study."""

    name: str = Field(min_length=1, max_length=200)
    task: TaskConfig
    search: SearchConfig = SearchConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    budget: BudgetConfig
    pruning: PruningConfig = PruningConfig()
    inject: InjectConfig = InjectConfig()
    limits: LimitsConfig = LimitsConfig()
    trainer: dict[str, Any] = Field(default_factory=dict, description="passed on to Lightning's Trainer")
    seed: int = Field(0, ge=0, lt=2**32)
    confirm_seeds: Annotated[int, Field(ge=0, le=1000)] | Literal["auto"] = Field(
        0,
        description="re-run the finalists this often over fresh seeds, beside the trials; auto: the last 3 of at least "
        "15 trials repeat the best ones",
    )
    workers: int = Field(1, ge=1, le=1024, description="trials at a time on this host")
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    experiment: ExperimentConfig | None = None
    resume: bool | Literal["auto"] = Field(
        default="auto",
        description="an interrupted trial goes on from its last validation, not from its start; a trial with a small "
        "chance to be the best is paused, to go on from there if the chance comes back, or isn't nil at the study's "
        "end. auto: where a checkpoint has at most 256 MiB and one node trains, kept as often as takes 1 % of the "
        "training time",
    )
    isolation: Literal["process", "none"] = "process"
    measure: list[Literal["noise_scale", "weight_distance", "update_norms"]] = Field(
        default_factory=list, description="what callbacks measure in every trial"
    )
    output: str | None = Field(
        None, description="folder of logs, artifacts and the report; runs/NAME where it isn't given"
    )
    artifacts: str | None = Field(
        None, description="folder of Optuna's artifact store; beside the output folder where it isn't given"
    )
    storage: str = "sqlite:///bsopt.db"

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        return check_name(value)

    @field_validator("trainer")
    @classmethod
    def _sensible_trainer(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key, least in (("num_nodes", 1), ("devices", -1)):
            number = value.get(key, 1)
            if isinstance(number, (int, float)) and (isinstance(number, bool) or number < least or number == 0):
                raise ValueError(f"trainer.{key} must be at least 1, got {number!r}")
        if not isinstance(value.get("num_nodes", 1), int):
            raise ValueError(f"trainer.num_nodes must be a whole number, got {value['num_nodes']!r}")
        for key in _BATCH_LIMITS:
            if value.get(key) is not None and not (isinstance(value[key], (int, float)) and value[key] > 0):
                raise ValueError(f"trainer.{key} must be above 0, got {value[key]!r}: every epoch trains and validates")
        callbacks = value.get("callbacks") or []
        for given in callbacks if isinstance(callbacks, list) else [callbacks]:
            if not (isinstance(given, dict) and isinstance(given.get("class_path"), str)):
                raise ValueError(
                    f"trainer.callbacks takes {{class_path: module.Class, init_args: {{...}}}}, got {given!r}"
                )
        return value

    @field_validator("trainer")
    @classmethod
    def _not_reserved(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key in value:
            if key in RESERVED_TRAINER_KEYS:
                raise ValueError(f"trainer.{key} is bsopt's to set; use {RESERVED_TRAINER_KEYS[key]}")
        return value

    @model_validator(mode="after")
    def _something_to_run(self) -> StudyConfig:
        if self.experiment is None and self.budget.trials == 0:
            raise ValueError("budget.trials is 0 and there is no experiment: nothing would be run")
        return self

    @model_validator(mode="after")
    def _searched_once(self) -> StudyConfig:
        for path in self.search.params:
            if path in self._injected:
                raise ValueError(f"search.params.{path} is what {self._injected[path]} searches already: leave it out")
        if self.search.prior_from == self.name:
            raise ValueError("search.prior_from names the study itself: give the name of an earlier one")
        return self

    @model_validator(mode="after")
    def _experiment_fits(self) -> StudyConfig:
        experiment, search = self.experiment, self.search
        if experiment is None:
            return self
        outside = [B for B in experiment.batch_sizes if B not in search.batch_size]
        if outside:
            raise ValueError(f"experiment.batch_sizes {outside} aren't among those of search.batch_size: widen it")
        rates = [experiment.reference_lr, *experiment.grid]
        rates += [experiment.highest_scaled_rate] if "scaled_lr" in experiment.arms else []
        rates += [experiment.higher_rate] if "higher_lr" in experiment.arms else []
        wide = [rate for rate in rates if not search.lr.low <= rate <= search.lr.high]
        if wide:
            raise ValueError(
                f"the experiment trains at learning rates {wide}, outside search.lr ({search.lr.low:g} to "
                f"{search.lr.high:g}): widen it"
            )
        if self.objective.direction != "minimize" or self.objective.cost is not None:
            raise ValueError(
                "the experiment's findings are about a loss: objective.monitor must be one to minimize, without target"
            )
        if set(experiment.params) != set(search.params):
            raise ValueError(f"experiment.params must give a value for each of search.params: {sorted(search.params)}")
        return self

    @model_validator(mode="after")
    def _variants_fit(self) -> StudyConfig:
        variants = self.experiment.variants if self.experiment is not None else {}
        if variants and self.budget.trials:
            raise ValueError(
                "experiment.variants train something else than the search: give them a study without one, "
                "budget.trials: 0"
            )
        for name, variant in variants.items():
            where = f"experiment.variants.{name}"
            for key in variant.trainer:
                if key in RESERVED_TRAINER_KEYS:
                    raise ValueError(f"{where}.trainer.{key} is bsopt's to set; use {RESERVED_TRAINER_KEYS[key]}")
            for path in variant.params:
                if path in self._injected:
                    raise ValueError(f"{where}.params.{path} is what the experiment's arms set: leave it out")
            if variant.ghost_batch_norm and self.trainer.get("sync_batchnorm"):
                raise ValueError(f"{where}.ghost_batch_norm and trainer.sync_batchnorm contradict each other")
        return self

    @property
    def _injected(self) -> dict[str, str]:
        """Paths where the learning rate and the batch size go -> the block that searches them."""
        rates = [self.inject.lr] if self.inject.lr else ["lr", "learning_rate"]
        sizes = [self.inject.batch_size or "batch_size"]
        found = {f"model.{name.removeprefix('model.')}": "search.lr" for name in rates}
        return found | {f"data.{name.removeprefix('data.')}": "search.batch_size" for name in sizes}

    @property
    def num_repeats(self) -> int:
        """Trials of the budget that repeat the finalists instead of searching (`confirm_seeds: auto`)."""
        is_auto = self.confirm_seeds == "auto" and self.budget.trials >= _ENOUGH_TO_REPEAT
        return _REPEATS if is_auto else 0

    @property
    def num_searched(self) -> int:
        """Trials that the search may have."""
        return self.budget.trials - self.num_repeats

    @property
    def folder(self) -> Path:
        """Where logs, artifacts and the report go."""
        return Path(self.output or f"runs/{self.name}")

    @property
    def artifact_folder(self) -> Path:
        """Where Optuna's artifact store keeps its files."""
        return Path(self.artifacts) if self.artifacts else self.folder.parent / "artifacts"

    def as_dict(self) -> dict[str, Any]:
        """Return plain data with every default filled in."""
        data: dict[str, Any] = self.model_dump(mode="json")
        return data
