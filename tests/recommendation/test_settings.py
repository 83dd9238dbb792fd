"""What is pasted goes where the study's code takes it."""

from __future__ import annotations

import yaml

from bsopt.recommendation.settings import UserCode, as_python, as_yaml
from bsopt.trial.asked import code_in
from bsopt.trial.plan import Plan

PLAN = Plan(32, 2)
NESTED = {
    "task": {
        "model": {
            "class_path": "net.Net",
            "init_args": {"cfg": {"optim": {"lr": 0.05, "momentum": 0.9}}, "width": 32},
        },
        "data": {"class_path": "net.Data", "init_args": {"loader": {"train_bs": 8, "eval_bs": 100}}},
    },
    "inject": {"lr": "cfg.optim.lr", "batch_size": "data.loader.train_bs"},
}
SCRIPT = {
    "task": {
        "entry": {
            "script": "train.py",
            "args": ["--lr", "{lr}", "--bs", "{batch_size}", "--steps", "{max_steps}", "--wd", "{model.wd}", "{x}"],
        }
    }
}


def code(config: dict[str, object], **others: object) -> UserCode:
    return UserCode(code_in(config), **others)  # type: ignore[arg-type]


def test_values_go_where_inject_says_and_their_mapping_stands_whole() -> None:
    settings = yaml.safe_load(as_yaml(code(NESTED), 0.0123456, PLAN))
    assert settings == {
        "model": {"cfg": {"optim": {"lr": 0.01235, "momentum": 0.9}}},
        "data": {"loader": {"train_bs": 32, "eval_bs": 100}},
        "trainer": {"accumulate_grad_batches": 2, "devices": 1, "num_nodes": 1},
    }
    python = as_python(code(NESTED), 0.0123456, PLAN)
    assert "YourModule(cfg={'optim': {'lr': 0.01235, 'momentum': 0.9}})" in python
    assert "YourDataModule(loader={'train_bs': 32, 'eval_bs': 100})" in python
    compile(python, "snippet", "exec")


def test_the_rest_of_a_default_that_the_study_file_does_not_have_is_told() -> None:
    inject = {"lr": "optimizer.lr", "batch_size": "cfg.loader.batch_size"}
    bare = {"task": {"model": {"class_path": "n.N"}, "data": {"class_path": "n.D"}}, "inject": inject}
    model, data, *_ = as_python(code(bare), 0.01, PLAN).splitlines()
    assert model == "model = YourModule(optimizer={'lr': 0.01})  # keep the rest of optimizer as it is by default"
    assert data.startswith("data = YourDataModule(cfg={'loader': {'batch_size': 32}})  # 32 × 2 accumulated = 64 ")
    assert data.endswith("samples per optimizer update; keep the rest of cfg as it is by default")
    assert "by default" not in as_python(code(NESTED), 0.01, PLAN)


def test_nested_class_is_entered_through_its_arguments() -> None:
    optimizer = {"class_path": "net.Adam", "init_args": {"lr": 0.1, "eps": 1e-8}}
    nested = {"task": {"model": {"class_path": "n.N", "init_args": {"opt": optimizer}}}, "inject": {"lr": "opt.lr"}}
    settings = yaml.safe_load(as_yaml(code(nested), 1e-5, PLAN))
    assert settings["model"] == {"opt": {"class_path": "net.Adam", "init_args": {"lr": 1e-5, "eps": 1e-8}}}
    assert "YourModule(opt=Adam(lr=1e-05, eps=1e-08))" in as_python(code(nested), 1e-5, PLAN)


def test_script_is_shown_with_its_arguments_filled_in() -> None:
    script = code(SCRIPT, params={"model.wd": 0.1}, budget_samples=8192.0)
    args = ["--lr", "0.01235", "--bs", "32", "--steps", "128", "--wd", "0.1", "{x}"]
    settings = yaml.safe_load(as_yaml(script, 0.0123456, PLAN))
    assert settings["entry"] == {"script": "train.py", "args": args}
    assert not {"model", "data"} & settings.keys()
    python = as_python(script, 0.0123456, PLAN)
    assert "python train.py --lr 0.01235 --bs 32 --steps 128 --wd 0.1" in python
    assert "YourModule" not in python
    compile(python, "snippet", "exec")


