"""What a study calls its batch size and its learning rate: told, noted, or recognised by their usual names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from bsopt.errors import ConfigError, nearest
from bsopt.storage.optuna_internals import whole_study
from bsopt.units import in_words

__all__ = [
    "BATCH_SIZE",
    "LR",
    "OUR_NAMES",
    "ParameterNames",
    "as_number",
    "exponent_base",
    "find_names",
    "natural_choices",
    "natural_log2",
    "natural_range",
    "natural_value",
    "note_names",
    "parameter_value",
    "spaces_of",
    "unknown_names",
    "unreadable",
]

BATCH_SIZE = "batch_size"
LR = "lr"
NAMES_KEY = "bsopt:parameter_names"
"""A study's note, {"batch_size": name, "lr": name}."""

_USUAL: dict[str, tuple[str, ...]] = {
    BATCH_SIZE: (
        "batchsize", "globalbatchsize", "trainbatchsize", "batch", "bs", "log2batchsize", "batchsizelog2", "log2bs",
    ),
    LR: (
        "lr", "learningrate", "baselr", "maxlr", "initiallr", "lr0", "eta", "log10lr", "log2lr", "lrlog10",
        "log10learningrate", "log2learningrate",
    ),
}  # fmt: skip

LARGEST_EXPONENT = 64
"""A name may say "log10" of a log-scaled range; no batch size or learning rate has a logarithm beyond this."""

MOST_CHOICES = 10_000
"""A parameter on a step that can take more values than this counts as continuous."""

_LOGARITHM = re.compile(r"(neg|minus)?[^a-z0-9]*log(10|2)(?![0-9])")
_UNCLEAR = re.compile(
    r"(?<![a-z])(neg|minus)?[^a-z0-9]*(log|ln)(?![a-z0-9])|(neg|minus)[^a-z0-9]*log(10|2)(?![0-9])"
    r"|(?<![a-z])(exp|exponent|power)$"
)

_Spaces: TypeAlias = Mapping[str, BaseDistribution]


@dataclass(frozen=True, slots=True)
class ParameterNames:
    """The names of the two parameters in an Optuna study; None for one that isn't known.

    Attributes:
        batch_size: Of the global batch size in samples, or of its logarithm where the name says "log2" or "log10".
        lr: Of the learning rate, or of its logarithm likewise.
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
        ConfigError: A name was told that no trial of the study has, or whose values can't be read.
    """
    spaces = spaces_of(study)
    for role, told in ((BATCH_SIZE, batch_size), (LR, lr)):
        if told is not None and spaces and told not in spaces:
            raise ConfigError(
                f"{role}={told!r}: no trial has a parameter of that name; the study has {in_words(spaces)}."
                + nearest(told, spaces)
            )
        if told in spaces and (why := unreadable(told, spaces[told])):
            raise ConfigError(f"{role}={told!r}: {why}")
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
    spaces = spaces_of(study)
    if not spaces:
        return ""
    missing = [f"{role}=" for role, found in ((BATCH_SIZE, names.batch_size), (LR, names.lr)) if found is None]
    what = {BATCH_SIZE: "the batch size", LR: "the learning rate"}
    unknown = in_words([what[name.removesuffix("=")] for name in missing], last="or")
    noted = whole_study(study).user_attrs.get(NAMES_KEY) or {}
    likely = [str(noted.get(name.removesuffix("="), name.removesuffix("="))) for name in missing]
    reasons = [why for name in likely if name in spaces and (why := unreadable(name, spaces[name]))]
    if not reasons and spaces.keys() <= {names.batch_size, names.lr}:
        return f"The study doesn't search {unknown}: its only parameter is {in_words(spaces)}."
    remedy = f"Say it with {in_words([f'{name}NAME' for name in missing])} (--batch-size-name, --lr-name)."
    found = f"Which parameter is {unknown} isn't known: the study has {in_words(sorted(spaces))}."
    return " ".join([found, *reasons, remedy])


def spaces_of(study: optuna.Study) -> dict[str, BaseDistribution]:
    """Return every parameter that a trial of the study has, with its last range."""
    found: dict[str, BaseDistribution] = {}
    for trial in study.get_trials(deepcopy=False):
        found.update(trial.distributions)
    return found


def as_number(value: object) -> float | None:
    """Return a finite number, or one's text, as a number; None for anything else.

    >>> as_number(16), as_number("16"), as_number("small"), as_number(True)
    (16.0, 16.0, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def exponent_base(name: str, distribution: BaseDistribution | None = None) -> float | None:
    """Return 2 or 10 where a parameter's values are logarithms to that base, as its name says; None where they aren't.

    >>> exponent_base("log2_batch_size"), exponent_base("log10_lr", FloatDistribution(-4, 0)), exponent_base("lr")
    (2.0, 10.0, None)

    Args:
        name: The parameter's.
        distribution: Its range. One on a log scale, or beyond what a logarithm can be, holds the values themselves.
    """
    found = _LOGARITHM.search(_last(name))
    if found is None or found[1]:
        return None
    if distribution is not None:
        values = _values(distribution)
        if getattr(distribution, "log", False) or values is None or max(map(abs, values)) > LARGEST_EXPONENT:
            return None
    return float(found[2])


def natural_value(value: object, name: str | None, distribution: BaseDistribution | None = None) -> float | None:
    """Return the batch size or learning rate that a parameter's value stands for; None where it isn't a number.

    >>> natural_value(5, "log2_batch_size"), natural_value("32", "batch_size"), natural_value(-2, "log10_lr")
    (32.0, 32, 0.01)
    """
    number = as_number(value)
    if number is None:
        return None
    base = None if name is None else exponent_base(name, distribution)
    if base is not None and abs(number) <= LARGEST_EXPONENT:
        return float(base**number)
    if isinstance(value, (int, float)):
        return value
    return int(number) if number.is_integer() else number


def natural_log2(trial: FrozenTrial, name: str) -> float:
    """Return log2 of a trial's batch size or learning rate; NaN where it has none above 0."""
    value = natural_value(trial.params.get(name), name, trial.distributions.get(name))
    return math.log2(value) if value is not None and value > 0 else math.nan


