"""Projects of their own, a plain train.py and a LightningCLI, run as trials and taken over at `Trainer.fit`."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bsopt.errors import InjectionError, MetricError, TaskError
from bsopt.training.processes.launcher import Launcher, has_processes
from bsopt.training.processes.supervision import DirectChannel, Supervision
from bsopt.training.run_trial import run_trial
from bsopt.training.task.describe import describe_task
from bsopt.trial.objective import Objective
from bsopt.trial.plan import Plan
from bsopt.trial.record import StopReason, Tick, TrialRecord
from bsopt.trial.spec import Budget, Seeds, StopDecision, TaskSpec, TrialSpec
from bsopt.units import Amount

PACKAGES = ("pytorch_lightning", "lightning.pytorch")

NET = """
    import torch
    import {package} as pl
    from torch.utils.data import DataLoader, TensorDataset

    class Net(pl.LightningModule):
        def __init__(self, lr: float = 1.0, weight_decay: float = 0.0, width: int = 1):
            super().__init__()
            self.lr, self.weight_decay = lr, weight_decay
            self.layer = torch.nn.Linear(4, width)

        def training_step(self, batch, index):
            x, y = batch
            return ((self.layer(x) - y) ** 2).mean()

        def validation_step(self, batch, index):
            x, y = batch
            self.log("val_loss", ((self.layer(x) - y) ** 2).mean(), sync_dist=True)
            self.log("weight_decay", self.weight_decay)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)

    def data_set(seed, length=96):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(length, 4, generator=generator)
        return TensorDataset(x, x.sum(1, keepdim=True))

    class Data(pl.LightningDataModule):
        def __init__(self, batch_size: int = 7):
            super().__init__()
            self.batch_size = batch_size

        def train_dataloader(self):
            return DataLoader(data_set(0), self.batch_size, shuffle=True)

        def val_dataloader(self):
            return DataLoader(data_set(1), 48)
"""

SCRIPT = """
    import argparse
    import {package} as pl
    from torch.utils.data import DataLoader
    from net import Net, data_set

    def main():
        parser = argparse.ArgumentParser()
        parser.add_argument("--lr", type=float, required=True)
        parser.add_argument("--batch-size", type=int, required=True)
        parser.add_argument("--seed", type=int, default=42)
        parser.add_argument("--notes", default=__file__)
        options = parser.parse_args()
        open(options.notes).close()
        pl.seed_everything(options.seed)
        trainer = pl.Trainer(
            max_epochs=500, max_time="00:00:00:01", accumulate_grad_batches=9, val_check_interval=0.5,
            devices=1, strategy="ddp", logger=pl.loggers.CSVLogger("metrics"),
            callbacks=[pl.callbacks.ModelCheckpoint("models"), pl.callbacks.TQDMProgressBar()],
        )
        try:
            trainer.fit(Net(options.lr), DataLoader(data_set(0), options.batch_size, shuffle=True),
                        DataLoader(data_set(1), 48))
        except Exception:
            print("caught by the script")
        print("after fit")

    if __name__ == "__main__":
        main()
"""

CLI = """
    from {package}.cli import LightningCLI
    from net import Data, Net

    if __name__ == "__main__":
        LightningCLI(Net, Data)
"""

ONE_PASS = Plan(16)
ARGS = ["--lr", "{lr}", "--batch-size", "{batch_size}"]


def write(folder: Path, files: Mapping[str, str], package: str = PACKAGES[0]) -> None:
    for name, text in files.items():
        (folder / name).write_text(textwrap.dedent(text).replace("{package}", package))


def trial(
    folder: Path,
    args: Sequence[str] = (),
    *,
    plan: Plan = ONE_PASS,
    init_args: Mapping[str, Any] | None = None,
    script: str | None = "train.py",
    function: str | None = None,
    **task: Any,
) -> TrialSpec:
    entry = {"script": script, "args": list(args)} if function is None else {"function": function, "args": list(args)}
    return TrialSpec(
        number=0,
        params={"batch_size": plan.global_batch_size, "lr": 0.05},
        batch_size=plan.global_batch_size,
        lr=0.05,
        plan=plan,
        task=TaskSpec(source={"entry": entry}, folders=(str(folder),), **task),
        init_args=init_args or {},
        objective=Objective("val_loss"),
        budget=Budget(length=Amount(2, "epochs"), tick_every=Amount(0.5, "epochs")),
        max_steps=None,
        trainer={"accelerator": "cpu"},
        seeds=Seeds(weights=3, data=11),
        folder=str(folder / "trial"),
        num_threads=1,
    )


def run(spec: TrialSpec) -> TrialRecord:
    Path(spec.folder).mkdir(exist_ok=True)
    return run_trial(spec, DirectChannel(Supervision()))


@pytest.fixture(autouse=True)
def _quiet_jsonargparse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's CLI uses what jsonargparse has deprecated."""
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")


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


