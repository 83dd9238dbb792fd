"""Figures, notes and the report as optuna-dashboard gets them, and the server."""

from __future__ import annotations

import json
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import optuna
import pytest

from bsopt.errors import ConfigError, MissingExtraError
from bsopt.recommendation import recommend
from bsopt.recommendation.fits import fit_laws
from bsopt.report.dashboard import MAX_TRIALS, Publisher, publish, serve
from bsopt.search.sampler import ScalingSampler
from bsopt.storage.attributes import write_info, write_record
from bsopt.testing.study import example_study
from bsopt.trial.objective import Objective
from bsopt.trial.record import StopReason, StudyInfo, TrialRecord
from bsopt.visualization import FIGURES

optuna.logging.set_verbosity(optuna.logging.WARNING)
optuna_dashboard = pytest.importorskip("optuna_dashboard", reason="optuna-dashboard isn't installed")


@pytest.fixture
def study() -> optuna.Study:
    return example_study(24, name="digits")


@pytest.fixture(scope="module")
def published() -> optuna.Study:
    """Return a published study, which the tests that share it leave as it is."""
    study = example_study(24, name="digits")
    publish(study)
    return study


def _figures(study: optuna.Study) -> dict[str, Any]:
    from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

    attributes = study._storage.get_study_system_attrs(study._study_id)
    return {name: json.loads(text) for name, text in get_plotly_graph_objects(attributes).items()}


def _note_of(study: optuna.Study, number: int) -> str:
    return str(optuna_dashboard.get_note(optuna.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)))


@pytest.mark.slow
def test_every_figure_with_something_to_show_is_published_under_a_stable_id(published: optuna.Study) -> None:
    expected = {f"bsopt-{name.replace('_', '-')}" for name, plot in FIGURES.items() if plot(published).data}
    assert set(_figures(published)) == expected
    publish(published)
    assert set(_figures(published)) == expected


def test_publishing_again_writes_only_what_changed(published: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    original = optuna_dashboard.save_plotly_graph_object
    monkeypatch.setattr(
        optuna_dashboard,
        "save_plotly_graph_object",
        lambda study, figure, *, graph_object_id: written.append(
            original(study, figure, graph_object_id=graph_object_id)
        ),
    )
    publish(published)
    assert written == []


@pytest.mark.parametrize("is_told", [False, True], ids=["noted by our sampler", "given as arguments"])
def test_renamed_parameters_have_their_figures_and_answer(is_told: bool) -> None:
    names = {"batch_size": "samples", "lr": "speed"}
    sampler = optuna.samplers.RandomSampler(0) if is_told else ScalingSampler(seed=0, **names)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: t.suggest_int("samples", 8, 64, log=True) * t.suggest_float("speed", 0.1, 1), n_trials=4)
    publish(study, **(names if is_told else {}))
    assert "bsopt-interaction" in _figures(study)
    assert "Batch size" in optuna_dashboard.get_note(study)


def test_what_is_noted_in_user_attributes_is_small(published: optuna.Study) -> None:
    assert len(json.dumps(published.user_attrs.get("bsopt:dashboard"))) < 2000  # ids and digests, no figures
    study = optuna.create_study()
    publish(study)
    assert not [key for key in study.user_attrs if key != "bsopt:dashboard"]


