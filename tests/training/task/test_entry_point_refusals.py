"""Scripts that cannot be trained as the study asks are refused, with the reason and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest
from entry_points import ARGS, NET, SCRIPT, run, trial, write

from bsopt.errors import InjectionError, TaskError
from bsopt.trial.plan import Plan


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a network and a script with argparse."""
    write(tmp_path, {"net.py": NET, "train.py": SCRIPT})
    return tmp_path


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
        (
            "import sys; print('usage: x\\nerror: the key\\n  takes a number\\n  not a word', file=sys.stderr)\n"
            "sys.exit(2)",
            r"code 2 before Trainer\.fit: error: the key\n  takes a number\n  not a word",
        ),
        ("import missing_package_x", "No module named 'missing_package_x'"),
    ],
)
def test_script_that_never_fits_is_told_why(tmp_path: Path, body: str, message: str) -> None:
    write(tmp_path, {"train.py": body})
    with pytest.raises(TaskError, match=message):
        run(trial(tmp_path))


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
