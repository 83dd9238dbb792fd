"""What else Optuna offers, tried on studies with our sampler and pruner: artifacts, callbacks, terminators,
importances, Lightning's pruning callback."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore, download_artifact, get_all_artifact_meta, upload_artifact
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import MaxTrialsCallback
from optuna.trial import FrozenTrial, TrialState

import bsopt
from bsopt.storage.databases import open_storage

optuna.logging.set_verbosity(optuna.logging.ERROR)


def train(trial: optuna.Trial) -> float:
    """A basin in the learning rate; the batch size matters less, dropout not at all."""
    size, rate = trial.suggest_int("batch_size", 8, 512, log=True), trial.suggest_float("lr", 1e-4, 1.0, log=True)
    trial.suggest_float("dropout", 0.0, 0.5)
    end = (math.log2(rate) + 5.0) ** 2 + 0.1 * abs(math.log2(size / 64))
    for epoch in range(6):
        trial.report(end + 4.0 / (1 + epoch), epoch)
        if (value := bsopt.conclude(trial)) is not None:
            return value
    return end


def study_of(**options: object) -> optuna.Study:
    pruner = bsopt.PlateauPruner(decays_to_end=False)
    return optuna.create_study(sampler=bsopt.ScalingSampler(seed=0), pruner=pruner, **options)


@pytest.fixture(scope="module")
def finished() -> optuna.Study:
    study = study_of()
    study.optimize(train, n_trials=14)
    return study


@pytest.mark.slow
def test_artifacts_are_kept_beside_our_notes(tmp_path: Path) -> None:
    store, file = FileSystemArtifactStore(str(tmp_path)), tmp_path / "weights.txt"
    study = study_of(storage=f"sqlite:///{tmp_path}/s.db")

    def keeping(trial: optuna.Trial) -> float:
        file.write_text(f"weights of {trial.number}")
        upload_artifact(artifact_store=store, file_path=str(file), study_or_trial=trial)
        return train(trial)

    study.optimize(keeping, n_trials=4)
    meta = get_all_artifact_meta(study.best_trial, storage=study._storage)[0]
    download_artifact(artifact_store=store, file_path=str(tmp_path / "back"), artifact_id=meta.artifact_id)
    assert (tmp_path / "back").read_text() == f"weights of {study.best_trial.number}"
    assert bsopt.write_report(study, tmp_path / "report.html").answers


def test_callbacks_see_each_trial_and_may_stop_the_study() -> None:
    seen: list[int] = []

    def watch(study: optuna.Study, trial: FrozenTrial) -> None:
        seen.append(trial.number)
        study.set_user_attr("latest", trial.number)

    study = study_of()
    study.optimize(train, n_trials=50, callbacks=[watch, MaxTrialsCallback(4, states=None)])
    assert seen == [0, 1, 2, 3]


@pytest.mark.slow
def test_two_threads_share_sampler_and_pruner(tmp_path: Path) -> None:
    study = study_of(storage=open_storage(f"sqlite:///{tmp_path}/s.db"))
    study.optimize(train, n_trials=6, n_jobs=2)
    assert {trial.state for trial in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert bsopt.recommend(study).choice is not None


def test_failed_trials_are_retried_by_optunas_callback(tmp_path: Path) -> None:
    study = study_of(storage=f"sqlite:///{tmp_path}/s.db")
    study.optimize(train, n_trials=3)
    last = study.trials[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental
        study.enqueue_trial(last.params, user_attrs={"failed_trial": last.number})
    study.optimize(train, n_trials=1)
    assert study.trials[-1].params == last.params


@pytest.mark.filterwarnings("ignore:.*optuna.terminator:FutureWarning")
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_terminators_judge_the_study(finished: optuna.Study) -> None:
    from optuna.terminator import BestValueStagnationEvaluator, StaticErrorEvaluator, Terminator

    assert not Terminator(BestValueStagnationEvaluator(50), StaticErrorEvaluator(0.0), 5).should_terminate(finished)
    assert Terminator(BestValueStagnationEvaluator(0), StaticErrorEvaluator(1.0), 5).should_terminate(finished)


@pytest.mark.slow  # it fits a Gaussian process of Optuna's own, which imports torch
@pytest.mark.filterwarnings("ignore")
def test_terminator_by_regret_judges_it_too(finished: optuna.Study) -> None:
    from optuna.terminator import RegretBoundEvaluator, StaticErrorEvaluator, Terminator

    assert Terminator(RegretBoundEvaluator(), StaticErrorEvaluator(1e9), 5).should_terminate(finished) in (True, False)


@pytest.mark.parametrize("evaluator", [FanovaImportanceEvaluator, PedAnovaImportanceEvaluator])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_importances_are_told_of_every_parameter(finished: optuna.Study, evaluator: type) -> None:
    pytest.importorskip("sklearn")
    found = get_param_importances(finished, evaluator=evaluator())
    assert found.keys() == {"batch_size", "lr", "dropout"}
    assert max(found, key=lambda name: found[name]) == "lr"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lightning_callback_of_optuna_prunes_with_our_pruner(tmp_path: Path) -> None:
    integration = pytest.importorskip("optuna_integration.pytorch_lightning", exc_type=ImportError)
    import lightning.pytorch as pl
    import torch

    class Flat(pl.LightningModule):
        """Its validation loss never moves."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
            return self.layer(batch[0]).mean()

        def validation_step(self, batch: list[torch.Tensor]) -> None:
            self.log("val_loss", self.worst)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(4, 2)), batch_size=2)

    def fit(trial: optuna.Trial) -> float:
        trial.suggest_int("batch_size", 2, 4), trial.suggest_float("lr", 0.1, 1.0, log=True)
        module = Flat()
        module.worst = 1.0 + trial.number
        trainer = pl.Trainer(
            max_epochs=12, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu",
            callbacks=[integration.PyTorchLightningPruningCallback(trial, "val_loss")], default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(module, loader, loader)
        return module.worst

    study = optuna.create_study(
        sampler=bsopt.ScalingSampler(seed=0), pruner=bsopt.PlateauPruner(patience=3, decays_to_end=False, audit_every=0)
    )
    study.optimize(fit, n_trials=6)
    assert TrialState.PRUNED in {trial.state for trial in study.trials}
