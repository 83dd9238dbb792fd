r"""How the learning rate (and its companions) should move with the global batch size.

Notation, as in the formulas below:

    B       global batch size, samples per optimizer update
    B0, lr0 the reference: a batch size and the learning rate known to be good there
    B_n     noise batch size, samples: where the saturating and surge laws bend
    k       B / B0

Every rule passes through the reference: `scaled_learning_rate(B0, ...) == lr0`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bsopt.errors import ConfigError, nearest

__all__ = [
    "HIGHER_LR_FACTOR",
    "RULES",
    "AdamCompanions",
    "Reference",
    "Rule",
    "check_optimizer",
    "default_reference",
    "default_rule",
    "horizon_octaves",
    "is_known_optimizer",
    "log2_scaling",
    "scaled_adam",
    "scaled_learning_rate",
    "scaled_momentum",
    "scaled_weight_decay",
    "warmup_factor",
]

Rule: TypeAlias = str | Callable[[float], float]
"""A rule's name (one of `RULES`), or a function from k = B / B0 to the factor on the learning rate."""

RULES = ("linear", "sqrt", "saturating", "power", "surge", "none")

DEFAULT_NOISE_BATCH_SIZE = 512.0
"""Samples; the geometric middle of the published noise scales of small vision and language tasks (2^9)."""

HIGHER_LR_FACTOR = 8.0
"""The one higher learning rate of a designed experiment over the reference's (Chang & Pathak 2020)."""

OPTIMIZERS = (
    *("sgd", "sgdw", "sgdp", "momentum", "nesterov", "asgd", "lars", "muon"),
    *("adam", "adamw", "nadam", "nadamw", "radam", "adamax", "adamp", "adabelief", "adadelta", "adagrad", "adafactor"),
    *("rmsprop", "lion", "lamb", "signsgd", "sophia", "shampoo"),
)
"""Names of optimizers; a longer name that has one of them in it counts as known, too: `FusedAdam`, `adamw_8bit`."""

_ADAPTIVE = ("adam", "adamw", "nadam", "radam", "adamax", "adagrad", "rmsprop", "adafactor", "lion", "lamb", "sign")


@dataclass(frozen=True, slots=True)
class Reference:
    """A global batch size, in samples, and the learning rate that is good there.

    Attributes:
        sd: Octaves by which the best rate may lie off it, as a standard deviation; None where nobody measured that.
    """

    batch_size: int
    lr: float
    sd: float | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"reference batch_size must be at least 1, got {self.batch_size}.")
        if not (np.isfinite(self.lr) and self.lr > 0):
            raise ConfigError(f"reference lr must be a positive number, got {self.lr}.")
        if self.sd is not None and not (np.isfinite(self.sd) and self.sd > 0):
            raise ConfigError(f"reference sd must be a positive number of octaves, got {self.sd}.")


@dataclass(frozen=True, slots=True)
class AdamCompanions:
    """Adam's other constants at the new batch size."""

    beta1: float
    beta2: float
    eps: float


def check_optimizer(optimizer: str) -> str:
    """Return the optimizer's name.

    Raises:
        ConfigError: It is neither one of `OPTIMIZERS` nor a longer name with one in it.

    >>> check_optimizer("torch.optim.AdamW"), check_optimizer("adam_8bit")
    ('torch.optim.AdamW', 'adam_8bit')
    """
    if is_known_optimizer(optimizer):
        return optimizer
    name = _short_name(optimizer)
    raise ConfigError(
        f"unknown optimizer {optimizer!r}; known are {', '.join(OPTIMIZERS)}.{nearest(name, OPTIMIZERS)} "
        "For another one give both a rule and a reference."
    )


def is_known_optimizer(optimizer: str) -> bool:
    """Return whether a name is one of `OPTIMIZERS` or a longer one with one of them in it."""
    name = _short_name(optimizer)
    return name in OPTIMIZERS or any(known in name and len(name) >= len(known) + 2 for known in OPTIMIZERS)


def _short_name(optimizer: str) -> str:
    return str(optimizer).rsplit(".", 1)[-1].lower()


def default_rule(optimizer: str) -> str:
    """Return the rule that suits an optimizer by its name: "sqrt" for adaptive methods, else "linear".

    Sources: Goyal et al. 2017 (SGD, linear); Malladi et al. 2022 (Adam and RMSprop, square root).
    """
    return "sqrt" if _is_adaptive(optimizer) else "linear"


