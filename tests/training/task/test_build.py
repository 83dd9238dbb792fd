"""Finding, building and adjusting user code."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bsopt.errors import TaskError
from bsopt.training.task.build import build_task, import_object, lightning_package
from bsopt.training.task.injection import set_attribute, split_path, with_argument
from bsopt.training.task.sizes import batch_sizes_of
from bsopt.trial.plan import Plan
from bsopt.trial.spec import TaskSpec


def _task(project: Path, model: Any, data: Any = "toy.ToyData", **changes: Any) -> TaskSpec:
    blocks = {
        name: {"class_path": value} if isinstance(value, str) else value
        for name, value in (("model", model), ("data", data))
    }
    return replace(TaskSpec(blocks, (str(project),)), **changes)


@pytest.mark.parametrize("package", ["pytorch_lightning", "lightning.pytorch"], indirect=True)
def test_learning_rate_and_micro_batch_arrive_as_init_arguments(project: Path, package: str) -> None:
    task = build_task(_task(project, "toy.Toy"), lr=0.07, plan=Plan(16, 2))
    assert (task.module.hparams.lr, task.data.batch_size, task.package) == (0.07, 16, package)
    whole = build_task(_task(project, "toy.Toy", batch_size_is="global"), lr=0.07, plan=Plan(16, 2))
    assert whole.data.batch_size == 32


def test_further_arguments_go_where_their_path_says(project: Path) -> None:
    task = build_task(_task(project, "toy.Toy"), lr=0.1, plan=Plan(8), init_args={"model.momentum": 0.5, "data.n": 32})
    assert (task.module.hparams.momentum, task.data.n) == (0.5, 32)


def test_module_and_data_of_different_packages_are_refused(project: Path) -> None:
    (project / "other.py").write_text(
        (project / "toy.py").read_text().replace("pytorch_lightning", "lightning.pytorch")
    )
    with pytest.raises(TaskError, match="don't mix"):
        build_task(_task(project, "toy.Toy", "other.ToyData"), lr=0.1, plan=Plan(8))


def test_a_class_that_is_no_lightning_module_is_refused(project: Path) -> None:
    (project / "plain.py").write_text("class Net:\n    def __init__(self, lr):\n        pass\n")
    with pytest.raises(TaskError, match="no LightningModule"):
        build_task(_task(project, "plain.Net"), lr=0.1, plan=Plan(8))


def test_errors_of_user_code_name_the_line(project: Path) -> None:
    (project / "broken.py").write_text("import toy\nclass Net(toy.Toy):\n    def __init__(self, lr):\n        1 / 0\n")
    with pytest.raises(TaskError, match=r"building broken.Net.*ZeroDivisionError.*broken.py, line 4"):
        build_task(_task(project, "broken.Net"), lr=0.1, plan=Plan(8))
    (project / "needy.py").write_text("import nowhere_to_be_found\n")
    with pytest.raises(TaskError, match="needs 'nowhere_to_be_found', which isn't installed"):
        build_task(_task(project, "needy.Net"), lr=0.1, plan=Plan(8))


def test_a_factory_gets_what_it_takes_and_the_rest_is_set(project: Path) -> None:
    spec = TaskSpec({"factory": "toy:build"}, (str(project),))
    assert build_task(spec, lr=0.3, plan=Plan(4)).module.hparams.lr == 0.3
    spec = TaskSpec({"factory": "toy:build_without_arguments"}, (str(project),), lr_path="hparams.lr")
    task = build_task(spec, lr=0.3, plan=Plan(4))
    assert (task.module.hparams.lr, task.data.batch_size) == (0.3, 4)
    with pytest.raises(TaskError, match="has no 'rate'"):
        build_task(replace(spec, lr_path="rate"), lr=0.3, plan=Plan(4))


def test_two_studies_may_both_have_a_module_of_the_same_name(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "toy.py").write_text((project / "toy.py").read_text() + "\nMARK = 1\n")
    build_task(_task(project, "toy.Toy"), lr=0.1, plan=Plan(8))
    build_task(_task(other, "toy.Toy"), lr=0.1, plan=Plan(8))
    assert import_object("toy.MARK") == 1


def test_nested_arguments_are_entered_by_path() -> None:
    assert with_argument({}, "optimizer.lr", 1) == {"optimizer": {"lr": 1}}
    nested = {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9}}}
    assert with_argument(nested, "optimizer.lr", 1)["optimizer"]["init_args"] == {"momentum": 0.9, "lr": 1}
    with pytest.raises(TaskError, match="not a mapping"):
        with_argument({"optimizer": "sgd"}, "optimizer.lr", 1)


def test_paths_name_their_owner() -> None:
    assert split_path("data.loader.batch_size", default="model") == ("data", "loader.batch_size")
    assert split_path("optimizer.lr", default="model") == ("model", "optimizer.lr")
    assert split_path("model", default="data") == ("data", "model")


def test_attributes_and_items_are_set_by_path() -> None:
    class Thing:
        def __init__(self) -> None:
            self.options = {"lr": 1.0}

    thing = Thing()
    set_attribute(thing, "options.lr", 2.0)
    assert thing.options["lr"] == 2.0
    with pytest.raises(TaskError, match=r"Did you mean 'options\.lr'"):
        set_attribute(thing, "option.lr", 2.0)


def test_what_is_no_lightning_object_has_no_package() -> None:
    assert lightning_package(object()) is None
    assert batch_sizes_of(object()) == []


SETTINGS = """
    from dataclasses import dataclass, field
    from types import SimpleNamespace
    import pytorch_lightning as pl

    @dataclass
    class Optim:
        base_lr: float = 0.1
        min_lr: float = 0.0

    class Net(pl.LightningModule):
        def __init__(self, base_lr=0.1, width=3, warmup_lr=1.0):
            super().__init__()
            self.save_hyperparameters()
            self.cfg = SimpleNamespace(optim=Optim(), depth=2)

    class Data(pl.LightningDataModule):
        def __init__(self, train_bs=4, val_batch_size=8):
            super().__init__()
            self.settings = {"loader": {"per_device_train_batch_size": 2, "num_workers": 0}}

    def build(width=3):
        return Net(), Data()
