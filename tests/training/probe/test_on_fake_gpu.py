"""The probe, running out of memory and what follows, exactly, on a GPU whose books the test can read."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_gpu import UNIT, FakeGpu, installed

from bsopt.callbacks.throughput_monitor import ThroughputMonitor
from bsopt.config import LoadedConfig, validate_config
from bsopt.errors import TaskError
from bsopt.laws.step_time import MEMORY_MARGIN
from bsopt.study.study import Study
from bsopt.training.device import device_name, free_gpu_bytes, give_back_memory, grown_bytes, is_out_of_memory
from bsopt.training.probe.measure import measure
from bsopt.training.probe.probe import ProbeResult, ProbeRow, probe
from bsopt.training.processes.launcher import run_here
from bsopt.training.processes.supervision import DirectChannel, Supervision
from bsopt.training.task.describe import describe_task
from bsopt.trial.plan import Plan
from bsopt.trial.record import StopReason
from bsopt.trial.spec import TaskSpec, TrialSpec
from bsopt.units import Amount

pytestmark = [
    pytest.mark.filterwarnings("ignore:GPU available but not used"),  # Lightning counts the device, too
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning", "ignore:.*does not have many workers"),
]

UNWATCHED = Supervision()
CHANNEL = DirectChannel(UNWATCHED)

# A sample takes an eighth of a unit on the device: 32 activations of 64 numbers that the backward pass needs.
DEEP = """
import torch
import pytorch_lightning as pl
from torch.utils.data import DataLoader, TensorDataset


class Deep(pl.LightningModule):
    def __init__(self, lr: float = 0.01, width: int = 64):
        super().__init__()
        self.lr = lr
        self.scale = torch.nn.Parameter(torch.ones(1, width))

    def loss(self, batch):
        hidden = batch[0] * self.scale
        for _ in range(31):
            hidden = torch.sigmoid(hidden)
        return (hidden.mean(1) - batch[1]).square().mean()

    def training_step(self, batch, index):
        return self.loss(batch)

    def validation_step(self, batch, index):
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Whole(TensorDataset):
    def __getitems__(self, indices):
        return [tensor[indices] for tensor in self.tensors]


class Data(pl.LightningDataModule):
    def __init__(self, batch_size: int = 4):
        super().__init__()
        self.batch_size = batch_size

    def loader(self, length):
        x = torch.linspace(0, 1, length)[:, None]
        return DataLoader(Whole(x, x[:, 0]), self.batch_size, collate_fn=list)

    def train_dataloader(self):
        return self.loader(4096)

    def val_dataloader(self):
        return self.loader(4)
"""


class InThisProcess:
    """Stands where the launcher does: measures here, with a clock that a step takes a tenth of a second of."""

    def call(self, function: str, spec: TrialSpec, supervision: Any, **_: Any) -> ProbeRow:
        now = itertools.count()
        row = measure(spec, CHANNEL, clock=lambda: 0.05 * next(now))
        give_back_memory()
        return row


@pytest.fixture
def deep(spec: TrialSpec, project: Path) -> TrialSpec:
    """Return a trial of the network whose memory is its activations."""
    (project / "deep.py").write_text(DEEP)
    source = {"model": {"class_path": "deep.Deep"}, "data": {"class_path": "deep.Data"}}
    return replace(spec, task=TaskSpec(source, (str(project),)))


@pytest.fixture
def gpu() -> Iterator[FakeGpu]:
    """Return a device of 200 units, of which other processes take 20."""
    gc.collect()
    gc.freeze()  # or each collection would look through all that was ever imported
    with installed(FakeGpu(200 * UNIT, others_bytes=20 * UNIT)) as device:
        yield device
    gc.unfreeze()


def find(spec: TrialSpec, **arguments: Any) -> ProbeResult:
    launcher: Any = InThisProcess()
    return probe(spec, launcher, UNWATCHED, **{"smallest": 4, "largest": 4096, **arguments})


def runs(spec: TrialSpec, size: int) -> bool:
    row = InThisProcess().call("", replace(spec, plan=Plan(size), batch_size=size), None)
    return row.status == "ok"


def largest_that_runs(spec: TrialSpec) -> int:
    """Return the true limit, by bisection."""
    good, bad = 1, 4096
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if runs(spec, middle) else (good, middle)
    return good


@pytest.mark.slow
def test_probe_finds_nearly_the_largest_that_really_runs(deep: TrialSpec, gpu: FakeGpu) -> None:
    result = find(deep)
    true = largest_that_runs(deep)
    assert 1000 < true < 1440  # 180 units at an eighth each, less the gaps
    assert true * (1 - MEMORY_MARGIN) / 1.1 - 1 <= result.max_micro_batch_size <= true
    assert runs(deep, result.max_micro_batch_size)
    assert result.is_limited_by_memory
    assert result.rows[0].device == gpu.name
    assert result.capacity_bytes is not None
    assert 176 * UNIT < result.capacity_bytes <= 180 * UNIT  # what others hold isn't counted on
    assert all((row.peak_memory_bytes or 0) <= result.capacity_bytes for row in result.rows)
    assert result.memory.bytes_per_sample is not None
    assert result.memory.bytes_per_sample.value == pytest.approx(UNIT / 8, rel=0.1)


@pytest.mark.slow
def test_fraction_that_the_user_set_is_the_capacity(deep: TrialSpec, gpu: FakeGpu) -> None:
    gpu.fraction = 0.5
    result = find(deep)
    assert result.capacity_bytes == 100 * UNIT
    assert 500 < result.max_micro_batch_size < 100 * 8
    assert runs(deep, result.max_micro_batch_size)


@pytest.mark.slow
def test_memory_that_runs_out_below_the_predicted_limit_is_taken_at_its_word(
    deep: TrialSpec, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Free gaps that nothing fits into: a third of the device is of no use, and no number says so beforehand."""
    room = FakeGpu._has_room
    monkeypatch.setattr(FakeGpu, "_has_room", lambda self, size: room(self, size + 60 * UNIT))
    result = find(deep)
    true = largest_that_runs(deep)
    predicted = result.memory.largest_micro_batch(result.capacity_bytes or 0)
    assert predicted is not None
    assert predicted > 1.2 * true
    assert true / 1.1 - 1 <= result.max_micro_batch_size <= true
    assert [row.status for row in result.rows if row.micro_batch_size > true] != []
    assert {row.status for row in result.rows if row.micro_batch_size > true} == {"out_of_memory"}


