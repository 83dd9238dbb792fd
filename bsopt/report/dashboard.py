"""bsopt's figures, answer and report inside optuna-dashboard, on the study's own storage.

`publish` writes them into the study, so that any optuna-dashboard on that storage shows them; `serve` starts one.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import math
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import numpy as np
import optuna
import plotly.graph_objects as go
from optuna.trial import FrozenTrial

from bsopt.errors import ConfigError, MissingExtraError
from bsopt.recommendation.views import SIZE_COLUMNS, next_run_text, size_rows
from bsopt.serialization import from_plain, to_plain
from bsopt.storage.artifacts import Artifacts
from bsopt.storage.attributes import read_published, write_published
from bsopt.storage.databases import open_storage
from bsopt.storage.optuna_internals import trial_of
from bsopt.trial.record import TrialRecord
from bsopt.visualization._traces import rounded
from bsopt.visualization.figure import EXPERIMENT_FIGURES, FIGURES
from bsopt.visualization.study_data import Source, StudyData, load

__all__ = ["Publisher", "publish", "serve", "study_note"]

MAX_TRIALS = 300
"""Trials that a published figure draws: a dashboard's storage writes 2 kB at a time, 1.4 s for 141 kB in SQLite."""

_KEPT = "*Written by bsopt. What you add below this line is kept.*"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _State:
    """What was published before.

    Attributes:
        noted: Every trial with a smaller number has its note.
        digests: What each figure looked like, to write only those that changed.
    """

    noted: int = 0
    digests: Mapping[str, str] = field(default_factory=dict)


def publish(
    study: optuna.Study,
    artifact_dir: Path | str | None = None,
    *,
    batch_size: str | None = None,
    lr: str | None = None,
) -> None:
    """Put the figures, a note with the answer, a note on each ended trial, and the report into optuna-dashboard.

    Call it as often as you like: figures have stable ids and are written only when they changed, notes only for
    trials that ended since, and what people wrote under the study's note is kept.

    Args:
        study: Any study, during or after it runs.
        artifact_dir: The dashboard's artifact folder; with it the report becomes an artifact of the study.
        batch_size: Name of the parameter that holds the batch size, where the study doesn't tell.
        lr: Name of the parameter that holds the learning rate, where the study doesn't tell.

    Raises:
        MissingExtraError: optuna-dashboard isn't installed.
        ConfigError: A name was given that no trial of the study has.
    """
    dashboard = _dashboard()
    state = from_plain(_State, read_published(study) or {})
    data = load(study, batch_size=batch_size, lr=lr)
    digests = _publish_figures(dashboard, study, data, state)
    _note_study(dashboard, study, data)
    noted = _note_trials(dashboard, study, data, state.noted)
    if artifact_dir is not None:
        _publish_report(study, data, Path(artifact_dir))
    write_published(study, to_plain(_State(noted, digests)))


class Publisher:
    """An Optuna callback that publishes while a study runs: `study.optimize(..., callbacks=[Publisher()])`.

    Args:
        every: Publish after so many ended trials; into SQLite it takes one to two seconds.
        artifact_dir: As for `publish`.
        batch_size: As for `publish`.
        lr: As for `publish`.

    Raises:
        ConfigError: `every` is below 1.
        MissingExtraError: optuna-dashboard isn't installed: before the first trial, not after it.
    """

    def __init__(
        self,
        every: int = 5,
        *,
        artifact_dir: Path | str | None = None,
        batch_size: str | None = None,
        lr: str | None = None,
    ) -> None:
        if every < 1:
            raise ConfigError(f"every must be at least 1, got {every}.")
        _dashboard()
        self._every = every
        self._artifact_dir, self._names = artifact_dir, {"batch_size": batch_size, "lr": lr}
        self._ended = 0

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._ended += 1
        if self._ended % self._every == 0:
            publish(study, self._artifact_dir, **self._names)


