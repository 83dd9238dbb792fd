"""The sampler, the pruner and the suggestions that a study file asks for."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from bsopt.config import RangeSpace, SearchConfig, StudyConfig
from bsopt.errors import ConfigError, MissingExtraError, nearest
from bsopt.laws.scaling import Reference, default_reference, default_rule, is_known_optimizer
from bsopt.search.pruner import PlateauPruner
from bsopt.search.sampler import ScalingSampler
from bsopt.search.seeded_by_trial import SeededByTrial
from bsopt.storage.attributes import BATCH_SIZE, LR
from bsopt.storage.parameter_names import OUR_NAMES, ParameterNames
from bsopt.trial.record import StudyInfo
from bsopt.units import in_samples

__all__ = [
    "PAUSE_BELOW",
    "make_pruner",
    "make_sampler",
    "reference_of",
    "rule_of",
    "sampler_of",
    "suggest",
    "with_optimizer",
]

PAUSE_BELOW = 0.3
"""Chance to be the best below which a study's trials are paused, where their state is kept."""
_UNKNOWN_OPTIMIZER = "sgd"


def make_sampler(
    config: StudyConfig, *, reference: Reference | None = None, prior_from: optuna.Study | None = None
) -> BaseSampler:
    """Return the sampler of `search.sampler`, seeded with the study's seed.

    Args:
        config: The study file.
        reference: Where the study expects a good learning rate; the study file's or the optimizer's where None.
        prior_from: An earlier study whose ridge is the prior of ours; other samplers have none.

    Raises:
        MissingExtraError: The sampler needs a package that isn't installed.
    """
    search, seed = config.search, config.seed
    if search.sampler == "scaling":
        extra: dict[str, Any] = {"prior_from": prior_from} if prior_from is not None else {}
        return ScalingSampler(
            optimizer=search.optimizer or _UNKNOWN_OPTIMIZER,
            rule=search.lr.rule,
            reference=reference or reference_of(config),
            lattice=search.batch_size.lattice,
            batch_size=BATCH_SIZE,
            lr=LR,
            seed=seed,
            **extra,
        )
    if search.sampler == "cmaes" and importlib.util.find_spec("cmaes") is None:
        raise MissingExtraError("search.sampler: cmaes needs a package of its own: pip install 'bsopt[cmaes]'")
    makers: dict[str, Callable[[int], BaseSampler]] = {
        "tpe": lambda drawn: optuna.samplers.TPESampler(seed=drawn),
        "gp": lambda drawn: optuna.samplers.GPSampler(seed=drawn),
        "random": lambda drawn: optuna.samplers.RandomSampler(seed=drawn),
        "cmaes": lambda drawn: optuna.samplers.CmaEsSampler(seed=drawn),
        "qmc": lambda drawn: optuna.samplers.QMCSampler(seed=drawn),
    }
    return SeededByTrial(makers[search.sampler], seed)


def sampler_of(info: StudyInfo, *, names: ParameterNames | None = None) -> ScalingSampler:
    """Return bsopt's sampler for a stored study, whoever proposed its trials: to ask what it believes.

    It starts from the rule and the reference, also where an earlier study gave the prior: that study isn't looked up.

    Args:
        info: What the study searches.
        names: What the study calls its batch size and learning rate; as our own studies do where None.
    """
    asked, names = info.search, names or OUR_NAMES
    return ScalingSampler(
        optimizer="adam" if default_rule(info.optimizer or "sgd") == "sqrt" else "sgd",  # whatever it is called
        rule=asked.rule if asked is not None else info.rule,
        reference=info.reference,
        lattice=asked.lattice if asked is not None else "pow2",
        batch_size=names.batch_size or BATCH_SIZE,
        lr=names.lr or LR,
        seed=info.seed or 0,
    )


