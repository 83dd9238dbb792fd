"""A LightningCLI, run as a trial: the learning rate and the batch size arrive as overrides."""

from __future__ import annotations

from pathlib import Path

import pytest
from entry_points import CLI, NET, PACKAGES, run, trial, write

from bsopt.errors import TaskError
from bsopt.training.processes.supervision import DirectChannel, Supervision
from bsopt.training.task.describe import describe_task


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


def test_a_linked_argument_is_no_place_and_the_one_that_it_follows_is_proposed(tmp_path: Path) -> None:
    script = """
        import net
        from dataclasses import dataclass
        from {package}.cli import LightningCLI

        @dataclass
        class Loader:
            batch_size: int = 4

        class Data(net.Data):
            def __init__(self, loader: Loader = Loader()):
                super().__init__(batch_size=loader.batch_size)

        class Net(net.Net):
            def __init__(self, batch_size: int, lr: float = 0.1):
                super().__init__(lr=lr)
                assert batch_size in (4, 16)

        class CLI(LightningCLI):
            def add_arguments_to_parser(self, parser):
                parser.link_arguments("data.loader.batch_size", "model.batch_size")

        CLI(Net, Data)
    """
    write(tmp_path, {"net.py": NET, "train.py": script})
    with pytest.raises(TaskError, match=r"inject: \{batch_size: data\.loader\.batch_size\}"):
        run(trial(tmp_path, ["fit"]))
    record = run(trial(tmp_path, ["fit"], batch_size_path="data.loader.batch_size"))
    assert record.num_steps == 12


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


def test_cli_is_looked_at_with_its_usual_callback_that_saves_the_configuration(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": NET, "train.py": CLI})
    description = describe_task(trial(tmp_path, ["fit"]), DirectChannel(Supervision()))
    assert description.module == "Net"
    assert description.places == {"lr": "--model.lr", "batch_size": "--data.batch_size"}


def test_code_that_asks_the_logger_for_a_folder_is_looked_at(tmp_path: Path) -> None:
    net = NET.replace(
        "        def training_step",
        """        def on_fit_start(self):
            assert str(self.trainer.log_dir) in str(self.logger.log_dir)
            self.logger.experiment.add_text("started", "yes")
            open(self.logger.log_dir + "/notes.txt", "w").close()

        def training_step""",
    )
    write(tmp_path, {"net.py": net, "train.py": CLI})
    (tmp_path / "trial").mkdir()
    describe_task(trial(tmp_path, ["fit"]), DirectChannel(Supervision()))
    assert (tmp_path / "trial" / "notes.txt").exists()