"""


def test_all_places_are_asked_for_at_once_and_those_that_seem_meant_are_proposed(project: Path) -> None:
    (project / "settings.py").write_text(textwrap.dedent(SETTINGS))
    classes = {"model": {"class_path": "settings.Net"}, "data": {"class_path": "settings.Data"}}
    with pytest.raises(TaskError) as error:
        build_task(TaskSpec(classes, (str(project),)), lr=0.1, plan=Plan(8))
    assert "Net takes no argument 'lr' or 'learning_rate' for the learning rate (it takes: base_lr, " in str(
        error.value
    )
    assert "Data takes no argument 'batch_size' for the batch size" in str(error.value)
    assert str(error.value).endswith("in the study file: inject: {lr: base_lr, batch_size: train_bs}.")
    with pytest.raises(TaskError) as error:
        build_task(TaskSpec({"factory": "settings:build"}, (str(project),)), lr=0.1, plan=Plan(8))
    line = "inject: {lr: model.hparams.base_lr, batch_size: data.settings.loader.per_device_train_batch_size}"
    assert line in str(error.value)
    places = {
        "lr_path": "model.cfg.optim.base_lr",
        "batch_size_path": "data.settings.loader.per_device_train_batch_size",
    }
    task = build_task(TaskSpec({"factory": "settings:build"}, (str(project),), **places), lr=0.7, plan=Plan(8))
    assert task.module.cfg.optim.base_lr == 0.7
    assert task.data.settings["loader"]["per_device_train_batch_size"] == 8
    wrong = TaskSpec(
        {"factory": "settings:build"}, (str(project),), lr_path="model.lr", batch_size_path="data.settings.x"
    )
    with pytest.raises(TaskError, match=r"Net has no 'lr'.*Did you mean 'cfg\.optim\.base_lr'|'hparams\.base_lr'"):
        build_task(wrong, lr=0.7, plan=Plan(8))


DEFAULTS = """
    from dataclasses import dataclass, field
    import pytorch_lightning as pl
    import torch

    @dataclass(slots=True)
    class Loader:
        batch_size: int = 4
        num_workers: int = 0

    @dataclass
    class Settings:
        loader: Loader = field(default_factory=Loader)
        noise: float = 0.3

    class Net(pl.LightningModule):
        def __init__(self, optimizer={"lr": 0.1, "momentum": 0.9}):
            super().__init__()
            self.optimizer = optimizer

    class Data(pl.LightningDataModule):
        def __init__(self, cfg=Settings()):
            super().__init__()
            self.cfg = cfg
"""


def test_a_nested_value_leaves_the_rest_of_an_argument_s_default_as_it_is(project: Path) -> None:
    (project / "defaults.py").write_text(textwrap.dedent(DEFAULTS))
    task = _task(project, "defaults.Net", "defaults.Data")
    with pytest.raises(TaskError, match=r"inject: \{lr: optimizer\.lr, batch_size: cfg\.loader\.batch_size\}"):
        build_task(task, lr=0.7, plan=Plan(8))
    paths = {"lr_path": "optimizer.lr", "batch_size_path": "cfg.loader.batch_size"}
    for size in (8, 16):
        built = build_task(replace(task, **paths), lr=0.7, plan=Plan(size), init_args={"data.cfg.noise": 0.5})
        assert built.module.optimizer == {"lr": 0.7, "momentum": 0.9}
        assert (built.data.cfg.loader.batch_size, built.data.cfg.noise) == (size, 0.5)
    defaults = import_object("defaults.Data")().cfg
    assert (defaults.loader.batch_size, defaults.noise) == (4, 0.3)