@pytest.mark.parametrize("package", PACKAGES)
def test_lightning_cli_gets_overrides_by_itself(tmp_path: Path, package: str) -> None:
    write(tmp_path, {"net.py": NET, "train.py": CLI}, package)
    (tmp_path / "fit.yaml").write_text("model: {lr: 9.0, weight_decay: 0.125}\ntrainer: {max_epochs: 300}\n")
    record = run(trial(tmp_path, ["fit", "--config", "fit.yaml"]))
    assert record.num_steps == 12
    assert record.ticks[-1].lr == 0.05
    assert record.ticks[-1].metrics["weight_decay"] == 0.125
    saved = (tmp_path / "trial" / "config.yaml").read_text()
    assert "lr: 0.05" in saved
    assert "batch_size: 16" in saved


def test_lightning_cli_in_subclass_mode_with_further_parameters(tmp_path: Path) -> None:
    script = """
        import net
        from {package}.cli import LightningCLI

        LightningCLI(net.pl.LightningModule, net.pl.LightningDataModule, subclass_mode_model=True,
                     subclass_mode_data=True, seed_everything_default=5)
    """
    write(tmp_path, {"net.py": NET, "train.py": script})
    (tmp_path / "fit.yaml").write_text("model: {class_path: net.Net}\ndata: {class_path: net.Data}\n")
    spec = trial(tmp_path, ["fit", "--config", "fit.yaml"], init_args={"model.weight_decay": 0.5})
    record = run(spec)
    assert record.num_steps == 12
    assert record.ticks[-1].metrics["weight_decay"] == 0.5


def test_lightning_cli_with_its_own_optimizer_takes_lr_there(tmp_path: Path) -> None:
    script = """
        import net
        from {package}.cli import LightningCLI

        class Plain(net.Net):
            def __init__(self):
                super().__init__()

            configure_optimizers = net.pl.LightningModule.configure_optimizers

        LightningCLI(Plain, net.Data)
    """
    write(tmp_path, {"net.py": NET, "train.py": script})
    (tmp_path / "fit.yaml").write_text("optimizer: {class_path: torch.optim.Adam, init_args: {lr: 7.0}}\n")
    record = run(trial(tmp_path, ["fit", "--config", "fit.yaml"]))
    assert record.ticks[-1].lr == 0.05


def test_lightning_cli_without_run_is_taken_over_at_its_fit(tmp_path: Path) -> None:
    script = """
        from {package}.cli import LightningCLI
        from net import Data, Net

        cli = LightningCLI(Net, Data, run=False)
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    """
    write(tmp_path, {"net.py": NET, "train.py": script})
    assert run(trial(tmp_path)).num_steps == 12


def test_lightning_cli_without_a_place_for_lr_is_refused(tmp_path: Path) -> None:
    script = """
        from {package}.cli import LightningCLI
        from net import Data, Net

        class Fixed(Net):
            def __init__(self):
                super().__init__(0.1)

        LightningCLI(Fixed, Data)
    """
    write(tmp_path, {"net.py": NET, "train.py": script})
    with pytest.raises(TaskError, match=r"no argument --model\.lr .* inject: \{lr: "):
        run(trial(tmp_path, ["fit"]))


def test_description_tells_the_script_s_task_without_training(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    description = describe_task(trial(project, ARGS), DirectChannel(Supervision()))
    assert (description.module, description.num_train_samples, description.num_train_batches) == ("Net", 96, 6)
    assert (description.optimizer, description.num_devices, description.package) == ("SGD", 1, "pytorch_lightning")
    assert not (project / "trial" / "models").exists()


def test_description_takes_devices_from_the_script(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": NET, "train.py": SCRIPT.replace("devices=1", "devices=2")})
    assert describe_task(trial(tmp_path, ARGS), DirectChannel(Supervision())).num_devices == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("print('nothing to do')", r"train\.py ran to its end without calling Trainer\.fit"),
        (
            "raise ValueError('no data here')",
            r"failed before Trainer\.fit: ValueError: no data here \(train\.py, line 1\)",
        ),
        ("import sys; sys.exit('set DATA first')", r"exited with code 1 before Trainer\.fit: set DATA first"),
        ("import argparse; argparse.ArgumentParser().parse_args(['--x'])", r"code 2 .*: .*unrecognized arguments: --x"),
        ("import missing_package_x", "No module named 'missing_package_x'"),
    ],
)
def test_script_that_never_fits_is_told_why(tmp_path: Path, body: str, message: str) -> None:
    write(tmp_path, {"train.py": body})
    with pytest.raises(TaskError, match=message):
        run(trial(tmp_path))


