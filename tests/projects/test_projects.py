"""Each project is checked, and trained with accumulation and on two ranks; what its own steps used is what was asked.

The projects' folders hold what people have: no study file and not a word of bsopt. `parts.Recorder`, a mixin of their
modules, writes down the rate of every optimizer step, the samples of every batch and the steps that a schedule was
planned for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bsopt.config import LoadedConfig, validate_config
from bsopt.study.study import Study
from bsopt.trial.record import TrialRecord

HERE = Path(__file__).parent
EPOCHS, NUM_SAMPLES = 2, 96
LR = 0.02

Rates = Callable[[int, int], list[float]]


def constant(*factors: float) -> Rates:
    """Groups whose rate is a factor times the one searched, at every step."""
    return lambda step, total: [LR * factor for factor in factors or (1.0,)]


def by_step(factor: Callable[[float], float], groups: int = 1) -> Rates:
    """A rate that is a function of the share of the steps done."""
    return lambda step, total: [LR * factor(step / total)] * groups


def by_epoch(factor: float) -> Rates:
    """A rate that is multiplied after each epoch."""
    return lambda step, total: [LR * factor ** (step * EPOCHS // total)]


@dataclass(frozen=True)
class Project:
    """A folder and what a study file says of it.

    Attributes:
        task: The `task` block.
        rates: The rates that its groups must have at a step of so many.
        blocks: Further blocks of the study file.
        metric: What its study is about.
        planned: Whether its schedule plans with a number of steps, which must be the trial's.
        steps_per_update: Optimizer steps in an update; two for a GAN.
        accumulates: Whether it can.
        ddp: Strategy on two ranks.
        optimizer: The optimizer that it builds.
    """

    task: dict[str, Any]
    rates: Rates = field(default_factory=constant)
    blocks: dict[str, Any] = field(default_factory=dict)
    metric: str = "val_loss"
    planned: bool = False
    steps_per_update: int = 1
    accumulates: bool = True
    optimizer: str = "SGD"
    ddp: str = "ddp"


def entry(script: str, *args: str) -> dict[str, Any]:
    return {"entry": {"script": script, "args": list(args)}}


def one_cycle(step: int, total: int) -> list[float]:
    """OneCycleLR's own formula with its defaults: a cosine up over 30 % of the steps, then one down."""
    up = 0.3 * total - 1
    low, high = LR / 25, LR
    if step <= up:
        rate = high + (low - high) / 2 * (1 + math.cos(math.pi * step / up))
    else:
        end = low / 1e4
        rate = end + (high - end) / 2 * (1 + math.cos(math.pi * (step - up) / (total - 1 - up)))
    return [rate / 10, rate]


def warm_up_then_linear(step: int, total: int) -> list[float]:
    return [LR * (step / 2 if step < 2 else (total - step) / (total - 2))] * 2