@pytest.mark.slow
@pytest.mark.parametrize("most", [40, MAX_TRIALS])
def test_figures_of_many_trials_stay_small_and_keep_the_best(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bsopt.report.dashboard.MAX_TRIALS", most)
    study = example_study(3 * most)
    publish(study)
    for name, figure in _figures(study).items():
        assert len(json.dumps(figure)) < 250_000, name
    assert f"({most} of {3 * most} trials)" in _figures(study)["bsopt-interaction"]["layout"]["title"]["text"]
    text = json.dumps(_figures(study)["bsopt-interaction"])
    assert f"trial {study.best_trial.number}<" in text


def test_the_study_note_holds_the_answer_and_keeps_what_people_wrote(study: optuna.Study) -> None:
    optuna_dashboard.save_note(study, "my own words")
    publish(study)
    note = optuna_dashboard.get_note(study)
    assert "## Answer so far" in note
    assert "my own words" in note
    optuna_dashboard.save_note(study, note + "\nand more")
    publish(study)
    note = optuna_dashboard.get_note(study)
    assert note.count("## Answer so far") == 1
    assert note.endswith("my own words\nand more")


@pytest.mark.slow
def test_the_note_says_what_the_recommendation_says(study: optuna.Study) -> None:
    publish(study)
    found = recommend(study)
    assert found.choice is not None
    note = optuna_dashboard.get_note(study)
    assert found.sentence.partition(":")[0] in note
    assert f"  lr: {found.choice.lr.value:.4g}\n" in note


def test_figures_of_some_of_the_trials_keep_the_laws_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[int] = []

    def counted(records: Any, info: Any, **options: Any) -> Any:
        fitted.append(len(records))
        return fit_laws(records, info, **options)

    monkeypatch.setattr("bsopt.visualization.study_data.fit_laws", counted)
    monkeypatch.setattr("bsopt.report.dashboard.MAX_TRIALS", 12)
    publish(example_study(16))
    assert fitted == [16]


def test_every_ended_trial_has_a_note_with_its_reason_and_plan(published: optuna.Study) -> None:
    notes = [_note_of(published, number) for number in range(24)]
    assert all(notes)
    assert any("**completed**: Trained to the end of its budget." in note for note in notes)
    assert all("Batch size" in note for note in notes)


@pytest.mark.slow
def test_a_running_trial_gets_its_note_when_it_has_ended(study: optuna.Study) -> None:
    trial = study.ask()
    later = study.ask()
    study.tell(later, state=optuna.trial.TrialState.FAIL)
    publish(study)
    assert (_note_of(study, 24), bool(_note_of(study, 25))) == ("", True)
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    publish(study)
    assert _note_of(study, 24) == "**fail**"


def test_a_trial_note_that_people_wrote_is_kept(study: optuna.Study) -> None:
    live = optuna.Trial(study, study.get_trials(deepcopy=False)[3]._trial_id)
    optuna_dashboard.save_note(live, "look at this one")
    publish(study)
    assert _note_of(study, 3) == "look at this one"


def test_foreign_text_is_no_markdown() -> None:
    study = optuna.create_study(study_name="nasty")
    write_info(study, StudyInfo("nasty", objective=Objective("*loss*")))
    trial = study.ask()
    write_record(
        trial, TrialRecord(0, "fail", stop_reason=StopReason.FAILED, message="[click](javascript:x) <img src=x>\n# big")
    )
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    publish(study)
    assert _note_of(study, 0) == r"**failed**: \[click\](javascript:x) \<img src=x\> \# big"


@pytest.mark.slow
def test_the_report_is_one_artifact_that_is_replaced(study: optuna.Study, tmp_path: Path) -> None:
    publish(study, artifact_dir=tmp_path / "artifacts")
    publish(study, artifact_dir=tmp_path / "artifacts")
    (meta,) = optuna.artifacts.get_all_artifact_meta(study)
    assert (meta.filename, meta.mimetype) == ("report.html", "text/html")
    (stored,) = (tmp_path / "artifacts").iterdir()
    assert b"bsopt report" in stored.read_bytes()


def test_a_running_study_is_published_every_few_trials() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    notes: list[str] = []

    def objective(trial: optuna.Trial) -> float:
        notes.append(optuna_dashboard.get_note(study))
        return trial.suggest_int("batch_size", 8, 64) * trial.suggest_float("lr", 0.1, 1.0)

    study.optimize(objective, n_trials=5, callbacks=[Publisher(2)])
    assert [bool(note) for note in notes] == [False, False, True, True, True]
    assert "best of 2 complete trials" in notes[2]
    assert "best of 4 complete trials" in notes[4]
    with pytest.raises(ConfigError, match="every"):
        Publisher(0)


def test_an_empty_study_is_published_with_its_note() -> None:
    study = optuna.create_study()
    publish(study)
    assert _figures(study) == {}
    assert "no answer" in optuna_dashboard.get_note(study)


def test_without_the_package_the_message_says_what_to_install(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(MissingExtraError, match=r"bsopt\[dashboard\]"):
        publish(study)


@pytest.mark.slow
def test_the_server_answers_on_a_free_port_with_the_published_study(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    publish(example_study(6, name="served", storage=optuna.storages.RDBStorage(url)))
    found: list[str] = []
    ready = threading.Event()

    def on_ready(address: str) -> None:
        found.append(address)
        ready.set()

    arguments: dict[str, Any] = {"port": 0, "artifact_dir": tmp_path / "artifacts", "on_ready": on_ready}
    threading.Thread(target=serve, args=(url,), kwargs=arguments, daemon=True).start()
    assert ready.wait(30)
    assert found[0].startswith("http://127.0.0.1:")
    api = found[0].replace("/dashboard/", "/api/studies")
    with urllib.request.urlopen(api, timeout=30) as response:
        studies = json.load(response)
    assert "served" in json.dumps(studies)


def test_a_taken_port_is_told_with_the_way_out(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="--port"):
            serve(f"sqlite:///{tmp_path / 'study.db'}", port=taken.getsockname()[1])
