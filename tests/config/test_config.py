"""A study file is read strictly, and every mistake is told with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bsopt.config import StudyConfig, json_schema, load_config, validate_config
from bsopt.errors import ConfigError
from bsopt.units import Amount

SMALLEST = """
name: digits
task: {model: model.Net, data: model.Data}
budget: {epochs: 3}
"""


def study(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(SMALLEST)
    return {**data, **changes}


def written(folder: Path, text: str = SMALLEST) -> Path:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_validations_may_come_early() -> None:
    budget = validate_config(study(budget={"epochs": 3, "validate_every": "geometric"}), source="here").budget
    assert budget.is_geometric
    assert budget.tick_every == Amount(1.0, "epochs")


def test_repeats_are_taken_from_the_budget_where_it_allows_them() -> None:
    made = {n: validate_config(study(budget={"epochs": 3, "trials": n}, confirm_seeds="auto"), source="here")
            for n in (14, 15, 30)}  # fmt: skip
    assert {n: config.num_searched for n, config in made.items()} == {14: 14, 15: 12, 30: 27}
    assert validate_config(study(confirm_seeds=2), source="here").num_searched == 30


def test_smallest_study_has_every_default(tmp_path: Path) -> None:
    loaded = load_config(written(tmp_path))
    config = loaded.config
    assert loaded.folder == tmp_path.resolve()
    assert config.search.batch_size.sizes() == (8, 16, 32, 64, 128, 256, 512, 1024)
    assert config.budget.trials == 30
    assert config.budget.validate_every == Amount(1.0, "epochs")
    assert config.pruning.patience == Amount(3.0, "epochs")
    assert config.folder == Path("runs/digits")
    assert config.storage == "sqlite:///bsopt.db"


def test_config_reads_back_the_same_from_its_plain_data() -> None:
    config = validate_config(study(budget={"epochs": 3, "time": "30 min"}, limits={"memory": "2 GiB"}))
    assert validate_config(config.as_dict()) == config


def test_class_path_may_stand_alone() -> None:
    model = validate_config(study()).task.model
    assert model is not None
    assert (model.class_path, model.init_args) == ("model.Net", {})


def test_numbers_may_be_written_without_a_dot(tmp_path: Path) -> None:
    text = SMALLEST + "search: {lr: {low: 1e-5, high: 1e-1}}\n"
    assert load_config(written(tmp_path, text)).config.search.lr.low == 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nmae": "x"}, "unknown key nmae. Did you mean 'name'?"),
        ({"budget": {"epochs": 3, "trails": 5}}, "unknown key budget.trails. Did you mean 'trials'?"),
        ({"search": {"lr": {"hihg": 1.0}}}, "unknown key search.lr.hihg. Did you mean 'high'?"),
        ({"search": {"params": {"model.wd": {"lwo": 1, "high": 2}}}}, "Did you mean 'low'?"),
        ({"search": {"params": {"choices": {"lwo": 1, "high": 2}}}}, "Did you mean 'low'?"),
        ({"search": {"batch_size": {"low": 64, "high": 32}}}, "search.batch_size: the range is empty"),
        ({"search": {"lr": {"low": 1.0, "high": 0.1}}}, "search.lr: the range is empty"),
        ({"search": {"batch_size": {"low": 33, "high": 63}}}, "between 33 and 63"),
        ({"search": {"lr": {"low": 0.0}}}, "search.lr.low"),
        ({"search": {"lr": {"rule": "linaer"}}}, "Did you mean 'linear'?"),
        ({"search": {"params": {"dropout": {"choices": [0, 1]}}}}, "model.dropout"),
        ({"search": {"params": {"lr": {"choices": [0, 1]}}}}, "search.params"),
        ({"search": {"params": {"model.x": {"low": 0, "high": 1, "log": True}}}}, "search.params.model.x: a log range"),
        ({"search": {"params": {"model.x": {"choices": []}}}}, "search.params.model.x: choices"),
        ({"search": {"params": {"model.x": {"low": 1}}}}, "search.params.model.x: give low and high"),
        ({"budget": {}}, "time_per_trial"),
        ({"budget": {"epochs": 3, "steps": 5}}, "epochs and steps"),
        ({"budget": {"epochs": 3, "validate_every": "3 min"}}, "budget.validate_every"),
        ({"budget": {"epochs": 3, "validate_every": 2}}, "budget.validate_every"),
        ({"budget": {"epochs": -1}}, "budget.epochs"),
        ({"objective": {"target": 0.3}}, "objective: target and cost"),
        ({"trainer": {"max_epochs": 3}}, "budget.epochs"),
        ({"trainer": {"accumulate_grad_batches": 2}}, "limits.max_micro_batch_size"),
        ({"task": {"model": "model.Net"}}, "task: data is missing"),
        ({"task": {}}, "factory or entry"),
        ({"task": {"factory": "a:b", "data": "x.D"}}, "task: data goes with model"),
        ({"task": {"entry": {"args": []}}}, "script or function"),
        ({"seed": -1}, "seed"),
        ({"workers": 0}, "workers"),
        ({"isolation": "thread"}, "isolation"),
        ({"limits": {"memory": "much"}}, "limits.memory"),
        ({"name": ""}, "name"),
        ({"name": "../../x"}, "is a path"),
        ({"name": "/abs"}, "is a path"),
        ({"name": ".."}, "is a path"),
        ({"name": "bell\x07"}, "can't be printed"),
        ({"name": "red \x1b[31m"}, "can't be printed"),
        ({"name": " blank"}, "blanks at its ends"),
        ({"search": {"lr": {"high": float("inf")}}}, "search.lr.high"),
        ({"search": {"lr": {"low": float("nan")}}}, "search.lr.low"),
        ({"search": {"batch_size": {"high": 10**12}}}, "search.batch_size.high"),
        ({"search": {"batch_size": {"lattice": {"multiple_of": 0}}}}, "n >= 1"),
        ({"search": {"batch_size": {"lattice": {"multiple_of": -8}}}}, "n >= 1"),
        ({"search": {"batch_size": {"lattice": {}}}}, "search.batch_size"),
        ({"search": {"batch_size": {"high": 10**9, "lattice": {"multiple_of": 1}}}}, "999,999,993 batch sizes"),
        ({"search": {"params": {"model.x": {"low": 0, "high": float("inf")}}}}, "search.params.model.x.high"),
        ({"search": {"params": {"model.x": {"low": 0, "high": 1, "step": 0}}}}, "search.params.model.x.step"),
        ({"search": {"params": {"model.x": {"low": 0, "high": 1, "step": -0.1}}}}, "search.params.model.x.step"),
        ({"search": {"params": {"model.x": {"low": 0, "high": 1, "step": 2}}}}, "leads out of the range"),
        ({"search": {"params": {"model.x": {"low": 0.5, "high": 3, "integer": True}}}}, "whole numbers"),
        ({"search": {"params": {"model.x": {"choices": [1, 2], "step": 1}}}}, "choices take no"),
        ({"search": {"params": {"model..x": {"choices": [1]}}}}, "by its path"),
        ({"search": {"params": {"model.lr": {"low": 0, "high": 1}}}}, "search.lr searches already"),
        ({"search": {"params": {"model.learning_rate": {"low": 0, "high": 1}}}}, "search.lr searches already"),
        ({"search": {"params": {"data.batch_size": {"choices": [8]}}}}, "search.batch_size searches already"),
        (
            {"search": {"params": {"model.optimizer.lr": {"low": 0, "high": 1}}}, "inject": {"lr": "optimizer.lr"}},
            "search.lr searches already",
        ),
        ({"search": {"prior_from": "digits"}}, "names the study itself"),
        ({"objective": {"monitor": ""}}, "objective.monitor"),
        ({"objective": {"target": float("nan"), "cost": "seconds"}}, "objective.target"),
        ({"budget": {"epochs": float("inf")}}, "budget.epochs"),
        ({"budget": {"epochs": 3, "time": float("inf")}}, "budget.time"),
        ({"budget": {"epochs": 3, "time": "-5 min"}}, "budget.time"),
        ({"budget": {"epochs": 3, "time_per_trial": "1e400 s"}}, "must be positive, and at most"),
        ({"budget": {"epochs": 3, "trials": 10**9}}, "budget.trials"),
        ({"limits": {"memory": -1}}, "limits.memory"),
        ({"limits": {"memory": "0 GiB"}}, "above 0"),
        ({"confirm_seeds": 10**9}, "confirm_seeds"),
        ({"workers": 10**9}, "workers"),
        ({"experiment": {"batch_sizes": [8, 16], "reference_lr": 0.01, "seeds": 10**9}}, "experiment.seeds"),
        ({"trainer": {"num_nodes": -1}}, "trainer.num_nodes must be at least 1"),
        ({"trainer": {"num_nodes": "two"}}, "trainer.num_nodes must be a whole number"),
        ({"trainer": {"devices": 0}}, "trainer.devices must be at least 1"),
        ({"trainer": {"limit_train_batches": 0}}, "trainer.limit_train_batches must be above 0"),
        ({"trainer": {"limit_val_batches": 0.0}}, "trainer.limit_val_batches must be above 0"),
        ({"trainer": {"callbacks": ["my.Callback"]}}, "trainer.callbacks takes"),
        ({"trainer": {"callbacks": 5}}, "trainer.callbacks takes"),
    ],
)
def test_mistake_is_told_with_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_config(study(**changes))
    assert message in str(caught.value)
    assert "pydantic" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "old", "new"),
    [
        ({"search": {"also": {}}}, "search.also", "params"),
        ({"objective": {"target": 0.3, "minimize": "seconds"}}, "objective.minimize", "cost"),
        ({"checkpoints": {"of": "all"}}, "checkpoints.of", "trials"),
        ({"confirm": 2}, "confirm", "confirm_seeds"),
    ],
)
def test_old_key_names_the_new_one(changes: dict[str, Any], old: str, new: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_config(study(**changes))
    assert f"unknown key {old}. Did you mean {new!r}?" in str(caught.value)


def test_experiment_outside_the_search_is_refused() -> None:
    design = {"batch_sizes": [8, 64], "reference_lr": 0.01}
    validate_config(study(experiment=design))
    for block in (
        {"batch_size": {"high": 32}},
        {"batch_size": {"lattice": {"multiple_of": 16}}},
        {"lr": {"high": 0.07}},
    ):
        with pytest.raises(ConfigError, match="widen it"):
            validate_config(study(experiment=design, search=block))
    validate_config(study(experiment=design, search={"batch_size": {"low": 5, "lattice": "any"}}))


@pytest.mark.parametrize(
    ("variant", "changes", "words"),
    [
        ({}, {}, "a variant changes something"),
        ({"trainer": {"devices": 2}}, {}, "trainer.devices is the same for all variants"),
        ({"trainer": {"max_epochs": 2}}, {}, "variants.one.trainer.max_epochs is bsopt's to set; use budget.epochs"),
        ({"params": {"model.lr": 0.1}}, {}, "variants.one.params.model.lr is what the experiment's arms set"),
        ({"ghost_batch_norm": 1}, {}, "experiment.variants.one.ghost_batch_norm"),
        ({"ghost_batch_norm": 8}, {"trainer": {"sync_batchnorm": True}}, "contradict each other"),
        ({"ghost_batch_norm": 8}, {"budget": {"epochs": 3}}, "give them a study without one, budget.trials: 0"),
        ({"ghost_batch_norm": 8, "arms": ["higher_lr"]}, {}, "compared with the runs of higher_lr, which arms leaves"),
        ({"also": 1}, {}, "experiment.variants.one.also"),
    ],
)
def test_mistakes_in_a_variant_are_told(variant: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    design = {"batch_sizes": [8, 16], "reference_lr": 0.01, "arms": ["fixed_lr", "scaled_lr"]}
    good = {"trainer": {"precision": "bf16-mixed"}}
    rest = {"budget": {"epochs": 3, "trials": 0}, "experiment": {**design, "variants": {"good": good}}}
    validate_config(study(**rest))
    rest["experiment"]["variants"]["one"] = variant
    with pytest.raises(ConfigError) as caught:
        validate_config(study(**{**rest, **changes}))
    assert words in str(caught.value)


def test_every_mistake_is_listed_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        validate_config({"task": {"factory": "a:b"}, "budget": {"epochs": 1}, "sead": 1})
    assert "name is missing." in str(caught.value)
    assert "unknown key sead. Did you mean 'seed'?" in str(caught.value)


def test_overrides_replace_add_and_read_yaml(tmp_path: Path) -> None:
    overrides = [
        "budget.trials=10",
        "search.lr.low=1e-3",
        "task.model.init_args.width=64",
        "pruning.pruner=median",
        "trainer.devices=[0, 1]",
    ]
    config = load_config(written(tmp_path), overrides).config
    assert config.budget.trials == 10
    assert config.budget.epochs == 3
    assert config.search.lr.low == 1e-3
    assert config.task.model is not None
    assert config.task.model.init_args == {"width": 64}
    assert config.pruning.pruner == "median"
    assert config.trainer == {"devices": [0, 1]}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget.trials", "--set takes key.path=value"),
        ("=3", "--set takes key.path=value"),
        ("budget.trails=3", "unknown key budget.trails. Did you mean 'trials'?"),
        ("name.x=3", "name is no mapping"),
        ("budget.trials=[", "no valid YAML"),
        ("budget.trials=many", "budget.trials"),
    ],
)
def test_wrong_override_is_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path), [override])
    assert message in str(caught.value)


def test_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"can't read the study file .*nowhere\.yaml.*bsopt init"):
        load_config(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "no valid YAML"),
        ("- 1\n- 2\n", "must hold a mapping"),
        ("", "must hold a mapping"),
        ("name: a\nname: b\n", "the key 'name' is given twice"),
        ("name: !!python/object/apply:os.getcwd []\n", "no valid YAML"),
    ],
)
def test_file_that_is_no_study_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path, text))


@pytest.mark.parametrize(
    ("space", "sizes"),
    [
        ({"low": 8, "high": 64}, (8, 16, 32, 64)),
        ({"low": 5, "high": 63}, (8, 16, 32)),
        ({"low": 10, "high": 40, "lattice": {"multiple_of": 12}}, (12, 24, 36)),
        ({"low": 10, "high": 40, "lattice": "any"}, (10, 40)),
        ({"low": 32, "high": 32}, (32,)),
    ],
)
def test_lattice_gives_the_batch_sizes(space: dict[str, Any], sizes: tuple[int, ...]) -> None:
    assert validate_config(study(search={"batch_size": space})).search.batch_size.sizes() == sizes


@pytest.mark.parametrize("value", [None, False, "none"])
def test_pruning_can_be_switched_off_in_a_word(value: object) -> None:
    assert validate_config(study(pruning=value)).pruning.pruner == "none"


def test_schema_names_every_key_and_refuses_others() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == set(StudyConfig.model_fields)
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"name", "task", "budget"}