def natural_range(name: str, distribution: BaseDistribution) -> list[float]:
    """Return the ends of a parameter's range, or its choices, as batch sizes or learning rates; those above 0 only."""
    found = [natural_value(value, name, distribution) for value in _values(distribution) or ()]
    return [float(value) for value in found if value is not None and value > 0]


def natural_choices(name: str, distribution: BaseDistribution) -> tuple[float, ...]:
    """Return every batch size or learning rate above 0 that a parameter can stand for.

    Empty for a continuous one, and for any whole number of a range.

    >>> natural_choices("log10_lr", CategoricalDistribution([-3, -2])), natural_choices("lr", FloatDistribution(0, 1))
    ((0.001, 0.01), ())
    >>> natural_choices("log2_batch_size", IntDistribution(4, 6)), natural_choices("batch_size", IntDistribution(4, 6))
    ((16.0, 32.0, 64.0), ())
    """
    is_any = isinstance(distribution, IntDistribution) and distribution.step == 1
    if is_any and exponent_base(name, distribution) is None:
        return ()
    found = [natural_value(value, name, distribution) for value in _choices(distribution)]
    return tuple(float(value) for value in found if value is not None and value > 0)


def parameter_value(natural: float, name: str, distribution: BaseDistribution | None = None) -> Any:
    """Return what a parameter is set to for a batch size or learning rate: the nearest in ratio that it can take.

    >>> parameter_value(16, "batch_size", CategoricalDistribution(["16", "32"])), parameter_value(32, "log2_batch_size")
    ('16', 5.0)
    """
    known = {value: natural_value(value, name, distribution) for value in _choices(distribution)}
    choices = {value: size_or_rate for value, size_or_rate in known.items() if size_or_rate and size_or_rate > 0}
    if choices:
        return min(choices, key=lambda value: abs(math.log(choices[value] / natural)))
    base = exponent_base(name, distribution)
    return round(math.log(natural, base), 4) if base else natural


def unreadable(name: str, distribution: BaseDistribution) -> str:
    """Return why a parameter can't be read as a batch size or learning rate, and what to do; empty where it can.

    >>> unreadable("neg_log_lr", FloatDistribution(0, 4)).partition(":")[0]
    "neg_log_lr holds a logarithm by its name, and which isn't clear"
    """
    values = _values(distribution)
    if values is None:
        return f"{name} has choices that aren't numbers: suggest the numbers themselves."
    remedy = "suggest the value itself with log=True, or its logarithm under a name that says log10 or log2."
    if exponent_base(name, distribution) is not None:
        return ""
    if not getattr(distribution, "log", False) and _UNCLEAR.search(_last(name)):
        return f"{name} holds a logarithm by its name, and which isn't clear: {remedy}"
    if min(values) < 0 or max(values) <= 0:
        return f"{name} reaches {min(values):g}, and only values above 0 can be read: {remedy}"
    return ""


def _values(distribution: BaseDistribution) -> list[float] | None:
    """Return the ends of a range or the choices as numbers; None where one isn't a number."""
    found: list[float | None] = []
    if isinstance(distribution, CategoricalDistribution):
        found = [as_number(choice) for choice in distribution.choices]
    elif isinstance(distribution, (IntDistribution, FloatDistribution)):
        found = [float(distribution.low), float(distribution.high)]
    numbers = [value for value in found if value is not None]
    return numbers if numbers and len(numbers) == len(found) else None


def _choices(distribution: BaseDistribution | None) -> Sequence[Any]:
    """Return the values that a parameter can take; nothing where they are too many to tell apart."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    if not isinstance(distribution, (IntDistribution, FloatDistribution)) or distribution.step is None:
        return ()
    low, step = distribution.low, distribution.step
    count = round((distribution.high - low) / step) + 1
    return [round(low + i * step, 12) for i in range(count)] if count <= MOST_CHOICES else ()


def _last(name: str) -> str:
    """Return a name's last part in small letters: "model.log10_LR" is "log10_lr"."""
    return re.split(r"[./]", name)[-1].lower()


def _find(role: str, spaces: _Spaces, noted: Mapping[str, Any]) -> str | None:
    likely = str(noted.get(role, role))
    if role in noted or role in spaces or not spaces:
        return None if likely in spaces and unreadable(likely, spaces[likely]) else likely
    usual = [name for name, space in spaces.items() if _short(name) in _USUAL[role] and not unreadable(name, space)]
    return usual[0] if len(usual) == 1 else None


def _short(name: str) -> str:
    """Return a name's last part in small letters: "model.learning_rate" is "learningrate"."""
    return re.sub(r"[^a-z0-9]", "", _last(name))
