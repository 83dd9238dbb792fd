"""What a study calls its batch size and its learning rate: told, noted, or recognised by their usual names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from bsopt.errors import ConfigError, nearest
from bsopt.storage.optuna_internals import whole_study
from bsopt.units import in_words

__all__ = [
    "BATCH_SIZE",
    "LR",
    "OUR_NAMES",
    "ParameterNames",
    "as_batch_size",
    "find_names",
    "note_names",
    "unknown_names",
]

BATCH_SIZE = "batch_size"
LR = "lr"
NAMES_KEY = "bsopt:parameter_names"
"""A study's note, {"batch_size": name, "lr": name}."""

_USUAL: dict[str, tuple[str, ...]] = {
    BATCH_SIZE: ("batchsize", "globalbatchsize", "trainbatchsize", "bs", "log2batchsize", "batchsizelog2"),
    LR: ("lr", "learningrate", "baselr", "maxlr", "initiallr", "lr0", "eta"),
}

_Spaces: TypeAlias = Mapping[str, BaseDistribution]


@dataclass(frozen=True, slots=True)
class ParameterNames:
    """The names of the two parameters in an Optuna study; None for one that isn't known.

    Attributes:
        batch_size: Of the global batch size in samples, or of its log2 where the name says "log2".
        lr: Of the learning rate.
    """

    batch_size: str | None = BATCH_SIZE
    lr: str | None = LR

    @property
    def is_complete(self) -> bool:
        """Whether both are known."""
        return self.batch_size is not None and self.lr is not None


OUR_NAMES = ParameterNames()
"""Of every study that bsopt runs; whoever reads records one by one gives them, for to find names takes every trial."""


def find_names(study: optuna.Study, *, batch_size: str | None = None, lr: str | None = None) -> ParameterNames:
    """Return what a study's parameters are called.

    What is told counts first, then the study's own note, our names, and at last the usual names where exactly one
    parameter has one ("learning_rate", "optimizer.lr", "bs", "log2_batch_size").

    Args:
        study: The study.
        batch_size: Name of the batch size parameter, where it is known.
        lr: Name of the learning rate parameter, where it is known.

    Raises:
        ConfigError: A name was told that no trial of the study has.
    """
    spaces = _spaces(study)
    for role, told in ((BATCH_SIZE, batch_size), (LR, lr)):
        if told is not None and spaces and told not in spaces:
            raise ConfigError(
                f"{role}={told!r}: no trial has a parameter of that name; the study has {in_words(spaces)}."
                + nearest(told, spaces)
            )
    noted = whole_study(study).user_attrs.get(NAMES_KEY) or {}
    return ParameterNames(
        batch_size or _find(BATCH_SIZE, spaces, noted),
        lr or _find(LR, spaces, noted),
    )


def note_names(study: optuna.Study, *, batch_size: str, lr: str) -> None:
    """Keep what a study's parameters are called in its notes, for whoever opens it; our own names need no note.

    Args:
        study: The study.
        batch_size: Name of the batch size parameter.
        lr: Name of the learning rate parameter.
    """
    names = {BATCH_SIZE: batch_size, LR: lr}
    whole = whole_study(study)
    if (batch_size, lr) != (BATCH_SIZE, LR) and whole.user_attrs.get(NAMES_KEY) != names:
        whole.set_user_attr(NAMES_KEY, names)


def unknown_names(study: optuna.Study, names: ParameterNames) -> str:
    """Return what to say of a study whose two parameters aren't both known; empty where they are."""
    if names.is_complete:
        return ""
    spaces = _spaces(study)
    if not spaces:
        return ""
    missing = [f"{role}=" for role, found in ((BATCH_SIZE, names.batch_size), (LR, names.lr)) if found is None]
    what = {BATCH_SIZE: "the batch size", LR: "the learning rate"}
    unknown = in_words([what[name.removesuffix("=")] for name in missing], last="or")
    if spaces.keys() <= {names.batch_size, names.lr}:
        return f"The study doesn't search {unknown}: its only parameter is {in_words(spaces)}."
    return (
        f"Which parameter is {unknown} isn't known: the study has {in_words(sorted(spaces))}. "
        f"Say it with {in_words([f'{name}NAME' for name in missing])} (--batch-size-name, --lr-name)."
    )


def as_batch_size(value: float, name: str | None) -> float:
    """Return a batch size in samples from a parameter's value, which is its log2 where its name says so.

    >>> as_batch_size(5, "log2_batch_size"), as_batch_size(32, "batch_size")
    (32.0, 32)
    """
    return 2.0 ** float(value) if name is not None and "log2" in name.lower() else value


def _spaces(study: optuna.Study) -> dict[str, BaseDistribution]:
    """Return every parameter that a trial of the study has."""
    found: dict[str, BaseDistribution] = {}
    for trial in study.get_trials(deepcopy=False):
        for name, distribution in trial.distributions.items():
            found.setdefault(name, distribution)
    return found


def _find(role: str, spaces: _Spaces, noted: Mapping[str, Any]) -> str | None:
    if role in noted:
        return str(noted[role])
    if role in spaces or not spaces:
        return role
    usual = [name for name, space in spaces.items() if _short(name) in _USUAL[role] and _is_positive(space)]
    return usual[0] if len(usual) == 1 else None


def _short(name: str) -> str:
    """Return a name's last part in small letters: "model.learning_rate" is "learningrate"."""
    return re.sub(r"[^a-z0-9]", "", re.split(r"[./]", name)[-1].lower())


def _is_positive(space: BaseDistribution) -> bool:
    ends: Iterable[object] = ()
    if isinstance(space, CategoricalDistribution):
        ends = space.choices
    elif isinstance(space, (IntDistribution, FloatDistribution)):
        ends = (space.low, space.high)
    return all(isinstance(end, (int, float)) and not isinstance(end, bool) and end > 0 for end in ends)