PROJECTS = {
    "cli_one_cycle": Project(entry("main.py", "fit", "--config", "config.yaml"), one_cycle, planned=True),
    "cli_subclasses": Project(
        entry("main.py", "fit", "--config", "fit.yaml"), by_epoch(0.5), metric="val/loss", optimizer="AdamW"
    ),
    "argparse_script": Project(
        entry(
            *("train.py", "--lr", "{lr}", "--batch-size={batch_size}", "--epochs", "{max_epochs}"),
            *("--accumulate", "{accumulate_grad_batches}", "--devices", "{num_devices}"),
        ),
        by_step(lambda done: 1 - done),
        planned=True,
    ),
    "hydra_style": Project(
        entry("train.py", "optim.lr={lr}", "data.batch_size={batch_size}", "trainer.max_epochs={max_epochs}"),
        by_step(lambda done: (1 + math.cos(math.pi * done)) / 2),
        metric="val/mse",
        planned=True,
        optimizer="Adam",
    ),
    "omegaconf_script": Project(
        {
            "entry": {
                "function": "train:main",
                "args": ["optim.base_lr={lr}", "data.train_batch_size={batch_size}", "optim.momentum=0.5"],
            }
        },
    ),
    "dataclass_config": Project(
        entry("train.py"),
        by_epoch(0.1),
        blocks={"inject": {"lr": "settings.optim.learning_rate", "batch_size": "settings.bs"}},
    ),
    "factory": Project({"factory": "tasks:build"}, optimizer="RMSprop"),
    "gan": Project(
        {"model": {"class_path": "gan.GAN", "init_args": {"lr_d": 0.5}}, "data": "gan.Data"},
        lambda step, total: [LR if step % 2 == 0 else 0.5],
        blocks={"inject": {"lr": "lr_g"}},
        metric="distance",
        steps_per_update=2,
        accumulates=False,
        optimizer="Adam",
        ddp="ddp_find_unused_parameters_true",
    ),
    "iterable_data": Project(
        {"model": "stream.Net", "data": "stream.StreamData"},
        blocks={
            "budget": {"trials": 2, "samples": EPOCHS * NUM_SAMPLES, "validate_every": f"{NUM_SAMPLES} samples"},
        },
    ),
    "dict_of_loaders": Project({"model": "semi.Semi", "data": "semi.SemiData"}),
    "batch_sampler": Project({"model": "buckets.Net", "data": "buckets.BucketData"}),
    "hf_style": Project(
        entry("run.py", "--learning_rate", "{lr}", "--per_device_train_batch_size", "{batch_size}"),
        warm_up_then_linear,
        metric="eval/loss",
        planned=True,
        optimizer="AdamW",
    ),
    "torchmetrics_task": Project(
        {"model": "classify.Classifier", "data": "classify.Points"},
        blocks={"objective": {"monitor": "val/acc", "direction": "maximize"}},
        metric="val/acc",
        optimizer="AdamW",
    ),
    "warm_up_by_hand": Project(
        entry("train.py", "--base_lr={lr}", "--bs={batch_size}"),
        by_step(lambda done: 10 * done if done < 0.1 else 0.5 * (1 + math.cos(math.pi * (done - 0.1) / 0.9))),
        planned=True,
    ),
    "module_with_loaders": Project(entry("train.py"), by_epoch(0.5), optimizer="Adam"),
}

NAMES = [
    pytest.param(name, marks=pytest.mark.skipif(name.startswith("omega") and not find_spec("omegaconf"), reason="none"))
    for name in PROJECTS
]


def _slow_but(params: list[Any], *quick: str) -> list[Any]:
    """Mark all but a few as slow."""
    return [p if p.values[0] in quick else pytest.param(*p.values, marks=[*p.marks, pytest.mark.slow]) for p in params]


def loaded(name: str, folder: Path, **blocks: Any) -> LoadedConfig:
    """Return the study file of a project; what it writes goes into `folder`."""
    project = PROJECTS[name]
    usual = {
        "name": name,
        "task": project.task,
        "search": {"batch_size": {"low": 16, "high": 32}, "lr": {"low": 0.001, "high": 0.1}},
        "objective": {"monitor": project.metric},
        "budget": {"trials": 2, "epochs": EPOCHS},
        "pruning": "none",
        "trainer": {"accelerator": "cpu", "devices": 1},
        "storage": "memory://",
        "isolation": "none",
        "output": str(folder / "out"),
    }
    return LoadedConfig(validate_config({**usual, **project.blocks, **blocks}), HERE / name / "study.yaml")


def trained(name: str, folder: Path, **blocks: Any) -> list[TrialRecord]:
    """Run two trials of a project, at 16 and 32 samples, and return their records."""
    study = Study.create(loaded(name, folder, **blocks))
    for size in (16, 32):
        study.optuna.enqueue_trial({"batch_size": size, "lr": LR})
    study.run()
    assert [record.message for record in study.records if record.outcome == "fail"] == []
    return study.records


def check_what_it_used(name: str, record: TrialRecord, folder: Path) -> None:
    """Compare what the project's own steps used with what was asked, on every rank."""
    project, plan = PROJECTS[name], record.plan
    assert plan is not None
    num_updates = EPOCHS * NUM_SAMPLES // plan.global_batch_size
    for rank in range(plan.world_size):
        seen = json.loads((folder / "out" / "trials" / f"{record.number:04d}" / f"seen-{rank}.json").read_text())
        total = num_updates * project.steps_per_update
        assert len(seen["rates"]) == total
        for step, rates in enumerate(seen["rates"]):
            assert rates == pytest.approx(project.rates(step, total), rel=1e-6, abs=1e-9), f"step {step} of {total}"
        expected = plan.micro_batch_size
        sizes = [size for batch in seen["sizes"] for size in (batch.values() if isinstance(batch, dict) else [batch])]
        is_ragged = name == "dict_of_loaders" and max(sizes) == expected  # its second set may end with a smaller batch
        assert set(sizes) == {expected} or is_ragged
        assert len(seen["sizes"]) == num_updates * plan.accumulate_grad_batches
        if project.planned:
            assert seen["planned"] == num_updates
        assert all(planned in (None, num_updates) for planned in seen["totals"])
    assert record.num_steps == num_updates
    assert [tick.samples for tick in record.ticks] == [96.0, 192.0]
    assert record.value == {True: max, False: min}[name == "torchmetrics_task"](
        tick.metrics[project.metric] if plan.world_size == 1 else tick.value for tick in record.ticks
    )  # metrics are rank 0's, the value is the mean over the ranks
    assert record.warnings == ()