def test_gaps_alone_can_run_a_device_out_of_memory() -> None:
    gpu = FakeGpu(60 * UNIT)
    frees = [gpu.allocate(5 * UNIT) for _ in range(12)]
    for free in frees[::2]:
        free()
    with pytest.raises(torch.OutOfMemoryError, match=r"30\.00 MiB is reserved by PyTorch") as caught:
        gpu.allocate(8 * UNIT)
    assert is_out_of_memory(caught.value)
    gpu.allocate(5 * UNIT)
    for free in frees[1::2]:
        free()
    gpu.empty_cache()
    assert gpu.reserved == 20 * UNIT  # of the segment in use


def test_a_device_is_told_by_name_size_and_number(deep: TrialSpec) -> None:
    with installed(FakeGpu(64 * UNIT), num_devices=4):
        description = describe_task(deep, CHANNEL)
    assert (description.device, description.device_memory_bytes) == (FakeGpu.name, 64 * UNIT)
    assert description.num_available_devices == 4
    assert {type(version) for version in description.versions.values()} == {
        str
    }  # torch's own kind needs torch to be read
    assert describe_task(deep, CHANNEL).num_available_devices is None


@pytest.mark.slow
def test_a_trial_that_runs_out_of_memory_says_so_and_leaves_it_to_the_next(deep: TrialSpec, gpu: FakeGpu) -> None:
    small, large = (replace(deep, plan=Plan(size), batch_size=size) for size in (256, 4096))
    first = run_here(small, UNWATCHED)
    idle = gpu.reserved
    failed = run_here(large, UNWATCHED)
    assert failed.stop_reason is StopReason.OUT_OF_MEMORY
    assert failed.message.startswith("out of memory with 4096 samples a pass: CUDA out of memory. Tried to allocate")
    assert failed.device == gpu.name
    assert gpu.reserved == idle
    again = run_here(small, UNWATCHED)
    assert (first.outcome, again.outcome) == ("complete", "complete")
    assert again.value == first.value
    assert again.peak_memory_bytes == first.peak_memory_bytes
    assert 256 / 8 * UNIT < (first.peak_memory_bytes or 0) < 256 / 6 * UNIT


def test_a_trial_that_fails_otherwise_leaves_its_memory_too(deep: TrialSpec, gpu: FakeGpu, project: Path) -> None:
    (project / "broken.py").write_text(DEEP.replace("return self.loss(batch)", "self.loss(batch).no_such_thing()", 1))
    source = {"model": {"class_path": "broken.Deep"}, "data": {"class_path": "broken.Data"}}
    with pytest.raises(Exception, match="no_such_thing"):
        run_here(replace(deep, task=replace(deep.task, source=source), plan=Plan(256), batch_size=256), UNWATCHED)
    gc.collect()
    give_back_memory()
    assert gpu.reserved <= 4 * UNIT