def serve(
    url: str,
    host: str = "127.0.0.1",
    port: int = 8080,
    artifact_dir: Path | str | None = None,
    *,
    on_ready: Callable[[str], object] | None = None,
) -> None:
    """Run optuna-dashboard on a storage until it is interrupted.

    Args:
        url: The storage's address, as in a study file.
        host: Address to listen on. The dashboard asks for no password and lets anyone delete studies: anything
            but this machine is logged as a warning.
        port: Port; 0 takes a free one.
        artifact_dir: Folder of the studies' artifacts; made where missing.
        on_ready: Called once with the page's address as soon as it answers.

    Raises:
        MissingExtraError: optuna-dashboard isn't installed.
        StorageError: The storage can't be opened.
        ConfigError: The port or the host can't be listened on.
    """
    dashboard = _dashboard()
    store = None
    if artifact_dir is not None:
        from optuna.artifacts import FileSystemArtifactStore

        Path(artifact_dir).mkdir(parents=True, exist_ok=True)
        store = FileSystemArtifactStore(str(artifact_dir))
    app = dashboard.wsgi(open_storage(url), artifact_store=store)
    try:
        server = make_server(host, port, app, server_class=_ThreadingServer, handler_class=_QuietHandler)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"can't listen on {host}:{port} ({error}). Choose another with --host and --port; port 0 takes a free one."
        ) from error
    with server:
        if not _is_local(host):
            _logger.warning("The dashboard is open to everyone who can reach %s: it asks for no password.", host)
        address = f"http://{host}:{server.server_port}/dashboard/"
        _logger.info("The dashboard is at %s", address)
        if on_ready is not None:
            on_ready(address)
        server.serve_forever()


def study_note(data: StudyData) -> str:
    """Return the study's answer as Markdown: a view of its recommendation."""
    found, rows = data.recommendation, size_rows(data.recommendation)
    lines = ["## Answer so far", "", _markdown(found.sentence)]
    lines += ["", *(f"- {_markdown(caveat)}" for caveat in found.caveats)]
    if len(rows) > 1:
        lines += ["", f"| {' | '.join(SIZE_COLUMNS)} |", "|" + "--:|" * len(SIZE_COLUMNS)]
        lines += [f"| {' | '.join(row)} |" for row in rows]
    if found.next_runs:
        lines += ["", "What to run next:", "", *(f"- {_markdown(next_run_text(run))}" for run in found.next_runs)]
    settings = [line for line in found.to_yaml().splitlines() if line != f"# {found.sentence}"]  # it stands above
    if settings:
        lines += ["", "```yaml", *settings, "```"]
    return "\n".join(lines)


class _ThreadingServer(WSGIServer):
    """One thread per request, which ends with the process."""

    def process_request(self, request: Any, client_address: Any) -> None:
        import threading

        def work() -> None:
            try:
                self.finish_request(request, client_address)
            except OSError as error:  # the browser closed the connection
                _logger.debug("%s: %s", client_address, error)
            finally:
                self.shutdown_request(request)

        threading.Thread(target=work, daemon=True).start()


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        _logger.debug(format, *args)


def _dashboard() -> ModuleType:
    try:
        import optuna_dashboard
    except ImportError as error:
        raise MissingExtraError(
            "this needs optuna-dashboard, which isn't installed: pip install 'bsopt[dashboard]'."
        ) from error
    module: ModuleType = optuna_dashboard
    return module


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _publish_figures(dashboard: ModuleType, study: optuna.Study, data: StudyData, state: _State) -> dict[str, str]:
    shown = _thinned(data)
    digests = dict(state.digests)
    for name, drawn in _drawn(data, shown):
        if not drawn.data:
            continue  # a sentence in a frame isn't worth a place on the study's page
        figure = _rounded(drawn)
        _fit_into_card(figure)
        digest = hashlib.sha256(figure.to_json().encode()).hexdigest()[:16]
        if digests.get(name) != digest:
            dashboard.save_plotly_graph_object(study, figure, graph_object_id=f"bsopt-{name.replace('_', '-')}")
            digests[name] = digest
    return digests


def _drawn(data: StudyData, shown: StudyData) -> Iterator[tuple[str, go.Figure]]:
    """Draw the figures of the trials shown, then those of the experiment, which has all of its runs."""
    for name, plot in FIGURES.items():
        figure = plot(shown)
        if len(shown.records) < len(data.records) and figure.data:
            title = f"{figure.layout.title.text} ({len(shown.records)} of {len(data.records):,} trials)"
            figure.update_layout(title={"text": title})
        yield name, figure
    if data.experiment is not None:
        for name, draw in EXPERIMENT_FIGURES.items():
            if not draw.is_tall:  # for a card of 450 pixels; the note on the study has the verdicts in words
                figure = draw(data)
                figure.layout.updatemenus = ()  # a menu of axes holds every curve four times
                yield name, figure


