"""The README and the guides: commands run, links lead somewhere, code runs, study files are valid."""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import optuna
import pytest
import yaml
from click.testing import CliRunner

from bsopt.cli.main import main
from bsopt.config import validate_config

ROOT = Path(__file__).parents[1]
GUIDES = ["studies/README.md", "studies/choosing_a_rule.md", "studies/reading_the_report.md"]
DOCUMENTS = ["README.md", *GUIDES, *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("studies/*/README.md")))]

_SHORT_STUDY = "--set budget.trials=6 --set budget.epochs=1 --set pruning=none --set isolation=none"
SHORT = {  # what makes a command of a guide short; the last value of an option counts
    "bsopt study run": _SHORT_STUDY,
    "bsopt study check": _SHORT_STUDY,
    "bsopt probe": "--set limits.max_micro_batch_size=16 --set isolation=none",
    "scripts/benchmark_search": "--count 1 --seeds 1 --trials 3",
    "scripts/gallery": "--format html",
}
SERVERS = {"bsopt dashboard"}
"""Commands that run until they are interrupted; tests/cli/test_looking.py starts them."""


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text_of(document), re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", code, flags=re.MULTILINE) for indent, code in found]


def commands(document: str) -> list[list[str]]:
    """The words of every command in the document's blocks."""
    lines = [line for block in blocks(document, "bash") for line in block.replace("\\\n", " ").splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_exists(document: str) -> None:
    inline = [shlex.split(code) for code in re.findall(r"`(bsopt [^`]+|scripts/[^`]+)`", text_of(document))]
    found = commands(document) + inline
    assert found
    for words in found:
        if words[0] in ("pip", "curl", "python", "torchrun", "cd", "ray", "sbatch", "srun", "export"):
            continue
        if words[0].startswith("scripts/"):
            assert (ROOT / words[0]).exists(), words
        elif words[0] == "bsopt":
            _check_options(words[1:])


def _check_options(words: list[str]) -> None:
    """Every sub-command exists, and has every option that is given to it."""
    command: click.Command = main
    while isinstance(command, click.Group) and words:
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, words
        command, words = found, words[1:]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("--"):
            assert word.split("=")[0] in known | {"--help"}, (command.name, word)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", text_of(document)):
        assert target.startswith("https://") or (ROOT / document).parent.joinpath(target).exists(), target


def test_the_study_file_is_valid() -> None:
    (study,) = blocks("README.md", "yaml")
    assert validate_config(yaml.safe_load(study)).name == "mine"


def test_the_readmes_python_code_runs() -> None:
    found = blocks("README.md", "python")
    assert len(found) == 2
    scope: dict[str, object] = {}
    for block in found:
        exec(compile(block, "README.md", "exec"), scope)
    study = scope["study"]
    assert isinstance(study, optuna.Study)
    assert study.trials[0].params == pytest.approx({"batch_size": 32, "lr": 0.01})


@pytest.mark.parametrize("document", GUIDES)
def test_the_guides_python_code_runs(document: str) -> None:
    scope: dict[str, object] = {}
    for block in blocks(document, "python"):
        exec(compile(block, document, "exec"), scope)


def test_others_a_pruned_trials_best_value_is_forgotten() -> None:
    study = optuna.create_study()
    trial = study.ask()
    trial.report(0.1, 1)
    trial.report(0.5, 2)
    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    assert study.trials[0].value == 0.5
    with pytest.raises(ValueError, match="No trials are completed"):
        _ = study.best_trial


def test_others_tpe_starts_with_ten_random_trials() -> None:
    assert inspect.signature(optuna.samplers.TPESampler).parameters["n_startup_trials"].default == 10
    assert isinstance(optuna.create_study().sampler, optuna.samplers.TPESampler)


def test_others_a_batch_size_beyond_memory_fails_its_trial() -> None:
    def objective(trial: optuna.Trial) -> float:
        raise MemoryError

    study = optuna.create_study()
    study.optimize(objective, n_trials=1, catch=MemoryError)
    assert study.trials[0].state == optuna.trial.TrialState.FAIL


def test_others_trials_are_compared_at_the_step_that_they_report() -> None:
    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=0))
    for step, value, is_pruned in ((1, 0.1, False), (2, 9.0, False), (1, 9.0, True)):
        trial = study.ask()
        trial.report(value, step)
        assert trial.should_prune() == is_pruned
        study.tell(trial, value)


def test_others_pruning_under_ddp_needs_an_rdb_storage_and_a_call() -> None:
    pytest.importorskip("pytorch_lightning")
    integration = pytest.importorskip("optuna_integration")
    words = " ".join(str(integration.PyTorchLightningPruningCallback.__doc__).split())
    assert "instantiated with RDB storage" in words
    assert "check_pruned()`` manually" in words


def test_others_heartbeats_are_of_the_rdb_storage_alone() -> None:
    assert hasattr(optuna.storages.RDBStorage, "record_heartbeat")
    assert not hasattr(optuna.storages.JournalStorage, "record_heartbeat")


def test_others_a_database_that_is_gone_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'study.db'}")
    study = optuna.create_study(storage=storage)
    storage.engine.dispose()
    shutil.rmtree(folder)
    with pytest.raises(optuna.exceptions.StorageInternalError):
        study.ask()


def test_others_the_tuner_does_one_after_the_other_and_doubles() -> None:
    pytest.importorskip("pytorch_lightning")
    from pytorch_lightning.tuner import Tuner

    assert "lr" not in " ".join(inspect.signature(Tuner.scale_batch_size).parameters)
    assert inspect.signature(Tuner.scale_batch_size).parameters["mode"].default == "power"


@pytest.mark.filterwarnings("ignore")
def test_others_the_tuner_refuses_two_ranks(tmp_path: Path) -> None:
    pl = pytest.importorskip("pytorch_lightning")
    from pytorch_lightning.demos.boring_classes import BoringModel
    from pytorch_lightning.tuner import Tuner

    trainer = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, default_root_dir=tmp_path)
    with pytest.raises(ValueError, match="currently not supported with distributed strategies"):
        Tuner(trainer).scale_batch_size(BoringModel())


@pytest.mark.slow
@pytest.mark.parametrize("document", GUIDES)
def test_the_guides_commands_run_one_after_the_other(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for words in commands(document):
        if " ".join(words) in SERVERS:
            continue
        short = next((more for start, more in SHORT.items() if " ".join(words).startswith(start)), "")
        if words[0] == "bsopt":
            result = CliRunner().invoke(main, [*words[1:], *shlex.split(short)])
            assert result.exit_code == 0, (words, result.output)
        else:
            script = str(ROOT / words[0])
            done = subprocess.run([sys.executable, script, *words[1:], *shlex.split(short)], capture_output=True)
            assert done.returncode == 0, (words, done.stderr.decode()[-2000:])