def test_error_within_fit_reaches_the_study_though_the_script_catches_it(project: Path) -> None:
    with pytest.raises(MetricError, match="'loss_of_mine' was never logged"):
        run(replace(trial(project, ARGS), objective=Objective("loss_of_mine")))


def test_loader_whose_batch_size_is_fixed_is_refused_with_the_way_out(project: Path) -> None:
    with pytest.raises(TaskError, match=r"gives a DataLoader to Trainer\.fit.*--batch-size, \"\{batch_size\}\""):
        run(trial(project, ["--lr", "{lr}", "--batch-size", "16"]))


def test_learning_rate_that_the_script_ignores_is_found_out(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": NET.replace("lr=self.lr", "lr=0.5"), "train.py": SCRIPT})
    with pytest.raises(InjectionError, match=r"asked for learning rate 0\.05, but the optimizer has 0\.5"):
        run(trial(tmp_path, ARGS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("callbacks=pl.callbacks.LearningRateFinder()", "LearningRateFinder, but the learning rate is the study's"),
        ("callbacks=[pl.callbacks.GradientAccumulationScheduler({0: 2})]", "the plan decides how to accumulate"),
    ],
)
def test_callbacks_that_choose_what_the_study_chooses_are_refused(tmp_path: Path, arguments: str, message: str) -> None:
    script = f"""
        import {{package}} as pl
        from net import Data, Net

        pl.Trainer({arguments}).fit(Net(), Data())
    """
    write(tmp_path, {"net.py": NET, "train.py": script})
    with pytest.raises(TaskError, match=message):
        run(trial(tmp_path))


def test_resuming_from_a_checkpoint_is_refused(tmp_path: Path) -> None:
    script = """
        import {package} as pl
        from net import Data, Net

        pl.Trainer().fit(Net(), Data(), ckpt_path="old.ckpt")
    """
    write(tmp_path, {"net.py": NET, "train.py": script})
    with pytest.raises(TaskError, match=r"resumes from old\.ckpt"):
        run(trial(tmp_path))


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
    assert [tick.value for tick in record.ticks[:2]] == [tick.value for tick in whole.ticks[:2]]


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


def test_a_placeholder_that_cannot_be_told_is_refused(project: Path) -> None:
    with pytest.raises(TaskError, match=r"\{max_steps\} in entry\.args can't be told"):
        run(trial(project, [*ARGS, "--notes", "{max_steps}"]))


def test_accumulation_by_hand_is_refused_with_the_way_out(tmp_path: Path) -> None:
    script = """
        import {package} as pl
        from net import Data, Net

        net = Net()
        net.automatic_optimization = False
        pl.Trainer().fit(net, Data())
    """
    write(tmp_path, {"net.py": NET, "train.py": script})
    with pytest.raises(TaskError, match=r"optimizes by hand.*Lower search\.batch_size\.high"):
        run(trial(tmp_path, plan=Plan(8, 2)))


def test_all_values_that_do_not_arrive_are_asked_for_at_once_by_the_script_s_own_options(tmp_path: Path) -> None:
    script = """
        import argparse
        import {package} as pl
        from torch.utils.data import DataLoader
        from net import Net, data_set

        class Other(Net):
            def __init__(self, base_lr):
                super().__init__()
                del self.lr
                self.save_hyperparameters()

        parser = argparse.ArgumentParser()
        parser.add_argument("--base-lr", type=float, default=0.1)
        parser.add_argument("--per_device_train_batch_size", type=int, default=8)
        options = parser.parse_args()
        loader = DataLoader(data_set(0), options.per_device_train_batch_size)
        pl.Trainer().fit(Other(options.base_lr), loader)
    """
    write(tmp_path, {"net.py": NET, "train.py": script})
    with pytest.raises(TaskError) as error:
        run(trial(tmp_path))
    assert "doesn't take the learning rate and the batch size" in str(error.value)
    assert 'args: [--base-lr, "{lr}", --per_device_train_batch_size, "{batch_size}"]' in str(error.value)
    assert "inject: {lr: hparams.base_lr}" in str(error.value)


def test_missing_script_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"there is no script train\.py .*task\.entry\.script"):
        run(trial(tmp_path))


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
