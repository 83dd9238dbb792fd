r"""Step time on K devices: one device's law, the gradient all-reduce, and how far the two overlap.

Notation, as in the code below:

    K, n        ranks in all, and nodes
    c           seconds of one device's forward and backward pass (`step_time.StepTimeFit`)
    s(K)        seconds of a ring all-reduce:  V·2(K−1)/K + A·2(K−1);  V = gradient bytes/bandwidth, A latency per hop
    t           seconds of a step:  (c^γ + s^γ)^(1/γ), γ in [1, 10]: 1 no overlap, ∞ the longer of the two hides the
                other (Pollux, Qiao et al. 2021, arXiv 2008.12260, eq. 11)

Links inside a node and between nodes differ by an order of magnitude, so a placement over several nodes is never
predicted from measurements on one, unless the bandwidth is given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from bsopt.laws.estimate import Estimate, FitStatus, draw_from_grid, estimate_from_samples, shuffled_normals
from bsopt.laws.step_time import StepTimeFit
from bsopt.units import count_of

__all__ = ["CommunicationFit", "PlacementPoint", "fit_communication", "given_communication", "predict_update_seconds"]

Array = NDArray[np.float64]

_DRAWS = 199
_SCATTER, _SCATTER_LOG_SD = 0.08, 0.6  # of ln t between placements; published repeats differ by 5–10 %
_WITHIN = 0.5  # scatter within one placement, in units of that between placements
_GROWTH, _GROWTH_SD = -2.0, 1.5  # logit of the share of s that is latency and grows with K: about a tenth
_RATE_ERROR = 0.3  # sd of ln s where only a nominal bandwidth is known


@dataclass(frozen=True, slots=True)
class PlacementPoint:
    """A measured step: its micro-batch and placement, and one device's compute seconds where they were timed apart."""

    micro_batch_size: float
    num_devices: int
    num_nodes: int
    seconds: float
    compute_seconds: float | None = None

    @property
    def world_size(self) -> int:
        """Ranks: devices per node × nodes."""
        return self.num_devices * self.num_nodes


@dataclass(frozen=True, slots=True)
class CommunicationFit:
    """s(K) and its overlap with compute.

    Attributes:
        covers_one_node: Whether placements on one node with several devices are covered.
        covers_many_nodes: Whether placements over several nodes are.
        reference_world_size: K at which `draws` give s.
        draws: (ln s at the reference, share of it that grows with K, γ, scatter).
    """

    status: FitStatus
    message: str
    num_points: int
    covers_one_node: bool = False
    covers_many_nodes: bool = False
    reference_world_size: int = 2
    allreduce_seconds: Estimate | None = None
    gamma: Estimate | None = None
    draws: tuple[tuple[float, float, float, float], ...] = ()

    def covers(self, num_devices: int, num_nodes: int) -> bool:
        """Whether a placement can be predicted: one device always, else only over links that were measured."""
        if num_devices * num_nodes == 1:
            return True
        return self.covers_many_nodes if num_nodes > 1 else self.covers_one_node


def fit_communication(points: Iterable[PlacementPoint], *, step_time: StepTimeFit | None = None) -> CommunicationFit:
    """Fit the all-reduce and its overlap to measured placements of several devices.

    Args:
        points: Measured steps; those on one device tell nothing here and are left out.
        step_time: One device's law, for points without `compute_seconds`.

    Returns:
        The fit: `too_few` without a placement of several devices whose compute is known; `not_identified` with
        one world size, where growth with K rests on the ring's formula alone.
    """
    kept, compute = [], []
    for point in points:
        seconds = point.compute_seconds
        if seconds is None and step_time is not None:
            law = step_time.predict(point.micro_batch_size)
            seconds = law.value if law else None
        if point.world_size > 1 and seconds is not None and point.seconds > 0:
            kept.append(point)
            compute.append(seconds)
    if not kept:
        return CommunicationFit(
            FitStatus.TOO_FEW,
            "No step was measured on several devices, and no bandwidth was given: more devices can't be predicted.",
            0,
        )
    many = [p for p in kept if p.num_nodes > 1]
    used = many or kept  # links between nodes, once measured, are what more nodes will wait for
    index = [i for i, p in enumerate(kept) if not many or p.num_nodes > 1]
    K = np.array([p.world_size for p in used], dtype=float)
    reference = int(K.max())
    draws = _draws(np.log([p.seconds for p in used]), np.array(compute)[index], K, reference)
    log_s, _, gamma, _ = draws.T
    worlds = len(np.unique(K))
    status = FitStatus.OK if worlds > 1 else FitStatus.NOT_IDENTIFIED
    allreduce = estimate_from_samples(np.exp(log_s))
    message = (
        f"The all-reduce takes {allreduce.value:.3g} s over {reference} ranks, from {count_of(worlds, 'placement')}."
    )
    if worlds == 1:
        message += " How it grows with more is the ring's formula, not a measurement."
    return CommunicationFit(
        status,
        message,
        len(used),
        covers_one_node=any(p.num_nodes == 1 for p in kept),
        covers_many_nodes=bool(many),
        reference_world_size=reference,
        allreduce_seconds=allreduce,
        gamma=estimate_from_samples(gamma),
        draws=tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in draws),
    )