def test_what_a_script_has_no_argument_for_is_told_beside_it() -> None:
    config = {"task": {"entry": {"script": "t.py", "args": ["{lr}"]}}, "inject": {"batch_size": "loader.bs"}}
    settings = yaml.safe_load(as_yaml(code(config), 0.01, PLAN))
    assert settings["entry"]["args"] == ["0.01"]
    assert settings["data"] == {"loader": {"bs": 32}}


def test_updates_of_whole_epochs_are_counted_by_epoch() -> None:
    config = {"task": {"entry": {"script": "t.py", "args": ["{lr}", "{max_steps}", "{max_epochs}"]}}}
    told = code(config, num_train_samples=1000, budget_samples=2000.0)
    assert yaml.safe_load(as_yaml(told, 0.01, PLAN))["entry"]["args"] == ["0.01", "32", "2"]


def test_a_batch_size_that_counts_tokens_is_not_told_in_samples_and_updates_are_counted_in_them() -> None:
    config = {"task": {"entry": {"script": "t.py", "args": ["{lr}", "{max_steps}"]}}}
    told = code(config, num_train_samples=400, budget_samples=1200.0, units_per_sample=9.12)
    assert yaml.safe_load(as_yaml(told, 0.01, PLAN))["entry"]["args"] == ["0.01", "171"]
    classes = {"task": {"model": {"class_path": "n.N"}, "data": {"class_path": "n.D"}}}
    inject = {"inject": {"batch_size": "max_tokens"}}
    text = as_python(code({**classes, **inject}, units_per_sample=9.12), 0.01, PLAN)
    assert "# 32 × 2 accumulated = 64 of what max_tokens counts, about 7 samples, per optimizer update\n" in text


def test_batch_size_of_a_data_module_that_divides_it_is_global() -> None:
    settings = yaml.safe_load(as_yaml(code({"inject": {"batch_size_is": "global"}}), 0.01, PLAN))
    assert settings["data"] == {"batch_size": 64}


def test_usual_names_are_the_study_files() -> None:
    config = {"task": {"model": {"class_path": "n.N", "init_args": {"learning_rate": 0.1}}}}
    assert yaml.safe_load(as_yaml(code(config), 0.01, PLAN))["model"] == {"learning_rate": 0.01}


def test_factory_is_called_with_what_it_takes() -> None:
    python = as_python(code({"task": {"factory": "pkg.mod:make"}}), 0.01, PLAN)
    assert python.startswith("model, data = make(lr=0.01, batch_size=32)")


def test_names_are_those_that_building_the_task_showed() -> None:
    config = {"task": {"model": {"class_path": "n.N"}, "data": {"class_path": "n.D"}}}
    seen = code(config, places={"lr": "model.learning_rate", "batch_size": "data.batch_size"})
    assert yaml.safe_load(as_yaml(seen, 0.01, PLAN))["model"] == {"learning_rate": 0.01}
    assert "YourModule(learning_rate=0.01)" in as_python(seen, 0.01, PLAN)


def test_further_parameters_are_pasted_where_they_go() -> None:
    config = {"task": {"model": {"class_path": "n.N"}}, "search": {"params": {}}}
    params = {"model.weight_decay": 0.1, "data.crop": "random", "width": 3}
    settings = yaml.safe_load(as_yaml(code(config, params=params), 0.01, PLAN))
    assert settings["model"] == {"lr": 0.01, "weight_decay": 0.1, "width": 3}
    assert settings["data"] == {"batch_size": 32, "crop": "random"}


def test_lightning_cli_is_shown_with_the_options_that_set_the_values() -> None:
    config = {"task": {"entry": {"script": "main.py", "args": ["fit", "--config", "a.yaml", "--T={max_epochs}"]}}}
    places = {"lr": "--optimizer.lr", "batch_size": "--data.batch_size", "model.width": "--model.width"}
    seen = code(config, places=places, params={"model.width": 8}, num_train_samples=1000, budget_samples=2000.0)
    python = as_python(seen, 0.01, PLAN)
    assert python == (
        "# python main.py fit --config a.yaml --T=2 --model.width=8 --data.batch_size=32 --optimizer.lr=0.01 "
        "--trainer.accumulate_grad_batches=2 --trainer.devices=1 --trainer.num_nodes=1  # 32 × 2 "
        "accumulated = 64 samples per optimizer update\n"
    )
    settings = yaml.safe_load(as_yaml(seen, 0.01, PLAN))
    assert (settings["optimizer"], settings["data"], settings["model"]) == (
        {"lr": 0.01},
        {"batch_size": 32},
        {"width": 8},
    )
    assert "entry" not in settings
