"""Memory and throughput, measured on a network whose memory is its activations."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bsopt.config import LoadedConfig, validate_config
from bsopt.errors import ConfigError, InjectionError, TaskError
from bsopt.serialization import from_plain, to_plain
from bsopt.study.study import Study, load_study
from bsopt.study.task_runner import TaskRunner
from bsopt.training.probe.probe import ProbeResult, ProbeRow, probe
from bsopt.training.processes.crash import Crash
from bsopt.training.processes.launcher import has_processes
from bsopt.trial.plan import realise
from bsopt.trial.spec import TrialSpec

MIB = 2**20

# A sample's activations are 20 MiB, in small pieces: how malloc treats large ones depends on what came before.
WIDE = """
    import torch
    import pytorch_lightning as pl
    from torch.utils.data import DataLoader, TensorDataset

    class Wide(pl.LightningModule):
        def __init__(self, lr: float = 0.1, by_hand: bool = False):
            super().__init__()
            self.lr = lr
            self.automatic_optimization = not by_hand
            self.scale = torch.nn.Parameter(torch.ones(1, 2**17))

        def loss(self, batch):
            hidden = batch[0] * self.scale
            for _ in range(40):
                hidden = torch.sigmoid(hidden)
            return (hidden.mean(1) - batch[1]).square().mean()

        def training_step(self, batch, index):
            loss = self.loss(batch)
            if not self.automatic_optimization:
                self.optimizers().zero_grad()
                self.manual_backward(loss)
                self.optimizers().step()
            return loss

        def validation_step(self, batch, index):
            self.log("val_loss", self.loss(batch), sync_dist=True)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    class Data(pl.LightningDataModule):
        def __init__(self, batch_size: int = 4):
            super().__init__()
            self.batch_size = batch_size

        def loader(self, length, seed):
            generator = torch.Generator().manual_seed(seed)
            x = torch.randn(length, 1, generator=generator)
            return DataLoader(TensorDataset(x, x[:, 0]), self.batch_size)

        def train_dataloader(self):
            return self.loader(64, 0)

        def val_dataloader(self):
            return self.loader(4, 1)