def _fit_into_card(figure: go.Figure) -> None:
    """Leave the height to the dashboard, 450 pixels; where plots stand above each other their titles get smaller."""
    figure.update_layout(height=None)
    if "yaxis2" in figure.layout:
        figure.update_yaxes(title={"font": {"size": 10}})


def _thinned(data: StudyData) -> StudyData:
    """Return the data to draw, at most 300 trials: half of them the best, the others spread over the rest."""
    if len(data.records) <= MAX_TRIALS:
        return data
    good = sorted(data.completed, key=lambda r: data.sign * (r.value or 0.0))[: MAX_TRIALS // 2]
    kept = {record.number for record in good}
    rest = [record for record in data.records if record.number not in kept]
    places = np.linspace(0, len(rest) - 1, MAX_TRIALS - len(kept)).astype(int)
    kept |= {rest[i].number for i in places}
    return replace(data, records=tuple(r for r in data.records if r.number in kept), whole=data)


def _rounded(figure: go.Figure) -> go.Figure:
    """Return the figure with numbers of as many digits as a picture needs, which is half of its size."""
    return go.Figure(_round(figure.to_plotly_json()))


def _round(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _round(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_round(item) for item in value]
    if isinstance(value, np.ndarray):
        return [_round(item) for item in value.tolist()]
    if isinstance(value, float) and math.isfinite(value):
        return rounded(value)
    return value


def _note_study(dashboard: ModuleType, study: optuna.Study, data: StudyData) -> None:
    before = dashboard.get_note(study)
    _, mark, own = before.partition(_KEPT)
    if before and not mark:
        own = f"\n\n{before}"  # a note that was there before us
    body = f"{study_note(data)}{_verdicts_note(data)}\n\n---\n{_KEPT}{own}"
    if body != before:
        dashboard.save_note(study, body)


def _verdicts_note(data: StudyData) -> str:
    """Return what the study's experiment says about the article's findings; nothing without an experiment."""
    if data.experiment is None or not data.experiment.runs:
        return ""
    rows = [f"| {verdict.outcome.value} | {_markdown(verdict.claim)} |" for verdict in data.experiment.verdicts]
    head = ["## The batch-size experiment", "", "| verdict | finding (Chang and Pathak 2020) |", "|:--|:--|"]
    return "\n\n" + "\n".join([*head, *rows])


def _note_trials(dashboard: ModuleType, study: optuna.Study, data: StudyData, first: int) -> int:
    """Write the notes of trials that ended since; return the number up to which all have theirs."""
    noted = first
    trials = study.get_trials(deepcopy=False)
    for record in data.records[first:]:
        if record.outcome == "running":
            continue
        live = trial_of(study, trials[record.number])
        if not dashboard.get_note(live):
            dashboard.save_note(live, _trial_note(record, data))
        if record.number == noted:
            noted += 1
    return noted


def _trial_note(record: TrialRecord, data: StudyData) -> str:
    lines = [f"**{record.ending}**" + (f": {_markdown(record.message)}" if record.message else "")]
    if record.plan is not None:
        plan = f"Batch size {record.batch_size} as {record.plan}"
        lines.append(_markdown(plan + (f" ({record.plan.reason})" if record.plan.reason else "")) + ".")
    if record.best is not None:
        monitor = _markdown(data.info.objective.monitor)
        lines.append(
            f"Best {monitor} {record.best.value:.5g} after {record.best.samples:,.0f} samples "
            f"({record.best.step:,} updates)."
        )
    lines += [f"- {_markdown(warning)}" for warning in record.warnings]
    return "\n\n".join(lines)


def _markdown(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!$&])", r"\\\1", " ".join(str(text).split()))


def _publish_report(study: optuna.Study, data: Source, folder: Path) -> None:
    from bsopt.report.page import write_report

    with tempfile.TemporaryDirectory() as scratch:
        Artifacts(study, folder).keep(write_report(data, Path(scratch) / "report.html").path)
