"""Scripts and functions of a project, run as trials and taken over at `Trainer.fit`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from entry_points import ARGS, NET, PACKAGES, SCRIPT, run, trial, write

from bsopt.errors import MetricError
from bsopt.training.processes.launcher import Launcher, has_processes
from bsopt.training.processes.supervision import DirectChannel, Supervision
from bsopt.training.run_trial import run_trial
from bsopt.training.task.describe import describe_task
from bsopt.trial.objective import Objective
from bsopt.trial.plan import Plan
from bsopt.trial.record import StopReason, Tick
from bsopt.trial.spec import Seeds, StopDecision


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a network and a script with argparse."""
    write(tmp_path, {"net.py": NET, "train.py": SCRIPT})
    return tmp_path


@pytest.mark.parametrize("package", PACKAGES)
def test_script_trains_with_placeholders_filled_in(tmp_path: Path, package: str) -> None:
    write(tmp_path, {"net.py": NET, "train.py": SCRIPT}, package)
    record = run(trial(tmp_path, ARGS))
    assert record.stop_reason is StopReason.COMPLETED
    assert [tick.samples for tick in record.ticks] == [48.0, 96.0, 144.0, 192.0]
    assert record.num_steps == 12
    assert record.ticks[-1].lr == 0.05
    assert record.num_train_samples == 96