def study_of(project: Path, **changes: Any) -> Study:
    config = {
        "name": "deep",
        "task": {"model": {"class_path": "deep.Deep"}, "data": {"class_path": "deep.Data"}},
        "search": {"batch_size": {"low": 256, "high": 4096}, "lr": {"low": 1e-4, "high": 1e-2}},
        "budget": {"trials": 2, "epochs": 1},
        "limits": {"max_micro_batch_size": 4096},
        "pruning": "none",
        "trainer": {"accelerator": "cpu"},
        "isolation": "none",
        "storage": f"sqlite:///{project}/bsopt.db",
        "output": str(project / "runs"),
        **changes,
    }
    return Study.create(LoadedConfig(validate_config(config), project / "study.yaml"))


@pytest.mark.slow
def test_a_study_halves_the_micro_batch_until_it_fits_and_accumulates(
    deep: TrialSpec, gpu: FakeGpu, project: Path
) -> None:
    study = study_of(project)
    for _ in range(2):
        study.optuna.enqueue_trial({"batch_size": 4096, "lr": 1e-3}, skip_if_exists=False)
    study.run()
    true = largest_that_runs(deep)
    fits = next(size for size in (4096, 2048, 1024, 512) if size <= true)
    for record in study.records:
        assert record.outcome == "complete"
        assert record.plan is not None
        assert (record.plan.micro_batch_size, record.plan.global_batch_size) == (fits, 4096)
        assert record.plan.accumulate_grad_batches == 4096 // fits
    assert gpu.reserved <= 4 * UNIT


def test_without_accumulation_memory_is_a_boundary_of_the_study(deep: TrialSpec, gpu: FakeGpu, project: Path) -> None:
    study = study_of(project, limits={"max_micro_batch_size": 4096, "accumulation": False})
    for size in (4096, 256):
        study.optuna.enqueue_trial({"batch_size": size, "lr": 1e-3})
    study.run()
    assert [record.stop_reason for record in study.records] == [StopReason.OUT_OF_MEMORY, StopReason.COMPLETED]
    first = study.optuna.trials[0]
    assert max(first.constraints.values()) > 0
    assert study.optuna.best_trial.number == 1


def test_peaks_times_and_waits_are_the_devices(deep: TrialSpec, gpu: FakeGpu) -> None:
    import pytorch_lightning as pl
    from deep import Data, Deep  # type: ignore[import-not-found]

    monitor = ThroughputMonitor()
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[monitor],
    )  # fmt: skip
    before = gpu.num_synchronized
    trainer.fit(Deep(), Data(128))
    assert monitor.summary is not None
    assert monitor.summary.memory_kind == "device"
    assert monitor.summary.peak_memory_bytes == gpu.peak_allocated == grown_bytes(trainer, resident_before=0)
    assert gpu.num_synchronized - before == 1  # the device is waited for once an epoch
    assert device_name(trainer) == gpu.name
    free = free_gpu_bytes(trainer)
    assert free == 180 * UNIT


def test_elsewhere_nothing_of_a_gpu_is_told(deep: TrialSpec) -> None:
    import pytorch_lightning as pl

    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert free_gpu_bytes(trainer) is None
    assert device_name(trainer) == "cpu"
    assert grown_bytes(None, resident_before=10**15) == 0
    assert grown_bytes(trainer, resident_before=0) > 10 * 2**20
    give_back_memory()


@pytest.mark.parametrize("length", [Amount(3.0, "steps"), Amount(2.0, "epochs")])
def test_without_a_gpu_memory_is_what_the_process_grew_by_whatever_the_budget(deep: TrialSpec, length: Amount) -> None:
    spec = replace(deep, budget=replace(deep.budget, length=length), plan=Plan(256), batch_size=256)
    row = InThisProcess().call("", spec, None)
    assert (row.status, row.device, row.capacity_bytes) == ("ok", "cpu", None)
    assert row.num_steps >= 5  # more than the budget's three
    assert row.peak_memory_bytes is not None
    assert row.peak_memory_bytes >= 0
    assert row.seconds_per_step == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [
        ('raise RuntimeError("mat1 and mat2 differ")', RuntimeError, "mat1 and mat2 differ"),
        ("self.trainer.should_stop = True", TaskError, "ended by itself before there was anything to measure"),
    ],
)
def test_training_that_fails_or_ends_by_itself_is_no_measurement(
    deep: TrialSpec, project: Path, line: str, error: type[Exception], words: str
) -> None:
    text = DEEP.replace("        return self.loss(batch)", f"        {line}\n        return self.loss(batch)", 1)
    (project / "broken.py").write_text(text)
    source = {"model": {"class_path": "broken.Deep"}, "data": {"class_path": "broken.Data"}}
    with pytest.raises(error, match=words):
        InThisProcess().call("", replace(deep, task=TaskSpec(source, (str(project),)), plan=Plan(4096)), None)