def default_reference(
    optimizer: str, *, num_steps: float | None = None, decays_to_end: bool | None = None
) -> Reference:
    """Return a published default for an optimizer that is known by its name only, moved to a training's length.

    SGD with momentum 0.9: lr 0.1 at 128 samples (He et al. 2016, ResNet on CIFAR-10, section 4.2; 64,000 steps with a
    decaying rate). Adaptive methods: lr 0.001 at 32 samples, the default of PyTorch and Keras at their users' default
    batch size, taken to be for 3,000 steps at a constant rate.

    The best learning rate falls with the number of steps T, measured on 58 small tasks as T^−0.4 where the rate is
    constant and T^−0.13 where it decays to the end; both meet at 60 steps.

    Args:
        optimizer: Its name.
        num_steps: Updates of one full training at the reference's batch size; the default as published where None.
        decays_to_end: Whether the learning rate decays until the last step; None where nobody knows, which counts as
            yes, the smaller change.
    """
    is_adaptive = _is_adaptive(optimizer)
    reference = Reference(32, 1e-3) if is_adaptive else Reference(128, 0.1)
    if num_steps is None:
        return reference
    published = (
        horizon_octaves(3_000, decays_to_end=False) if is_adaptive else horizon_octaves(64_000, decays_to_end=True)
    )
    octaves = published - horizon_octaves(max(num_steps, 1.0), decays_to_end=decays_to_end is not False)
    return Reference(reference.batch_size, reference.lr * 2.0**octaves)


def horizon_octaves(num_steps: float, *, decays_to_end: bool) -> float:
    """Return by how many octaves the best learning rate is below that of a training of 60 steps.

    >>> horizon_octaves(60, decays_to_end=True), round(horizon_octaves(960, decays_to_end=False), 2)
    (0.0, 1.6)
    """
    return (0.13 if decays_to_end else 0.4) * float(np.log2(num_steps / 60.0))


@overload
def scaled_learning_rate(
    global_batch_size: float,
    *,
    reference: Reference,
    rule: Rule = ...,
    noise_batch_size: float | None = ...,
    exponent: float = ...,
) -> float: ...
@overload
def scaled_learning_rate(
    global_batch_size: ArrayLike,
    *,
    reference: Reference,
    rule: Rule = ...,
    noise_batch_size: float | None = ...,
    exponent: float = ...,
) -> NDArray[np.float64]: ...
def scaled_learning_rate(
    global_batch_size: ArrayLike,
    *,
    reference: Reference,
    rule: Rule = "linear",
    noise_batch_size: float | None = None,
    exponent: float = 0.5,
) -> float | NDArray[np.float64]:
    """Return the learning rate for a global batch size by a scaling rule through the reference.

    - `linear`: lr0·k (Goyal et al. 2017, arXiv 1706.02677).
    - `sqrt`: lr0·√k (Krizhevsky 2014; Malladi et al. 2022 for Adam).
    - `power`: lr0·k^exponent.
    - `saturating`: η_max / (1 + B_n/B) (McCandlish et al. 2018, arXiv 1812.06162, eq. 2.6).
    - `surge`: η_max / [½(√(B_n/B) + √(B/B_n))] (Li et al. 2024, arXiv 2405.14578), peak at B = B_n.
    - `none`: lr0.

    Args:
        global_batch_size: B in samples, a number or an array of any shape.
        reference: The point every rule passes through.
        rule: A name, or a function from k to the factor on lr0.
        noise_batch_size: B_n in samples for `saturating` and `surge`; 512 where it is None.
        exponent: For `power`.

    Returns:
        Learning rates of the same shape, a float for a number.

    Raises:
        ConfigError: An unknown rule, or a batch size below or equal to zero.

    >>> scaled_learning_rate(8192, reference=Reference(256, 0.1), rule="linear")
    3.2
    >>> scaled_learning_rate(128, reference=Reference(32, 0.01), rule="sqrt")
    0.02
    """
    B = np.asarray(global_batch_size, dtype=float)
    if np.any(~(B > 0)):
        raise ConfigError(f"global_batch_size must be positive, got {global_batch_size!r}.")
    B_n = DEFAULT_NOISE_BATCH_SIZE if noise_batch_size is None else float(noise_batch_size)
    lr = reference.lr * _factor(B, float(reference.batch_size), rule=rule, B_n=B_n, exponent=exponent)
    return float(lr) if lr.ndim == 0 else lr