def test_script_writes_into_the_trial_folder_only(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away = project / "elsewhere"
    away.mkdir()
    monkeypatch.chdir(away)
    run(trial(project, ARGS))
    assert list((project / "trial" / "models").glob("*.ckpt"))
    assert list((project / "trial" / "logs").rglob("metrics.csv"))
    assert not list(away.iterdir())


def test_what_comes_after_fit_does_not_run(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(trial(project, ARGS))
    assert "after fit" not in capfd.readouterr().out


def test_accumulating_plan_replaces_the_script_s_own(project: Path) -> None:
    record = run(trial(project, ARGS, plan=Plan(8, 2)))
    assert record.num_steps == 12
    assert record.ticks[-1].samples == 192.0


def test_same_trial_again_gives_the_same_values(project: Path) -> None:
    values = [[tick.value for tick in run(trial(project, ARGS)).ticks] for _ in range(2)]
    assert values[0] == values[1]


def test_weights_come_from_the_study_s_seed_not_from_the_script_s(project: Path) -> None:
    first = trial(project, ARGS)
    other = replace(first, seeds=Seeds(weights=4, data=11))
    assert run(first).ticks[0].value != run(other).ticks[0].value


def test_nothing_of_a_script_stays_in_the_process(project: Path) -> None:
    import pytorch_lightning as pl

    before = (list(sys.argv), pl.Trainer.fit, pl.Trainer.__init__, pl.seed_everything)
    run(trial(project, ARGS))
    assert (sys.argv, pl.Trainer.fit, pl.Trainer.__init__, pl.seed_everything) == (before[0], *before[1:])
    assert "net" not in sys.modules


def test_files_among_arguments_are_found_beside_the_study(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (project / "notes.txt").write_text("hello")
    monkeypatch.chdir(tmp_path_factory.mktemp("away"))
    assert run(trial(project, [*ARGS, "--notes", "notes.txt"])).stop_reason is StopReason.COMPLETED
    assert run(trial(project, [*ARGS, "--notes=notes.txt"])).stop_reason is StopReason.COMPLETED


def test_further_parameters_are_filled_in_by_their_path(tmp_path: Path) -> None:
    script = """
        import sys
        import {package} as pl
        from net import Data, Net

        pl.Trainer().fit(Net(float(sys.argv[1]), weight_decay=float(sys.argv[2])), Data(int(sys.argv[3])))
    """
    write(tmp_path, {"net.py": NET, "train.py": script})
    args = ["{lr}", "{model.weight_decay}", "{batch_size}"]
    record = run(trial(tmp_path, args, init_args={"model.weight_decay": 0.25}))
    assert record.ticks[-1].metrics["weight_decay"] == 0.25


def test_script_without_arguments_gets_values_as_attributes(tmp_path: Path) -> None:
    script = """
        import {package} as pl
        from net import Data, Net

        pl.Trainer(max_epochs=1).fit(Net(), datamodule=Data())
    """
    write(tmp_path, {"net.py": NET, "train.py": script})
    record = run(trial(tmp_path, init_args={"model.weight_decay": 0.25}))
    assert record.num_steps == 12
    assert record.ticks[-1].lr == 0.05
    assert record.ticks[-1].metrics["weight_decay"] == 0.25


def test_function_is_an_entry_too(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": NET, "train.py": SCRIPT})
    record = run(trial(tmp_path, ARGS, function="train:main"))
    assert record.stop_reason is StopReason.COMPLETED


def test_description_tells_the_script_s_task_without_training(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    description = describe_task(trial(project, ARGS), DirectChannel(Supervision()))
    assert (description.module, description.num_train_samples, description.num_train_batches) == ("Net", 96, 6)
    assert (description.optimizer, description.num_devices, description.package) == ("SGD", 1, "pytorch_lightning")
    assert not (project / "trial" / "models").exists()


def test_description_takes_devices_from_the_script(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": NET, "train.py": SCRIPT.replace("devices=1", "devices=2")})
    assert describe_task(trial(tmp_path, ARGS), DirectChannel(Supervision())).num_devices == 2


def test_error_within_fit_reaches_the_study_though_the_script_catches_it(project: Path) -> None:
    with pytest.raises(MetricError, match="'loss_of_mine' was never logged"):
        run(replace(trial(project, ARGS), objective=Objective("loss_of_mine")))


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")  # the third does
def test_interrupted_trial_of_a_script_goes_on_from_its_last_validation(project: Path) -> None:
    spec = replace(trial(project, ARGS), resume_file=str(project / "trial" / "resume.ckpt"))
    whole = run(trial(project, ARGS))

    def interrupt(tick: Tick) -> StopDecision:
        return StopDecision(StopReason.INTERRUPTED if tick.index == 3 else None)

    run_trial(spec, DirectChannel(Supervision(interrupt)))
    told: list[int] = []
    record = run_trial(spec, DirectChannel(Supervision(lambda tick: (told.append(tick.index), StopDecision())[1])))
    assert told == [1, 2, 3, 4]
    assert record.num_steps == whole.num_steps == 12
    assert [tick.value for tick in record.ticks[:3]] == [tick.value for tick in whole.ticks[:3]]


OWN_SCHEDULE = """
    import sys
    import {package} as pl
    import torch
    from torch.utils.data import DataLoader
    from net import Net, data_set

    class Scheduled(Net):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.total)
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    batch_size, epochs, accumulate, steps = (int(word) for word in sys.argv[2:6])
    loader = DataLoader(data_set(0), batch_size)
    net = Scheduled(float(sys.argv[1]))
    net.total = steps or len(loader) * epochs // accumulate
    pl.Trainer(max_epochs=epochs).fit(net, loader, DataLoader(data_set(1), 48))
"""


@pytest.mark.parametrize(
    ("told", "warnings"),
    [
        (["{accumulate_grad_batches}", "0"], 0),
        (["1", "{max_steps}"], 0),
        (["1", "0"], 1),
    ],
)
def test_a_schedule_of_the_script_s_own_ends_where_training_ends_or_is_told(
    tmp_path: Path, told: list[str], warnings: int
) -> None:
    write(tmp_path, {"net.py": NET, "train.py": OWN_SCHEDULE})
    args = ["{lr}", "{batch_size}", "{max_epochs}", *told]
    record = run(replace(trial(tmp_path, args, plan=Plan(4, 4)), num_steps=12, num_epochs=2))
    assert record.num_steps == 12
    assert len(record.warnings) == warnings
    for words in record.warnings:
        assert "CosineAnnealingLR) is planned for 48 optimizer steps, but training has 12" in words
        assert "4 batches accumulated to a step): plan it with" in words
        assert "{max_steps}" in words


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.skipif(not has_processes(), reason="needs processes of its own")
def test_two_ranks_of_a_script_train_like_one(tmp_path: Path) -> None:
    losses = {}
    for name, plan in (("one", Plan(16)), ("two", Plan(8, 1, num_devices=2))):
        folder = tmp_path / name
        folder.mkdir()
        write(folder, {"net.py": NET, "train.py": SCRIPT.replace("shuffle=True", "shuffle=False")})
        ticks: list[Tick] = []

        def on_tick(tick: Tick, ticks: list[Tick] = ticks) -> StopDecision:
            ticks.append(tick)
            return StopDecision()

        record = Launcher().run(trial(folder, ARGS, plan=plan), Supervision(on_tick, lambda: False))
        assert record.num_steps == 12
        assert [tick.samples for tick in ticks] == [48.0, 96.0, 144.0, 192.0]
        losses[name] = record.ticks[-1].value
    # Ranks take every other sample, so batches are the same sets only over a whole epoch: close, not equal.
    assert losses["two"] == pytest.approx(losses["one"], rel=0.1)


def test_a_schedule_in_epochs_is_to_be_planned_by_the_trial_s_epochs(tmp_path: Path) -> None:
    by_epoch = """torch.optim.SGD(self.parameters(), lr=self.lr)
            return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)]
    """
    net = NET.replace("return torch.optim.SGD(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)", "X")
    write(tmp_path, {"net.py": net.replace("X", f"optimizer = {by_epoch}"), "train.py": SCRIPT})
    (words,) = run(replace(trial(tmp_path, ARGS), num_steps=12, num_epochs=2)).warnings
    assert "planned for 30 epochs, but training has 2: plan it with trainer.max_epochs" in words
    assert "{max_epochs}" in words


def test_schedules_that_a_module_steps_by_hand_are_its_own(tmp_path: Path) -> None:
    by_hand = """torch.optim.SGD(self.parameters(), lr=self.lr)
            return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)]

        @property
        def automatic_optimization(self):
            return False

        def training_step(self, batch, index):
            x, y = batch
            self.optimizers().zero_grad()
            self.manual_backward(((self.layer(x) - y) ** 2).mean())
            self.optimizers().step()
            self.lr_schedulers().step()
    """
    net = NET.replace("return torch.optim.SGD(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)", "X")
    write(tmp_path, {"net.py": net.replace("X", f"optimizer = {by_hand}"), "train.py": SCRIPT})
    record = run(replace(trial(tmp_path, ARGS), num_steps=12, num_epochs=2))
    assert (record.num_steps, record.warnings) == (12, ())
