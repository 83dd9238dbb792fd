"""Energy counters of the machine: NVIDIA GPUs through NVML, Intel and AMD processors through RAPL."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

__all__ = ["RAPL_ROOT", "EnergyMeter"]

RAPL_ROOT = Path("/sys/class/powercap")


@dataclass(frozen=True, slots=True)
class _Counter:
    path: Path
    wraps_at: int  # microjoules


class EnergyMeter:
    """Measures the energy used since it was made, in joules, where the machine has a counter.

    On a CUDA device it reads the GPU's total energy counter (NVML, Volta and newer; needs the package nvidia-ml-py),
    which leaves the processor out. Elsewhere it reads the RAPL counters of the processor packages, which count
    everything that runs on them and which often only root may read.

    Args:
        device: The device that trains.
        rapl_root: Where Linux shows its powercap counters.
    """

    def __init__(self, device: torch.device, *, rapl_root: Path = RAPL_ROOT) -> None:
        self._nvml: Any = _nvml_handle(device) if device.type == "cuda" else None
        self._rapl = _rapl_counters(rapl_root) if device.type != "cuda" else []
        self._last = self._read()
        self._joules = 0.0

    @property
    def source(self) -> str | None:
        """Return "nvml", "rapl", or None where the machine has no counter that may be read."""
        if self._nvml is not None:
            return "nvml"
        return "rapl" if self._rapl else None

    def joules(self) -> float | None:
        """Return the energy since the meter was made, or None without a counter.

        RAPL counters wrap around, after about an hour at full load: call this more often than that.
        """
        if self.source is None:
            return None
        now = self._read()
        wraps = [1e-6 * counter.wraps_at for counter in self._rapl] or [0.0]
        steps = zip(now, self._last, wraps, strict=True)
        self._joules += sum(new - old if new >= old else new - old + wrap for new, old, wrap in steps)
        self._last = now
        return self._joules

    def _read(self) -> list[float]:
        if self._nvml is not None:
            library, handle = self._nvml
            return [1e-3 * library.nvmlDeviceGetTotalEnergyConsumption(handle)]
        return [1e-6 * int(counter.path.read_text()) for counter in self._rapl]


def _nvml_handle(device: torch.device) -> tuple[Any, Any] | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except (pynvml.NVMLError, AttributeError):  # no driver, no counter, or a torch that knows no uuid
        return None
    return pynvml, handle


def _rapl_counters(root: Path) -> list[_Counter]:
    counters = []
    for package in sorted(root.glob("intel-rapl:[0-9]")):  # packages; their parts are intel-rapl:0:1 and so on
        try:
            wraps_at = int((package / "max_energy_range_uj").read_text())
            int((package / "energy_uj").read_text())
        except (OSError, ValueError):
            continue
        counters.append(_Counter(path=package / "energy_uj", wraps_at=wraps_at))
    return counters
