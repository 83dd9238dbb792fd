"""One trial: the same update however it is realised, and a record of whatever happens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bsopt.errors import InjectionError, MachineError, MetricError, TaskError
from bsopt.training.processes.crash import Crash
from bsopt.training.processes.launcher import Launcher, run_here
from bsopt.training.processes.supervision import DirectChannel, Supervision
from bsopt.training.task.describe import describe_task
from bsopt.trial.curve import end_by_value
from bsopt.trial.objective import Objective
from bsopt.trial.plan import Plan
from bsopt.trial.record import StopReason, Tick
from bsopt.trial.spec import Budget, StopDecision, TrialSpec
from bsopt.units import Amount


def _weights(spec: TrialSpec) -> torch.Tensor:
    state = torch.load(Path(spec.folder) / "best.ckpt", weights_only=False)["state_dict"]
    return torch.cat([state[name].flatten() for name in sorted(state)])


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("n", [96, 80])
def test_one_batch_accumulated_and_two_ranks_end_at_the_same_weights(train: Any, spec: TrialSpec, n: int) -> None:
    ends = []
    for plan in (Plan(32), Plan(16, 2), Plan(8, 4), Plan(16, 1, 2)):
        train(plan, data={"n": n, "shuffle": False}, model={"momentum": 0.9}, checkpoints=("best",))
        ends.append(_weights(spec))
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-5, atol=1e-6)


def test_short_accumulation_windows_are_rescaled_before_clipping(train: Any, spec: TrialSpec) -> None:
    ends = []
    for plan in (Plan(32), Plan(16, 2)):
        trainer = {**spec.trainer, "gradient_clip_val": 0.5}
        train(plan, data={"n": 80, "shuffle": False}, checkpoints=("best",), trainer=trainer)
        ends.append(_weights(spec))
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-5, atol=1e-6)


def test_manual_optimization_trains_and_refuses_accumulation(train: Any) -> None:
    assert train(Plan(8), model={"trouble": "manual"}).stop_reason is StopReason.COMPLETED
    with pytest.raises(TaskError, match="optimizes by hand"):
        train(Plan(4, 2), model={"trouble": "manual"})


def test_a_module_that_accumulates_by_hand_is_told_that_its_updates_are_larger(train: Any) -> None:
    (told,) = train(Plan(8), model={"trouble": "manual@4"}).warnings
    assert "steps every 4 batches, so that an update has 4 times the batch size told" in told
    assert train(Plan(8), model={"trouble": "manual"}).warnings == ()


def test_the_answer_to_a_tick_ends_the_trial(train: Any) -> None:
    answer = StopDecision(StopReason.CONVERGED, message="flat")
    record = train(on_tick=lambda tick: answer if tick.index == 2 else StopDecision())
    assert (record.stop_reason, record.message, len(record.ticks)) == (StopReason.CONVERGED, "flat", 2)


@pytest.mark.slow
def test_a_paused_trial_goes_on_with_its_schedule_where_it_stood(train: Any, tmp_path: Path) -> None:
    settings = {"model": {"momentum": 0.9, "schedule": "onecycle"}, "data": {"shuffle": False}}
    whole = train(**settings)
    state = str(tmp_path / "resume.ckpt")
    pause = StopDecision(StopReason.PAUSED, message="paused")
    paused = train(**settings, resume_file=state, on_tick=lambda tick: pause if tick.index == 1 else StopDecision())
    assert (paused.stop_reason, paused.outcome, len(paused.ticks)) == (StopReason.PAUSED, "pruned", 1)
    told: list[Tick] = []
    rest = train(**settings, resume_file=state, on_tick=lambda tick: told.append(tick) or StopDecision())
    assert [tick.index for tick in told] == [1, 2, 3]
    assert [tick.lr for tick in rest.ticks] == pytest.approx([tick.lr for tick in whole.ticks])
    assert [tick.step for tick in rest.ticks] == [tick.step for tick in whole.ticks]
    assert rest.ticks[0].value == whole.ticks[0].value > rest.ticks[1].value


def test_a_trial_that_goes_on_has_the_samples_and_the_energy_of_all_its_parts(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Meter:
        source = "nvml"

        def __init__(self, device: torch.device) -> None:
            pass

        def joules(self) -> float:
            return 100.0  # of each part

    monkeypatch.setattr("bsopt.callbacks.throughput_monitor.EnergyMeter", Meter)
    state, pause = str(tmp_path / "resume.ckpt"), StopDecision(StopReason.PAUSED, message="paused")
    paused = train(resume_file=state, on_tick=lambda tick: pause if tick.index == 1 else StopDecision())
    rest = train(resume_file=state)
    assert (paused.energy_joules, rest.energy_joules) == (100.0, 200.0)
    assert (paused.samples_exact, rest.samples_exact) == (96, 3 * 96)


@pytest.mark.slow
@pytest.mark.parametrize("tick_every", [Amount(1, "epochs"), Amount(8, "samples")])  # the latter ends at a tick
def test_time_limit_ends_a_trial_as_timeout(train: Any, tick_every: Amount) -> None:
    record = train(budget=Budget(Amount(100_000, "epochs"), tick_every, seconds=0.2))
    assert record.stop_reason is StopReason.TIMEOUT
    assert record.outcome == "complete"


def test_target_ends_a_trial(train: Any) -> None:
    objective = Objective("val_loss", target=1e9)
    record = train(objective=objective, on_tick=lambda tick: end_by_value([tick], objective))
    assert record.stop_reason is StopReason.TARGET_REACHED
    assert len(record.ticks) == 1


def test_one_undefined_value_of_the_metric_is_left_out_and_told(train: Any) -> None:
    ticks: list[Tick] = []

    def decide(tick: Tick) -> StopDecision:
        ticks.append(tick)
        return end_by_value(ticks, Objective("val_loss"))

    record = train(model={"trouble": "nan@2"}, on_tick=decide)
    assert (record.stop_reason, len(record.ticks)) == (StopReason.COMPLETED, 3)
    assert [tick.is_training_finite for tick in record.ticks] == [None, None, True]
    assert record.value == min(tick.value for tick in record.ticks[:2])
    assert "val_loss wasn't finite at 1 of 3 validations" in record.warnings[0]
    ticks.clear()
    ended = train(model={"trouble": "nan@1"}, on_tick=decide)
    assert (ended.stop_reason, len(ended.ticks)) == (StopReason.DIVERGED, 3)
    assert "the training loss stayed finite: look at the metric" in ended.message


def test_a_training_that_blows_up_ends_at_its_first_value_that_is_not_finite(train: Any) -> None:
    record = train(
        lr=1e6, params={"batch_size": 8, "lr": 1e6}, on_tick=lambda t: end_by_value([t], Objective("val_loss"))
    )
    assert record.stop_reason is StopReason.DIVERGED
    assert record.ticks[-1].is_training_finite is False
    assert "look at the metric" not in record.message
    assert record.warnings == ()


def test_a_metric_that_is_never_finite_is_divergence(train: Any) -> None:
    record = train(model={"trouble": "nan"}, budget=Budget(Amount(1, "epochs"), Amount(1, "epochs")))
    assert (record.stop_reason, record.outcome, record.value) == (StopReason.DIVERGED, "pruned", None)


def test_out_of_memory_is_a_stop_reason(train: Any) -> None:
    record = train(model={"trouble": "memory@1"})
    assert record.stop_reason is StopReason.OUT_OF_MEMORY
    assert len(record.ticks) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, StopReason.COMPLETED),
        ({"budget": Budget(Amount(24, "steps"), Amount(1, "epochs"))}, StopReason.COMPLETED),
        ({"on_tick": lambda tick: StopDecision(StopReason.PRUNED, "hopeless")}, StopReason.PRUNED),
    ],
)
def test_what_fails_after_the_last_tick_costs_nothing_that_was_measured(
    train: Any, changes: dict[str, Any], reason: StopReason
) -> None:
    record = train(model={"trouble": "late"}, **changes)
    assert record.stop_reason is reason
    assert len(record.ticks) == (1 if reason is StopReason.PRUNED else 2 if "budget" in changes else 3)
    assert any("the server of the project's logger is gone" in warning for warning in record.warnings)


def test_a_trial_that_is_paused_is_not_whole_when_it_fails(train: Any) -> None:
    with pytest.raises(Crash, match="the server of the project's logger is gone"):
        train(model={"trouble": "late"}, on_tick=lambda tick: StopDecision(StopReason.PAUSED, "later"))


def test_weights_that_can_not_be_written_are_the_machines_failure(train: Any, project: Path) -> None:
    with pytest.raises(MachineError, match=r"toy\.py/last\.ckpt\. What was measured is kept"):
        train(checkpoints=("last",), folder=str(project / "toy.py"))


@pytest.mark.slow
def test_mistakes_of_the_task_are_told(train: Any) -> None:
    with pytest.raises(InjectionError, match=r"asked for learning rate 0.05, but the optimizer has 0.123"):
        train(model={"trouble": "deaf"})
    with pytest.raises(InjectionError, match="asked for batch size 8, but the training loader has 5"):
        train(data={"deaf": True})
    with pytest.raises(MetricError, match="val_mae"):
        train(objective=Objective("loss"))


def test_trainer_arguments_are_passed_on_and_callbacks_are_built(train: Any, spec: TrialSpec) -> None:
    stopping = {
        "class_path": "pytorch_lightning.callbacks.EarlyStopping",
        "init_args": {"monitor": "val_loss", "patience": 0, "stopping_threshold": 1e9},
    }
    record = train(trainer={**spec.trainer, "callbacks": [stopping], "limit_val_batches": 1})
    assert len(record.ticks) < 3
    with pytest.raises(TaskError, match="refuses its arguments"):
        train(trainer={"precision": "7-bit"})


@pytest.mark.parametrize(
    ("length", "told"),
    [(Amount(3, "epochs"), "1 of 3 epochs"), (Amount(288, "samples"), "96 of 288 samples")],
)
def test_a_trial_that_the_project_ends_early_is_not_told_as_trained_to_its_end(
    train: Any, spec: TrialSpec, length: Amount, told: str
) -> None:
    stopping = {
        "class_path": "pytorch_lightning.callbacks.EarlyStopping",
        "init_args": {"monitor": "val_loss", "stopping_threshold": 1e9},
    }
    record = train(
        trainer={**spec.trainer, "callbacks": [stopping]}, budget=Budget(length, Amount(96, "samples")), max_steps=36
    )
    assert (record.stop_reason, record.outcome) == (StopReason.CONVERGED, "complete")
    assert record.message == f"ended by the project itself at {told}"
    assert record.message in record.warnings[0]


@pytest.mark.parametrize(
    ("length", "is_sized", "told"),
    [
        (Amount(3, "epochs"), True, "3 epochs"),
        (Amount(1.5, "epochs"), True, "1.5 epochs"),
        (Amount(1152, "samples"), False, "1,152 samples"),
        (Amount(30, "steps"), False, "30 steps"),
    ],
)
def test_a_trained_budget_is_told_in_its_own_unit(train: Any, length: Amount, is_sized: bool, told: str) -> None:
    budget = Budget(length, Amount(96, "samples"))
    steps = 30 if length.unit == "steps" else None
    record = train(data={"sized": is_sized}, budget=budget, max_steps=steps)
    assert (record.stop_reason, record.message) == (StopReason.COMPLETED, f"trained for all of its {told}")
    assert record.warnings == ()


def test_a_matched_loss_without_a_training_loss_is_told(train: Any, spec: TrialSpec, project: Path) -> None:
    assert train(matched_loss=0.1).warnings == ()
    toy = (project / "toy.py").read_text(encoding="utf-8")
    (project / "silent.py").write_text(toy.replace('self.log("train_loss"', 'self.log("mine"'), encoding="utf-8")
    task = replace(spec.task, source={**spec.task.source, "model": {"class_path": "silent.Toy"}})
    (warning,) = run_here(replace(spec, task=task, matched_loss=0.1), Supervision()).warnings
    assert 'self.log("train_loss"' in warning


def test_callbacks_measure_into_the_record(train: Any) -> None:
    record = train(measure=("weight_distance", "update_norms"))
    assert set(record.measurements) == {"WeightDistance", "UpdateNorms"}


def test_lazy_layers_are_described_trained_and_kept(spec: TrialSpec, project: Path) -> None:
    code = (
        "import torch",
        "from toy import Toy",
        "class Lazy(Toy):",
        "    def __init__(self, lr=0.1):",
        "        super().__init__(lr)",
        "        self.net = torch.nn.LazyLinear(1)",
    )
    (project / "lazy.py").write_text("\n".join(code), encoding="utf-8")
    task = replace(spec.task, source={**spec.task.source, "model": {"class_path": "lazy.Lazy"}})
    lazy = replace(spec, task=task, measure=("weight_distance", "update_norms"), checkpoints=("initial", "best"))
    assert describe_task(lazy, DirectChannel(Supervision())).num_parameters == 0  # so far
    record = run_here(lazy, Supervision())
    assert record.stop_reason is StopReason.COMPLETED
    assert set(record.measurements["WeightDistance"]["per_layer"]) == {"net"}
    assert _weights(spec).shape == (5,)


@pytest.mark.slow
def test_data_loader_workers_work_inside_trials(spec: TrialSpec) -> None:
    source = {**spec.task.source, "data": {"class_path": "toy.ToyData", "init_args": {"num_workers": 2}}}
    varied = replace(spec, task=replace(spec.task, source=source))
    record = Launcher().run(varied, Supervision())
    assert record.stop_reason is StopReason.COMPLETED