"""

needs_processes = pytest.mark.skipif(not has_processes(), reason="needs processes of its own")


class Machine:
    """Stands where the launcher does: runs micro-batches by a law of memory, without processes."""

    def __init__(self, peak: Callable[[int], float], *, dies_above: int = 10**9, capacity: int | None = None) -> None:
        self.ran: list[int] = []
        self._peak = peak
        self._dies_above = dies_above
        self._capacity = capacity

    def call(self, function: str, spec: TrialSpec, supervision: Any, **_: Any) -> ProbeRow:
        size = spec.plan.micro_batch_size
        self.ran.append(size)
        if size > self._dies_above:
            from bsopt.trial.record import StopReason

            raise Crash(StopReason.OUT_OF_MEMORY, "killed")
        seconds = 0.01 + 0.001 * size
        return ProbeRow(
            size,
            "ok",
            num_steps=5,
            seconds_per_step=seconds,
            peak_memory_bytes=int(self._peak(size)),
            capacity_bytes=self._capacity,
        )


def find(machine: Machine, spec: TrialSpec, **arguments: Any) -> ProbeResult:
    return probe(spec, machine, None, **{"smallest": 8, "largest": 1024, **arguments})  # type: ignore[arg-type]


def study_of(folder: Path, **changes: Any) -> LoadedConfig:
    (folder / "wide.py").write_text(textwrap.dedent(WIDE))
    config = {
        "name": "wide",
        "task": {"model": {"class_path": "wide.Wide"}, "data": {"class_path": "wide.Data"}},
        "search": {"batch_size": {"low": 1, "high": 8}, "lr": {"low": 1e-4, "high": 1e-2}},
        "budget": {"trials": 1, "epochs": 1},
        "limits": {"memory": "160 MiB"},
        "trainer": {"accelerator": "cpu"},
        "storage": f"sqlite:///{folder}/bsopt.db",
        "output": str(folder / "runs"),
        **changes,
    }
    return LoadedConfig(validate_config(config), folder / "study.yaml")


def test_everything_fits_after_a_climb_to_the_largest(spec: TrialSpec) -> None:
    machine = Machine(lambda b: (100 + b) * MIB)
    result = find(machine, spec, budget_bytes=4096 * MIB)
    assert machine.ran == [8, 32, 128, 512, 1024]
    assert (result.max_micro_batch_size, result.is_limited_by_memory) == (1024, False)


def test_limit_is_found_to_a_tenth_and_was_run(spec: TrialSpec) -> None:
    machine = Machine(lambda b: (100 + b) * MIB)
    result = find(machine, spec, budget_bytes=600 * MIB)
    true_limit = 600 * 0.95 - 100
    assert true_limit / 1.1 <= result.max_micro_batch_size <= true_limit
    assert result.max_micro_batch_size in machine.ran
    assert result.is_limited_by_memory
    assert result.memory.bytes_per_sample is not None
    assert result.memory.bytes_per_sample.value == pytest.approx(MIB, rel=0.01)
    assert f"At most {result.max_micro_batch_size} samples fit" in result.message


def test_only_powers_of_two_are_tried_where_only_they_are_of_use(spec: TrialSpec) -> None:
    machine = Machine(lambda b: (100 + b) * MIB)
    result = find(machine, spec, budget_bytes=600 * MIB, powers_of_two=True)
    assert result.max_micro_batch_size == 256
    assert all(size & (size - 1) == 0 for size in machine.ran)


def test_sizes_far_beyond_memory_are_not_run(spec: TrialSpec) -> None:
    machine = Machine(lambda b: (10 + b) * MIB)
    assert find(machine, spec, budget_bytes=60 * MIB).max_micro_batch_size in (45, 46, 47)
    assert max(machine.ran) < 60


def test_smaller_sizes_are_tried_where_the_smallest_is_too_large(spec: TrialSpec) -> None:
    result = find(Machine(lambda b: 40 * b * MIB), spec, budget_bytes=100 * MIB)
    assert result.max_micro_batch_size == 2


def test_nothing_fits_is_a_result_that_says_so(spec: TrialSpec) -> None:
    result = find(Machine(lambda b: (1000 + b) * MIB), spec, budget_bytes=100 * MIB)
    assert result.max_micro_batch_size == 0
    assert "1,001 MiB of 100 MiB" in result.message


def test_killed_processes_are_a_boundary_too(spec: TrialSpec) -> None:
    result = find(Machine(lambda b: (100 + b) * MIB, dies_above=300), spec)
    assert 300 / 1.1 <= result.max_micro_batch_size <= 300
    assert {row.status for row in result.rows} == {"ok", "out_of_memory"}


def test_device_with_less_than_the_budget_sets_the_limit(spec: TrialSpec) -> None:
    result = find(Machine(lambda b: (100 + b) * MIB, capacity=300 * MIB), spec, budget_bytes=900 * MIB)
    assert result.capacity_bytes == 300 * MIB
    assert result.max_micro_batch_size <= 185


def test_saturation_is_the_first_size_near_the_best_throughput(spec: TrialSpec) -> None:
    result = find(Machine(lambda b: b * MIB), spec)  # b / (0.01 + 0.001 b): 928/s at 128, 990/s at 1024
    assert result.saturates_at == 128
    assert result.step_time.predict(256).value == pytest.approx(0.266, rel=0.05)  # type: ignore[union-attr]


def test_result_survives_storage(spec: TrialSpec) -> None:
    result = find(Machine(lambda b: (100 + b) * MIB), spec, budget_bytes=600 * MIB)
    assert from_plain(ProbeResult, to_plain(result)) == result


def test_crash_that_has_nothing_to_do_with_memory_is_raised(spec: TrialSpec) -> None:
    from bsopt.trial.record import StopReason

    class Broken(Machine):
        def call(self, function: str, spec: TrialSpec, supervision: Any, **_: Any) -> ProbeRow:
            raise Crash(StopReason.FAILED, "ValueError: no data")

    with pytest.raises(Crash, match="no data"):
        find(Broken(float), spec)


@pytest.mark.slow
@needs_processes
def test_study_accumulates_where_memory_is_short_and_remembers_it(tmp_path: Path) -> None:
    loaded = study_of(tmp_path)
    study = Study.create(loaded)
    limit = study.info.max_micro_batch_size
    assert limit == 4  # 4 take about 125 MiB, 8 about 220
    plan = realise(8, study.task.limits())
    assert (plan.micro_batch_size, plan.accumulate_grad_batches) == (4, 2)
    assert plan.reason.startswith("memory allows")
    study.optuna.enqueue_trial({"batch_size": 8, "lr": 1e-3})
    summary = study.run()
    assert summary.num_complete == 1
    assert study.records[0].plan == plan

    logs = list((tmp_path / "runs" / "probe").glob("*/log.txt"))
    assert len(logs) > 1
    for log in logs:
        log.unlink()
    assert Study.create(loaded).info.max_micro_batch_size == limit
    assert not list((tmp_path / "runs" / "probe").glob("*/log.txt"))  # it isn't probed again
    assert load_study("wide", loaded.config.storage).task.limits() == study.task.limits()


@pytest.mark.slow
@needs_processes
def test_module_that_optimizes_by_hand_is_refused_where_memory_would_need_accumulation(tmp_path: Path) -> None:
    model = {"class_path": "wide.Wide", "init_args": {"by_hand": True}}
    task = {"model": model, "data": {"class_path": "wide.Data"}}
    with pytest.raises(ConfigError, match="optimizes by hand, where gradients can't be accumulated"):
        Study.create(study_of(tmp_path, task=task))


@pytest.mark.slow
@needs_processes
def test_model_that_never_fits_is_refused_with_its_need(tmp_path: Path) -> None:
    loaded = study_of(tmp_path, limits={"memory": "5 MiB"})
    with pytest.raises(TaskError, match=r"Not even 1 sample in one pass fit: that needs \d+ MiB of 5 MiB"):
        Study.create(loaded)


@pytest.mark.slow
@needs_processes
@pytest.mark.distributed
def test_two_ranks_are_probed_together(tmp_path: Path) -> None:
    trainer = {"accelerator": "cpu", "devices": 2}
    search = {"batch_size": {"low": 2, "high": 4}, "lr": {"low": 1e-4, "high": 1e-2}}
    loaded = study_of(tmp_path, trainer=trainer, search=search, limits={})
    result = TaskRunner(loaded.config, loaded.folder).probe()
    assert [(row.micro_batch_size, row.num_devices, row.status) for row in result.rows] == [(1, 2, "ok"), (2, 2, "ok")]
    peaks = [row.peak_memory_bytes or 0 for row in result.rows]
    assert peaks[1] - peaks[0] > 10 * MIB


@pytest.mark.slow
@needs_processes
def test_batch_size_that_does_not_arrive_is_found_out(tmp_path: Path) -> None:
    loaded = study_of(tmp_path)
    text = (tmp_path / "wide.py").read_text()
    (tmp_path / "wide.py").write_text(text.replace("x[:, 0]), self.batch_size)", "x[:, 0]), 3)"))
    with pytest.raises(InjectionError, match="asked for batch size 1, but the training loader has 3"):
        TaskRunner(loaded.config, loaded.folder).probe()


def test_probe_leaves_this_process_alone(spec: TrialSpec) -> None:
    import torch

    torch.manual_seed(5)
    before = torch.get_rng_state()
    find(Machine(lambda b: b * MIB), replace(spec))
    assert torch.equal(torch.get_rng_state(), before)
