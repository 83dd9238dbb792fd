"""Energy by counters that the test reads out: NVML through a stand-in for its library, RAPL through files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bsopt.callbacks import ThroughputMonitor
from bsopt.callbacks._energy import EnergyMeter

UUID = "8932f937-d72c-4106-c12f-20bd9faed9f6"
CUDA = torch.device("cuda", 0)


class NVMLError(Exception):
    """What every call of the library raises."""


class FakeNvml:
    """The calls of `pynvml` that the meter makes, answered with recorded readings, in millijoules."""

    NVMLError = NVMLError

    def __init__(self, readings: list[int], *, fails_at: str = "") -> None:
        self._readings = iter(readings)
        self._fails_at = fails_at
        self.asked: list[str] = []

    def nvmlInit(self) -> None:  # noqa: N802
        self._called("nvmlInit")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        self._called("nvmlDeviceGetHandleByUUID")
        return f"handle of {uuid}"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        self._called("nvmlDeviceGetTotalEnergyConsumption")
        assert handle == f"handle of GPU-{UUID}"
        return next(self._readings)

    def _called(self, name: str) -> None:
        self.asked.append(name)
        if name == self._fails_at:
            raise NVMLError("Not Supported")


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeNvml]:
    """Put a stand-in for the library in its place."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=UUID))

    def install(readings: list[int], **arguments: Any) -> FakeNvml:
        library = FakeNvml(readings, **arguments)
        monkeypatch.setitem(sys.modules, "pynvml", library)
        return library

    return install


# Made up in the shape of a GPU of 300 W, read every 100 ms. The first is read to see whether there is a counter.
READINGS = [823_411_020, 823_411_020, 823_440_911, 823_471_200, 823_471_200]


def test_energy_of_a_gpu_is_its_counter_since_the_meter_was_made(nvml: Callable[..., FakeNvml]) -> None:
    nvml(READINGS)
    meter = EnergyMeter(CUDA)
    assert meter.source == "nvml"
    assert meter.joules() == pytest.approx(29.891)
    assert meter.joules() == pytest.approx(60.180)
    assert meter.joules() == pytest.approx(60.180)  # the counter moves about ten times a second


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetTotalEnergyConsumption"])
def test_a_driver_without_the_counter_measures_nothing(nvml: Callable[..., FakeNvml], call: str) -> None:
    library = nvml(READINGS, fails_at=call)
    meter = EnergyMeter(CUDA)
    assert (meter.source, meter.joules()) == (None, None)
    assert library.asked[-1] == call


def test_a_torch_that_knows_no_uuid_measures_nothing(
    nvml: Callable[..., FakeNvml], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml(READINGS)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace())
    assert EnergyMeter(CUDA).source is None


def test_without_the_library_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert EnergyMeter(CUDA).source is None


def test_a_gpu_is_not_given_the_processors_energy(nvml: Callable[..., FakeNvml], tmp_path: Path) -> None:
    nvml(READINGS, fails_at="nvmlInit")
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "max_energy_range_uj").write_text("1000")
    (package / "energy_uj").write_text("1")
    assert EnergyMeter(CUDA, rapl_root=tmp_path).source is None
    assert EnergyMeter(torch.device("cpu"), rapl_root=tmp_path).source == "rapl"


def test_a_counter_that_may_not_be_read_is_left_out(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"intel-rapl:{number}").mkdir()
        (tmp_path / f"intel-rapl:{number}" / "max_energy_range_uj").write_text("1000000")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("250000")
    meter = EnergyMeter(torch.device("cpu"), rapl_root=tmp_path)
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("750000")
    assert meter.joules() == pytest.approx(0.5)


class _Rank:
    """A Trainer as far as reading counters goes: one of two ranks, the other with counters of its own."""

    def __init__(self, local_rank: int, others: dict[str, float]) -> None:
        self.world_size, self.local_rank = 2, local_rank
        self._others = others
        self.strategy = SimpleNamespace(root_device=torch.device("cpu"), reduce=self._reduce)

    def _reduce(self, values: torch.Tensor, reduce_op: str) -> torch.Tensor:
        other = torch.tensor([self._others[reduce_op]], dtype=values.dtype)
        return torch.maximum(values, other) if reduce_op == "max" else values + other


@pytest.fixture
def rapl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count a hundred joules at each reading."""

    class Meter:
        source = "rapl"

        def __init__(self, device: torch.device) -> None:
            self._read = 0

        def joules(self) -> float:
            self._read += 1
            return 100.0 * self._read

    monkeypatch.setattr("bsopt.callbacks.throughput_monitor.EnergyMeter", Meter)


@pytest.mark.parametrize(("local_rank", "joules"), [(0, 100.0), (1, 0.0)])
def test_ranks_that_share_the_processors_count_their_energy_once(rapl: None, local_rank: int, joules: float) -> None:
    monitor = ThroughputMonitor()
    trainer: Any = _Rank(local_rank, {"max": 5e12, "sum": 7.0})
    monitor.on_train_start(trainer, None)  # type: ignore[arg-type]
    used = monitor._read_counters(trainer)
    assert used.energy_joules == joules + 7.0
    assert used.peak_memory_bytes == 5e12
