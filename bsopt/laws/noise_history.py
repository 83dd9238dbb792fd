"""The noise scale of a run as it goes: recent measurements averaged, and all of them in stretches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bsopt.laws.noise_scale import (
    NoiseMeasurement,
    NoiseMoments,
    NoiseScale,
    NoiseTrend,
    estimate_noise_scale,
    estimate_trend,
)
from bsopt.serialization import from_plain, to_plain

__all__ = ["NoiseHistory", "NoisePoint"]

_MAX_STRETCHES = 32


@dataclass(frozen=True, slots=True)
class NoisePoint:
    """The noise scale over one stretch of the run.

    Attributes:
        samples_seen: At the end of the stretch.
        noise_scale: Over the stretch alone.
    """

    samples_seen: int
    noise_scale: NoiseScale


@dataclass(frozen=True, slots=True)
class _Stretch:
    samples_seen: int
    moments: NoiseMoments


class NoiseHistory:
    """Collects measurements; memory doesn't grow with the run, since full stretches are joined in pairs.

    Args:
        decay: Weight of a measurement against the next one, in (0, 1].
        confidence: Of the intervals, in (0, 1).
    """

    def __init__(self, *, decay: float, confidence: float) -> None:
        self._decay = decay
        self._confidence = confidence
        self._moments = NoiseMoments()
        self._stretches: list[_Stretch] = []
        self._stretch_length = 1
        self._num_skipped = 0

    @property
    def estimate(self) -> NoiseScale | None:
        """The noise scale now, or None before the first measurement."""
        return estimate_noise_scale(self._moments, confidence=self._confidence)

    @property
    def trend(self) -> NoiseTrend | None:
        """The noise scale's growth from the first to the second half of the run, or None below two measurements."""
        return estimate_trend([stretch.moments for stretch in self._stretches])

    @property
    def points(self) -> tuple[NoisePoint, ...]:
        """The noise scale over up to 32 stretches of the run, each from its own measurements."""
        estimates = ((s, estimate_noise_scale(s.moments, confidence=self._confidence)) for s in self._stretches)
        return tuple(NoisePoint(s.samples_seen, noise) for s, noise in estimates if noise is not None)

    @property
    def num_skipped(self) -> int:
        """Measurements left out because a gradient wasn't finite."""
        return self._num_skipped

    def add(self, measurement: NoiseMeasurement, *, samples_seen: int) -> None:
        """Add one measurement, made after so many samples; one that isn't finite is only counted."""
        if not measurement.is_finite:
            self._num_skipped += 1
            return
        self._moments = self._moments.add(measurement, decay=self._decay)
        last = self._stretches[-1].moments if self._stretches else None
        if last is None or last.num_measurements >= self._stretch_length:
            self._make_room()
            last = NoiseMoments()
        else:
            self._stretches.pop()
        self._stretches.append(_Stretch(samples_seen, last.add(measurement)))

    def state(self) -> dict[str, Any]:
        """Return what was collected as plain data."""
        return {
            "moments": to_plain(self._moments),
            "stretches": to_plain(self._stretches),
            "stretch_length": self._stretch_length,
            "num_skipped": self._num_skipped,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        self._moments = from_plain(NoiseMoments, state["moments"])
        self._stretches = [from_plain(_Stretch, stretch) for stretch in state["stretches"]]
        self._stretch_length = state["stretch_length"]
        self._num_skipped = state["num_skipped"]

    def _make_room(self) -> None:
        """Join the stretches in pairs where there are as many as may be."""
        if len(self._stretches) < _MAX_STRETCHES:
            return
        pairs = zip(self._stretches[::2], self._stretches[1::2], strict=True)
        self._stretches = [_Stretch(b.samples_seen, a.moments.merge(b.moments)) for a, b in pairs]
        self._stretch_length *= 2