def make_pruner(
    config: StudyConfig, info: StudyInfo, *, pauses: bool = False, prior_from: optuna.Study | None = None
) -> BasePruner:
    """Return the pruner of the `pruning` block: ours, one of Optuna's by name, or none.

    Args:
        config: The study file.
        info: What the study searches; the training set's length makes samples of epochs.
        pauses: Whether ours pauses trials: where they keep their state, to go on from.
        prior_from: An earlier study whose curves our pruner learns from, too; others learn from none.

    Raises:
        ConfigError: There is no such pruner, it refuses its options, or its patience is in epochs and the training
            set's length isn't known.
    """
    name, options = config.pruning.pruner, dict(config.pruning.options)
    if name == "none":
        return optuna.pruners.NopPruner()
    try:
        if name == "plateau":
            per_epoch, objective = info.num_train_samples, config.objective.value
            target = None if objective.target is None else objective.report_sign * objective.target
            defaults: dict[str, Any] = {
                "rule": "keras",  # what people mean by patience: no better value for so long
                "patience": in_samples(config.pruning.patience, per_epoch, "pruning.patience"),
                "min_delta": config.pruning.min_delta,
                "target": target,  # as Optuna hears the metric
                "pause_below": PAUSE_BELOW if pauses else 0.0,
                "unit": "epochs" if per_epoch else "samples",
                "unit_size": float(per_epoch or 1),
                "prior_from": prior_from,
            }
            return PlateauPruner(**{**defaults, **options})
        return _optuna_pruner(name, options)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"pruning.options: the pruner {name} refuses them: {error}") from error


def rule_of(search: SearchConfig) -> str:
    """Return the scaling rule, the optimizer's usual one where none is given."""
    return search.lr.rule or default_rule(search.optimizer or _UNKNOWN_OPTIMIZER)


def reference_of(config: StudyConfig, *, budget_samples: float | None = None) -> Reference:
    """Return the study file's reference, else a published default of the optimizer, moved to the training's length.

    Args:
        config: The study file.
        budget_samples: Nominal samples of a full trial, where they are known.
    """
    given, optimizer = config.search.lr.reference, config.search.optimizer or _UNKNOWN_OPTIMIZER
    if given is not None:
        return Reference(given.batch_size, given.lr)
    published = default_reference(optimizer)
    if budget_samples is None:
        return published
    num_steps = max(budget_samples / published.batch_size, 1.0)
    decays_to_end = config.pruning.options.get("decays_to_end")
    return default_reference(optimizer, num_steps=num_steps, decays_to_end=decays_to_end)


def with_optimizer(config: StudyConfig, built: str | None) -> StudyConfig:
    """Return a study file whose `search.optimizer` is the one that the task builds, where the file doesn't name one.

    Args:
        config: The study file.
        built: Name of the class of the task's optimizer; None where that isn't known.

    Raises:
        ConfigError: The file names another kind of optimizer than the task builds: another rule and another reference
            belong to it.
    """
    named = config.search.optimizer
    if built is None or not is_known_optimizer(built):
        return config
    if named is None:
        return config.model_copy(update={"search": config.search.model_copy(update={"optimizer": built.lower()})})
    if default_rule(named) != default_rule(built):
        raise ConfigError(
            f"search.optimizer is {named!r}, but the task builds {built}: remove the line, and the rule and the "
            f"reference of {built} are used."
        )
    return config


def suggest(trial: optuna.Trial, search: SearchConfig) -> dict[str, Any]:
    """Ask the trial for every parameter and return them by name."""
    params: dict[str, Any] = {
        BATCH_SIZE: trial.suggest_int(BATCH_SIZE, search.batch_size.low, search.batch_size.high, log=True),
        LR: trial.suggest_float(LR, search.lr.low, search.lr.high, log=True),
    }
    for name, space in search.params.items():
        params[name] = _suggest_one(trial, name, space)
    return params


def _suggest_one(trial: optuna.Trial, name: str, space: RangeSpace) -> Any:
    if space.choices is not None:
        return trial.suggest_categorical(name, space.choices)
    assert space.low is not None
    assert space.high is not None
    if space.integer:
        step = int(space.step) if space.step is not None else 1
        return trial.suggest_int(name, int(space.low), int(space.high), step=step, log=space.log)
    return trial.suggest_float(name, space.low, space.high, step=space.step, log=space.log)


def _optuna_pruner(name: str, options: dict[str, Any]) -> BasePruner:
    classes = {
        key.removesuffix("Pruner").lower(): getattr(optuna.pruners, key)
        for key in optuna.pruners.__all__
        if key.endswith("Pruner") and key not in ("BasePruner", "NopPruner")
    }
    wanted = name.removesuffix("Pruner").replace("_", "").lower()
    if wanted not in classes:
        allowed = ["plateau", "none", *sorted(classes)]
        raise ConfigError(
            f"pruning.pruner: there is no {name!r}; allowed are {', '.join(allowed)}." + nearest(name, allowed)
        )
    if wanted == "patient" and isinstance(options.get("wrapped_pruner"), str):
        options["wrapped_pruner"] = _optuna_pruner(options["wrapped_pruner"], {})
    pruner: BasePruner = classes[wanted](**options)
    return pruner
