"""`bsopt probe`, on a small network in processes of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bsopt.cli.main import main
from bsopt.serialization import from_plain
from bsopt.training.probe.probe import ProbeResult
from bsopt.training.processes.launcher import has_processes

pytestmark = pytest.mark.skipif(not has_processes(), reason="needs processes of its own")

NET = """
import torch
import pytorch_lightning as pl
from torch.utils.data import DataLoader, TensorDataset

class Net(pl.LightningModule):
    def __init__(self, lr: float = 0.1):
        super().__init__()
        self.lr = lr
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, index):
        return (self.layer(batch[0]) - batch[1]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)

class Data(pl.LightningDataModule):
    def __init__(self, batch_size: int = 4):
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.ones(64, 4), torch.ones(64, 1)), self.batch_size)
"""

STUDY = """
name: probed
task: {model: net.Net, data: net.Data}
search: {batch_size: {low: 4, high: 32}}
budget: {trials: 1, epochs: 1}
trainer: {accelerator: cpu}
"""

Probe = Callable[..., Result]


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Probe:
    """Run the command in a folder with the study."""
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "study.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return lambda *options: CliRunner().invoke(main, ["probe", "study.yaml", *options])


@pytest.mark.slow
def test_probe_tells_each_size_and_the_finding_and_makes_no_study(probe: Probe, tmp_path: Path) -> None:
    result = probe()
    assert result.exit_code == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()[1:4]] == ["4", "16", "32"]
    assert not (tmp_path / "bsopt.db").exists()


@pytest.mark.slow
def test_probe_tells_programs_every_measurement_and_the_result(probe: Probe) -> None:
    result = probe("--json", "--set", "search.batch_size.low=32")
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in told] == ["measured", "result"]
    assert told[0]["micro_batch_size"] == 32
    assert told[0]["seconds_per_step"] > 0
    found = from_plain(ProbeResult, told[1])
    assert (found.max_micro_batch_size, found.is_limited_by_memory) == (32, False)


@pytest.mark.slow
def test_probe_ends_with_1_where_nothing_fits(probe: Probe) -> None:
    result = probe("--json", "--set", "limits.memory=1 kB", "--set", "search.batch_size.low=32")
    assert result.exit_code == 1
    *measured, found = [json.loads(line) for line in result.stdout.splitlines()]
    assert {row["status"] for row in measured} == {"over"}
    assert found["max_micro_batch_size"] == 0


@pytest.mark.slow
def test_probe_of_a_broken_task_ends_with_2_and_one_message(probe: Probe, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET.replace("torch.nn.Linear(4, 1)", "torch.nn.Linear(4, 1, 2, 3, 4, 5)"))
    result = probe()
    assert result.exit_code == 2
    assert "building net.Net" in result.stderr
    assert "Traceback (most recent call last)" not in result.stderr
