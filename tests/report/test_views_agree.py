"""Whoever asks, wherever they look: the same study is answered the same."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import yaml
from click.testing import CliRunner

from bsopt.cli.main import main
from bsopt.recommendation import Recommendation, recommend
from bsopt.recommendation.views import size_rows
from bsopt.report.answer import answer_section
from bsopt.report.dashboard import study_note
from bsopt.storage.databases import open_storage
from bsopt.testing.study import example_study
from bsopt.visualization.study_data import load

Storage = optuna.storages.BaseStorage
CHOICE = re.compile(r"[Bb]atch size (\d+) with learning rate ([\d.e-]+)")


def plain(
    storage: Storage, *, direction: str = "minimize", names: tuple[str, str] = ("batch_size", "lr"), limit: int = 0
) -> None:
    """A plain Optuna study; batch sizes above a limit break a constraint."""
    study = optuna.create_study(
        study_name="s", storage=storage, direction=direction, sampler=optuna.samplers.RandomSampler(0)
    )
    sign = -1.0 if direction == "maximize" else 1.0

    def objective(trial: optuna.Trial) -> float:
        B = trial.suggest_categorical(names[0], [8, 16, 32, 64, 128])
        lr = trial.suggest_float(names[1], 1e-3, 1.0, log=True)
        if limit:
            trial.set_constraint("memory", float(B - limit))
        return sign * (0.3 + abs(lr - 0.002 * B) + 0.1 / B)

    study.optimize(objective, n_trials=20)


def several(storage: Storage) -> None:
    study = optuna.create_study(
        study_name="s", storage=storage, directions=["minimize"] * 2, sampler=optuna.samplers.RandomSampler(0)
    )

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        B = trial.suggest_int("batch_size", 8, 128)
        return abs(trial.suggest_float("lr", 1e-3, 1.0, log=True) - 0.002 * B), 100.0 / B

    study.optimize(objective, n_trials=12)


STUDIES: dict[str, Callable[[Storage], object]] = {
    "ours": lambda storage: example_study(30, name="s", storage=storage),
    "one trial": lambda storage: example_study(1, name="s", storage=storage),
    "none": lambda storage: example_study(0, name="s", storage=storage),
    "a few": lambda storage: example_study(6, name="s", storage=storage),
    "many": lambda storage: example_study(80, name="s", storage=storage),
    "devices": lambda storage: example_study(40, name="s", storage=storage, devices=(1, 2, 4)),
    "sizes of their own": lambda storage: example_study(30, name="s", storage=storage, batch_sizes=(12, 48, 96, 200)),
    "maximised": lambda storage: plain(storage, direction="maximize"),
    "renamed": lambda storage: plain(storage, names=("bs", "learning_rate")),
    "constrained": lambda storage: plain(storage, limit=32),
    "several objectives": several,
}
FAST = ("ours", "one trial", "several objectives")


@pytest.mark.parametrize(
    "make", [pytest.param(STUDIES[n], id=n, marks=() if n in FAST else pytest.mark.slow) for n in STUDIES]
)
def test_every_view_of_a_study_says_the_same(
    make: Callable[[Storage], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path}/s.db"
    make(open_storage(url))
    study = optuna.load_study(study_name="s", storage=open_storage(url))
    found, data = recommend(study), load(study)
    shown, told, as_yaml, as_json = (
        CliRunner().invoke(main, ["study", *words, "s", "--storage", url]).output
        for words in (["show"], ["recommend"], ["recommend", "--yaml"], ["recommend", "--json"])
    )
    page = html.unescape(re.sub(r"<[^>]+>", " ", str(answer_section(data, prefix="s0"))))
    note = study_note(data).replace("\\", "")
    views = {"show": shown, "recommend": told, "report": page, "dashboard": note, "yaml": as_yaml}
    if found.choice is None:
        assert not any(CHOICE.findall(text) for text in views.values())
    else:
        choice = (str(found.choice.batch_size), f"{found.choice.lr.value:.2g}")
        assert all(set(CHOICE.findall(text)) == {choice} for text in views.values()), views
        _check_settings(found, as_yaml)
    for name in ("recommend", "report", "dashboard"):
        assert found.sentence in views[name], name
    for row in size_rows(found) if len(found.sizes) > 1 else []:
        pattern = r"[\s|]+".join(re.escape(cell) for cell in row)
        assert all(re.search(pattern, views[name]) for name in ("recommend", "report", "dashboard")), row
    for caveat in found.caveats:
        assert all(caveat in views[name] for name in ("recommend", "report", "dashboard")), caveat
    assert json.loads(as_json)["sentence"] == found.sentence


def _check_settings(found: Recommendation, text: str) -> None:
    settings, choice = yaml.safe_load(text), found.choice
    assert choice is not None
    assert settings["model"]["lr"] == float(f"{choice.lr.value:.4g}")
    parts = settings["trainer"]["accumulate_grad_batches"] * settings["trainer"]["devices"]
    assert settings["data"]["batch_size"] * parts * settings["trainer"]["num_nodes"] == choice.batch_size
    assert all(f"# {doubt}" in text for doubt in choice.doubts)
