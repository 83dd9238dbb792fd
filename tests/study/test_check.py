"""What can be told of a study without training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bsopt.config import StudyConfig
from bsopt.study.check import CheckReport, misfits, report
from bsopt.study.make_spec import largest_batch_of
from bsopt.study.study import Study
from bsopt.trial.plan import Limits
from bsopt.trial.spec import TaskDescription

Configure = Callable[..., StudyConfig]
LIMITS = Limits(max_global_batch_size=96)


def search(**changes: Any) -> dict[str, Any]:
    return {"batch_size": {"low": 4, "high": 32}, "lr": {"low": 0.001, "high": 0.3}, **changes}


def test_a_study_that_fits_has_no_misfits(configure: Configure, description: TaskDescription) -> None:
    assert misfits(configure(), description, LIMITS) == []


@pytest.mark.parametrize(
    "monitor", ["val/r2", "val_acc", "val/top1", "BinaryF1Score", "valid AUROC", "val_MulticlassAccuracy"]
)
def test_the_direction_is_asked_for_where_more_of_the_metric_is_usually_better(
    configure: Configure, description: TaskDescription, monitor: str
) -> None:
    (found,) = misfits(configure(objective={"monitor": monitor}), description, LIMITS)
    assert f"objective.monitor is {monitor}, which would be minimised" in found
    assert "set objective.direction to maximize" in found
    for direction in ("minimize", "maximize"):
        said = configure(objective={"monitor": monitor, "direction": direction})
        assert misfits(said, description, LIMITS) == []


@pytest.mark.parametrize("monitor", ["val_loss", "acc_loss", "val/top1_error", "vaccine", "val/mse", "distance"])
def test_the_direction_is_not_asked_for_where_less_may_be_better(
    configure: Configure, description: TaskDescription, monitor: str
) -> None:
    assert misfits(configure(objective={"monitor": monitor}), description, LIMITS) == []


@pytest.mark.parametrize(
    ("blocks", "changes", "limits", "words"),
    [
        (
            {
                "search": search(batch_size={"low": 4, "high": 128}),
                "budget": {"trials": 1, "epochs": 4, "validate_every": "2 epochs"},
            },
            {},
            LIMITS,
            "has 96 samples: set it to 64",
        ),
        (
            {
                "search": search(batch_size={"low": 4, "high": 256}, lr={"low": 0.001, "high": 1.0}),
                "budget": {"trials": 0, "epochs": 4, "validate_every": "4 epochs"},
                "experiment": {"batch_sizes": [32, 128, 256], "reference_lr": 0.01},
            },
            {},
            LIMITS,
            "set it to 64, and leave 128 and 256 out of experiment.batch_sizes",
        ),
        ({"budget": {"trials": 1, "epochs": 1, "validate_every": "16 samples"}}, {}, LIMITS, "less than the largest"),
        (
            {"pruning": {"patience": "2 epochs"}},
            {"num_train_samples": None},
            LIMITS,
            "  budget: {samples: 30000, validate_every: 10000 samples}\n  pruning: {patience: 20000 samples}\n",
        ),
        (
            {
                "budget": {"trials": 1, "samples": 96, "validate_every": "32 samples"},
                "pruning": {"patience": "1 epoch"},
            },
            {"num_train_samples": None},
            LIMITS,
            "for a pass over the data:\n  pruning: {patience: 10000 samples}\n",
        ),
        (
            {"budget": {"trials": 1, "epochs": 4, "validate_every": "2 epochs"}},
            {"has_epoch_plateau_scheduler": True},
            LIMITS,
            "must be at most 1 epoch",
        ),
        ({}, {"is_automatic": False}, Limits(max_micro_batch_size=8), "optimizes by hand"),
        ({}, {}, Limits(max_micro_batch_size=2, allow_accumulation=False), "accumulation is off"),
        (
            {"objective": {"target": 0.1, "cost": "seconds"}, "pruning": "median"},
            {},
            LIMITS,
            "only pruning.pruner plateau or none",
        ),
        (
            {"search": search(lr={"low": 0.001, "high": 0.3, "reference": {"batch_size": 128, "lr": 0.1}})},
            {},
            LIMITS,
            "reference.batch_size is 128, above the training set's 96",
        ),
    ],
)
def test_each_misfit_is_told_alone(
    configure: Configure,
    description: TaskDescription,
    blocks: dict[str, Any],
    changes: dict[str, Any],
    limits: Limits,
    words: str,
) -> None:
    (found,) = misfits(configure(**blocks), replace(description, **changes), limits)
    assert words in found


@pytest.mark.parametrize(
    ("variant", "has_batch_norm", "memory", "words"),
    [
        ({"ghost_batch_norm": 4}, False, None, "ghost_batch_norm: Toy has no BatchNorm layer"),
        ({"ghost_batch_norm": 8}, True, None, "in the smallest batch a device gets 4 samples at a time: at most 4"),
        ({"trainer": {"precision": "16-mixed"}}, True, None, "16-mixed needs CUDA; this is cpu"),
        ({"trainer": {"precision": "16-mixed"}}, True, 10**10, None),
        ({"trainer": {"precision": "bf16-mixed"}, "ghost_batch_norm": 4}, True, None, None),
    ],
)
def test_what_a_variant_asks_of_model_and_device_is_looked_up(
    configure: Configure,
    description: TaskDescription,
    variant: dict[str, Any],
    has_batch_norm: bool,
    memory: int | None,
    words: str | None,
) -> None:
    design = {"batch_sizes": [4, 32], "reference_lr": 0.01, "arms": ["fixed_lr", "scaled_lr"]}
    config = configure(
        search=search(), budget={"trials": 0, "epochs": 1}, experiment={**design, "variants": {"v": variant}}
    )
    told = replace(description, module="Toy", has_batch_norm=has_batch_norm, device_memory_bytes=memory)
    found = misfits(config, told, LIMITS)
    assert len(found) == (words is not None)
    assert words is None or (found[0].startswith("experiment.variants.v.") and words in found[0])


def test_every_batch_size_has_its_plan_or_what_stands_in_its_way(
    configure: Configure, description: TaskDescription
) -> None:
    made = report(configure(), description, Limits(num_devices=8, max_micro_batch_size=2), storage="memory://")
    found = dict(made.plans)
    assert list(found) == [4, 8, 16, 32]
    assert "no multiple of the 8 devices" in found[4]
    assert found[8] == "1 × 8 devices = 8"
    assert found[32] == "2 × 2 accumulated × 8 devices = 32 (memory allows 2 samples in one pass, 4 are needed)"


@pytest.fixture
def warned(configure: Configure, description: TaskDescription) -> Callable[..., list[str]]:
    """Return a function that lists the warnings for a description and some blocks."""

    def warn(changes: dict[str, Any], **blocks: Any) -> list[str]:
        made: CheckReport = report(configure(**blocks), replace(description, **changes), LIMITS, storage="memory://")
        return list(made.warnings)

    return warn


def test_samples_that_drop_last_leaves_out_are_told_above_a_twentieth(warned: Callable[..., list[str]]) -> None:
    assert warned({"drop_last": True}) == []  # 96 has every size as a divisor
    at_16, at_32 = warned({"drop_last": True, "num_train_samples": 90})
    assert "leaves out 11% of the training set at batch size 16" in at_16
    assert "leaves out 29% of the training set at batch size 32" in at_32
    assert warned({"num_train_samples": 90}) == []


def test_samples_that_drop_last_leaves_out_are_those_of_the_micro_batches(
    configure: Configure, description: TaskDescription
) -> None:
    dropping = replace(description, drop_last=True, num_train_samples=90)
    made = report(configure(), dropping, Limits(max_micro_batch_size=8), storage="memory://")
    assert made.warnings == ()  # 2 of 90, whichever multiple of 8 a batch is


def test_batches_that_are_not_counted_in_samples_are_told(warned: Callable[..., list[str]]) -> None:
    (found,) = warned({"num_train_batches": 240})
    assert "an epoch has 240 batches at batch size 4, where 96 samples make 24" in found
    assert warned({"num_train_batches": 24}) == []


def test_batches_that_are_not_counted_in_samples_may_be_larger_than_the_number_of_samples(
    configure: Configure, description: TaskDescription
) -> None:
    in_tokens = replace(description, num_train_batches=240)  # 96 sequences of 10 tokens, in batches of 4 tokens
    most = largest_batch_of(configure(), in_tokens)
    assert most == 960
    reference = {"low": 0.001, "high": 0.3, "reference": {"batch_size": 512, "lr": 0.1}}
    large = configure(search=search(batch_size={"low": 4, "high": 512}, lr=reference))
    assert misfits(large, in_tokens, Limits(max_global_batch_size=most)) == []
    too_large = configure(search=search(batch_size={"low": 4, "high": 1024}))
    found = misfits(too_large, in_tokens, Limits(max_global_batch_size=most))
    assert found[0] == "search.batch_size.high is 1024, but an epoch's batches hold 960 in all: set it to 512."


def test_a_batch_norm_with_few_samples_is_told(warned: Callable[..., list[str]]) -> None:
    (found,) = warned({"has_batch_norm": True})
    assert "as few as 4 samples" in found
    assert warned({"has_batch_norm": True}, search=search(batch_size={"low": 16, "high": 32})) == []


def test_a_design_that_cannot_be_judged_is_told(warned: Callable[..., list[str]]) -> None:
    experiment = {"batch_sizes": [4, 8], "reference_lr": 0.01, "seeds": 2}
    few, unkept = warned({}, experiment=experiment)
    assert "below 5" in few
    assert "checkpoints: all" in unkept
    assert warned({}, experiment={**experiment, "seeds": 5}, checkpoints="all") == []


def test_every_setting_is_listed_and_the_storage_as_it_may_be_seen(
    configure: Configure, description: TaskDescription
) -> None:
    config = configure(storage="postgresql://me:secret@host/x")
    rows = report(config, description, LIMITS, storage="postgresql://me:***@host/x").rows
    found = dict(rows)
    assert found["storage"] == "postgresql://me:***@host/x"
    assert len(found) == len(rows)
    assert (found["budget.epochs"], found["search.lr.high"], found["experiment"]) == ("3.0", "0.3", "—")
    assert not any("secret" in text for text in found.values())


def test_the_task_s_optimizer_is_told_with_its_rule_and_its_reference(
    configure: Configure, description: TaskDescription
) -> None:
    made = report(configure(), replace(description, optimizer="AdamW"), LIMITS, storage="memory://")
    assert dict(made.rows)["optimizer"].startswith("AdamW, sqrt rule through batch size 32, lr 0.00")


def checked(load: Callable[..., Any], *overrides: str) -> CheckReport:
    return Study.check(load("isolation=none", *overrides))


def test_one_step_is_trained_and_validated(load: Callable[..., Any]) -> None:
    made = checked(load, "limits.max_micro_batch_size=4")
    assert made.problems == ()
    assert dict(made.rows)["first step"].startswith("batch size 4 × 2 accumulated = 8, then val_loss ")


def test_a_step_at_the_first_trial_s_batch_size_is_tried_too(load: Callable[..., Any]) -> None:
    (problem,) = checked(load, "task.model.init_args.trouble=small").problems
    assert problem.startswith("one step was trained at batch size 8, and a trial would fail like it:")
    assert "at most 4 samples" in problem


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("objective.monitor=val_los", "Did you mean 'val_loss'"),
        ("task.model.init_args.trouble=deaf", "asked for learning rate 0.001, but the optimizer has 0.123"),
        ("task.model.init_args.trouble=raise", "the user's code is broken"),
    ],
)
def test_a_first_step_that_fails_is_a_problem_before_any_trial(
    load: Callable[..., Any], override: str, words: str
) -> None:
    (problem,) = checked(load, override).problems
    assert words in problem
    assert Study.check(load("isolation=none", override), step=False).problems == ()


@pytest.mark.parametrize(
    ("blocks", "state_bytes", "told"),
    [
        ({"pruning": "plateau"}, 2**20, "go on from their state, at most 1 MiB each, and so do paused ones"),
        ({}, 2**20, "go on from their state, at most 1 MiB each"),
        ({}, 2**30, "begin anew; resume: true keeps their state, at most 1.00 GiB each"),
        ({"resume": True}, 2**30, "go on from their state, at most 1.00 GiB each"),
        ({"resume": False}, 2**20, "begin anew"),
    ],
)
def test_what_becomes_of_interrupted_trials_is_told(
    configure: Configure, description: TaskDescription, blocks: dict[str, Any], state_bytes: int, told: str
) -> None:
    found = report(configure(**blocks), replace(description, state_bytes=state_bytes), LIMITS, storage="s")
    assert dict(found.rows)["interrupted trials"] == told