@pytest.mark.parametrize("name", _slow_but(NAMES, "argparse_script", "dict_of_loaders"))
def test_project_is_checked_and_its_optimizer_found(name: str, tmp_path: Path) -> None:
    report = Study.check(loaded(name, tmp_path))
    assert report.problems == ()
    assert dict(report.rows)["optimizer"].startswith(PROJECTS[name].optimizer)


@pytest.mark.parametrize("name", _slow_but(NAMES, "argparse_script", "cli_subclasses"))
def test_project_trains_as_asked_with_accumulation(name: str, tmp_path: Path) -> None:
    limits = {"max_micro_batch_size": 8} if PROJECTS[name].accumulates else {}
    for record in trained(name, tmp_path, limits=limits):
        assert record.plan is not None
        if limits:
            assert record.plan.accumulate_grad_batches == record.plan.global_batch_size // 8
        check_what_it_used(name, record, tmp_path)


@pytest.mark.distributed
@pytest.mark.parametrize("name", _slow_but(NAMES, "argparse_script"))
def test_project_trains_as_asked_on_two_ranks(name: str, tmp_path: Path) -> None:
    trainer = {"accelerator": "cpu", "devices": 2, "strategy": PROJECTS[name].ddp}
    for record in trained(name, tmp_path, isolation="process", trainer=trainer):
        check_what_it_used(name, record, tmp_path)


def test_the_discriminator_s_rate_is_searched_where_its_name_is_given_and_updates_are_counted_once(
    tmp_path: Path,
) -> None:
    task = {"model": {"class_path": "gan.GAN", "init_args": {"lr_g": 0.5}}, "data": "gan.Data"}
    budget = {"trials": 2, "steps": 6, "validate_every": "96 samples"}
    records = trained("gan", tmp_path, task=task, inject={"lr": "lr_d"}, budget=budget)
    assert [record.num_steps for record in records] == [6, 6]
    assert [[tick.lr for tick in record.ticks] for record in records] == [[LR], [LR, LR]]


def test_a_gan_is_not_accumulated_and_is_told_the_way_out(tmp_path: Path) -> None:
    (problem,) = Study.check(loaded("gan", tmp_path, limits={"max_micro_batch_size": 8})).problems
    assert "optimizes by hand" in problem
    assert "lower search.batch_size.high" in problem


@pytest.mark.slow
@pytest.mark.distributed
def test_what_only_fails_on_two_ranks_is_found_by_the_check(tmp_path: Path) -> None:
    trainer = {"accelerator": "cpu", "devices": 2, "sync_batchnorm": True}
    (problem,) = Study.check(loaded("cli_one_cycle", tmp_path, isolation="process", trainer=trainer)).problems
    assert "SyncBatchNorm" in problem


@pytest.mark.slow
@pytest.mark.parametrize("compiled", ["Net(options.lr, total)"])
def test_a_compiled_module_is_trained_as_it_is(tmp_path: Path, compiled: str) -> None:
    folder = tmp_path / "argparse_script"
    folder.mkdir()
    text = (HERE / "argparse_script" / "train.py").read_text()
    (folder / "train.py").write_text(text.replace(compiled, f"torch.compile({compiled}, backend='eager')"))
    config = loaded("argparse_script", tmp_path).config
    study = Study.create(LoadedConfig(config, folder / "study.yaml"))
    study.optuna.enqueue_trial({"batch_size": 16, "lr": LR})
    study.run()
    check_what_it_used("argparse_script", study.records[0], tmp_path)