def log2_scaling(
    log2_ratio: NDArray[np.float64],
    *,
    knee: NDArray[np.float64],
    exponent: NDArray[np.float64],
    shape: str | Callable[[float], float] = "saturating",
) -> NDArray[np.float64]:
    """Return the octaves that the best learning rate moves between B0 and B, for whole arrays of rules at once.

    - `saturating`: exponent·log2[(1 + B_n/B0)/(1 + B_n/B)], slope `exponent` below the knee and 0 above it
      (McCandlish et al. 2018, arXiv 1812.06162, eq. 2.6 and, with an exponent below 1, for Adam).
    - `surge`: exponent·log2 of the surge rule's factor at B_n (Li et al. 2024, arXiv 2405.14578); its slope below
      the knee is half the exponent.
    - a function from k = B/B0 to the factor: its octaves, tilted by exponent·log2 k.

    Args:
        log2_ratio: log2(B/B0), broadcast against the others.
        knee: log2(B_n/B0).
        exponent: See above.
        shape: `saturating`, `surge` or a function.

    >>> round(float(log2_scaling(np.array(3.0), knee=np.array(40.0), exponent=np.array(1.0))), 6)
    3.0
    """
    if callable(shape):
        fixed = np.log2(np.vectorize(shape, otypes=[float])(2.0**log2_ratio))
        return np.asarray(fixed + exponent * log2_ratio)
    if shape == "surge":
        at_reference, at_b = (
            np.logaddexp2(knee / 2, -knee / 2),
            np.logaddexp2((knee - log2_ratio) / 2, (log2_ratio - knee) / 2),
        )
        return np.asarray(exponent * (at_reference - at_b))
    return np.asarray(exponent * (np.logaddexp2(0.0, knee) - np.logaddexp2(0.0, knee - log2_ratio)))


def scaled_adam(
    global_batch_size: float,
    *,
    reference_batch_size: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> AdamCompanions:
    """Return Adam's betas and eps that keep its noise when the batch size changes.

    With κ = B/B0: 1−β → κ(1−β) and ε → ε/√κ (Malladi et al. 2022, arXiv 2205.10287, def. 4.1). Where
    κ(1−β) would exceed ½ the half-life in samples is kept instead, β' = β^κ (Marek et al. 2025), which
    agrees with it to first order and never leaves [0, 1).
    """
    kappa = global_batch_size / reference_batch_size

    def scaled(beta: float) -> float:
        rest = kappa * (1.0 - beta)
        return 1.0 - rest if rest <= 0.5 else float(beta**kappa)

    return AdamCompanions(beta1=scaled(beta1), beta2=scaled(beta2), eps=eps / float(np.sqrt(kappa)))


def scaled_weight_decay(weight_decay: float, *, batch_size_ratio: float, lr_ratio: float) -> float:
    """Return the decoupled weight decay λ that keeps its timescale in epochs, B/(η·λ·N).

    λ ∝ B/η, so λ' = λ · (B'/B) / (η'/η) (Wang & Aitchison 2024, arXiv 2405.13698).

    >>> scaled_weight_decay(0.01, batch_size_ratio=4, lr_ratio=2)
    0.02
    """
    return weight_decay * batch_size_ratio / lr_ratio


def scaled_momentum(momentum: float, *, batch_size_ratio: float) -> float:
    """Return the momentum whose memory is as long in samples: m' = m^(B'/B), as for Adam's β (Marek et al. 2025).

    >>> round(scaled_momentum(0.9, batch_size_ratio=2), 2)
    0.81
    """
    return float(momentum**batch_size_ratio)


def warmup_factor(samples_seen: float, *, warmup_samples: float, start: float) -> float:
    """Return the factor on the target learning rate during gradual warm-up.

    Linear from `start` (base over target, 1/k under the linear rule) to 1 over `warmup_samples`
    (Goyal et al. 2017, section 2.2); 1 afterwards.

    >>> warmup_factor(50, warmup_samples=100, start=0.0)
    0.5
    """
    if warmup_samples <= 0 or samples_seen >= warmup_samples:
        return 1.0
    return start + (1.0 - start) * samples_seen / warmup_samples


def _factor(B: NDArray[np.float64], B0: float, *, rule: Rule, B_n: float, exponent: float) -> NDArray[np.float64]:
    k = B / B0
    if callable(rule):
        return np.asarray(np.vectorize(rule, otypes=[float])(k), dtype=float)
    if rule == "linear":
        return k
    if rule == "sqrt":
        return np.sqrt(k)
    if rule == "power":
        return np.asarray(k**exponent, dtype=float)
    if rule == "saturating":
        return (1.0 + B_n / B0) / (1.0 + B_n / B)
    if rule == "surge":
        return np.asarray((np.sqrt(B_n / B0) + np.sqrt(B0 / B_n)) / (np.sqrt(B_n / B) + np.sqrt(B / B_n)))
    if rule == "none":
        return np.ones_like(k)
    raise ConfigError(
        f"unknown scaling rule {rule!r}; allowed are {', '.join(RULES)} or a function." + nearest(str(rule), RULES)
    )


def _is_adaptive(optimizer: str) -> bool:
    name = optimizer.lower()
    return any(part in name for part in _ADAPTIVE)