def given_communication(
    gradient_bytes: float, *, bandwidth_bytes_per_second: float, latency_seconds: float = 2e-5, many_nodes: bool = False
) -> CommunicationFit:
    """Return what a nominal bandwidth says: V = bytes/bandwidth, with a factor of e^±0.5 of uncertainty.

    The bandwidth is that of the slowest link of the ring; `many_nodes` says that it is the one between nodes.
    """
    volume = gradient_bytes / bandwidth_bytes_per_second
    seconds = volume + 2.0 * latency_seconds  # a ring of K = 2
    grid = (np.arange(_DRAWS) + 0.5) / _DRAWS
    log_s = np.log(seconds) + _RATE_ERROR * norm.ppf(grid)
    gamma = 1.0 + 3.0 * np.random.default_rng(0).permutation(grid)
    share = 2.0 * latency_seconds / seconds
    return CommunicationFit(
        FitStatus.NOT_IDENTIFIED,
        f"The all-reduce follows from a given bandwidth of {bandwidth_bytes_per_second / 1e9:.3g} GB/s; none was "
        "measured.",
        0,
        covers_one_node=True,
        covers_many_nodes=many_nodes,
        reference_world_size=2,
        allreduce_seconds=estimate_from_samples(np.exp(log_s)),
        gamma=estimate_from_samples(gamma),
        draws=tuple((float(a), share, float(g), _SCATTER) for a, g in zip(log_s, gamma, strict=True)),
    )


def predict_update_seconds(
    step_time: StepTimeFit,
    communication: CommunicationFit | None,
    *,
    micro_batch_size: int,
    accumulate_grad_batches: int = 1,
    num_devices: int = 1,
    num_nodes: int = 1,
    compute_seconds: float | None = None,
) -> Estimate | None:
    """Return the seconds of one optimizer update under a plan; only the last micro-batch waits for the all-reduce.

    None where the step time isn't fitted, or the placement's links were neither measured nor given.
    """
    compute = step_time.sample(micro_batch_size)
    if compute_seconds is not None:
        compute = np.full(_DRAWS, compute_seconds)
    if compute is None:
        return None
    world = num_devices * num_nodes
    if world == 1:
        return estimate_from_samples(accumulate_grad_batches * compute)
    if communication is None or not communication.draws or not communication.covers(num_devices, num_nodes):
        return None
    log_s, share, gamma, scatter = np.array(communication.draws).T
    order = np.random.default_rng(1).permutation(len(compute))[: len(log_s)]
    compute = compute[order]
    log_s = log_s + _log_growth(np.array(float(world)), share, float(communication.reference_world_size))
    last = np.exp(np.logaddexp(gamma * np.log(compute), gamma * log_s) / gamma)
    noise = shuffled_normals(len(last), seed=2)
    return estimate_from_samples(
        ((accumulate_grad_batches - 1) * compute + last) * np.exp(np.hypot(1.0, _WITHIN) * scatter * noise)
    )


# --- internals -------------------------------------------------------------------------------------------------


def _log_growth(K: Array, share: Array, reference: float) -> Array:
    """ln s(K)/s(reference), where `share` of s(reference) is latency that grows with K − 1."""
    ring = ((K - 1.0) / K) / ((reference - 1.0) / reference)
    hops = (K - 1.0) / (reference - 1.0)
    return np.asarray(np.log((1.0 - share) * ring + share * hops))


def _draws(log_seconds: Array, compute: Array, K: Array, reference: int) -> Array:
    """Posterior draws [_DRAWS, 4], as `CommunicationFit.draws`, on a grid over s, its growing share, γ and scatter."""
    log_s = np.linspace(np.log(np.exp(log_seconds).max()) - 4.0, np.log(np.exp(log_seconds).max()) + 0.5, 60)
    logit = np.linspace(-5.0, 3.0, 11)
    gamma = np.geomspace(1.0, 10.0, 8)
    steps = np.linspace(-2.0, 2.5, 8)
    scatter = _SCATTER * np.exp(_SCATTER_LOG_SD * steps)
    share = 1.0 / (1.0 + np.exp(-logit))
    s = log_s[:, None, None] + _log_growth(K[None], share[:, None], float(reference))[None]  # [s, share, n]
    g = gamma[:, None, None, None]
    law = np.logaddexp(g * np.log(compute), g * s[None]) / g  # [γ, s, share, n]
    residual = log_seconds - law
    square = np.zeros(residual.shape[:-1])
    for world in np.unique(K):  # the points of one placement share its error: Woodbury's identity per placement
        own, count = residual[..., world == K], int((world == K).sum())
        square += ((own**2).sum(-1) - own.sum(-1) ** 2 / (_WITHIN**2 + count)) / _WITHIN**2
    score = -0.5 * square[..., None] / scatter**2 - len(K) * np.log(scatter) - 0.5 * steps**2
    score = score - 0.5 * (((logit - _GROWTH) / _GROWTH_SD) ** 2)[None, None, :, None]
    i, j, k, m = draw_from_grid(score, _DRAWS)
    return np.column_stack([log_s[j], share[k], gamma[i], scatter[m]])
