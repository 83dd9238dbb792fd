"""Lines between ranks: only those who know the secret get one, and only plain data travels."""

from __future__ import annotations

import json
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import pytest

from bsopt.config import load_config
from bsopt.engines import lines
from bsopt.engines.ranks import _Order, _Report
from bsopt.errors import StudyError
from bsopt.study.make_spec import trial_spec
from bsopt.trial.plan import Plan
from bsopt.trial.record import StopReason


class Store:
    """Waits for a value, as torch's store does."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def set(self, key: str, value: str) -> None:
        self.values[key] = value

    def get(self, key: str) -> str:
        until = time.monotonic() + 20
        while key not in self.values:
            assert time.monotonic() < until
            time.sleep(0.01)
        return self.values[key]


@dataclass
class Meeting:
    """Rank 0 waits in a thread of its own."""

    store: Store
    folder: Path
    found: dict[int, Connection] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._accept)
        self.thread.start()

    def _accept(self) -> None:
        self.found = lines.accept(self.store, "127.0.0.1", world_size=2, folder=self.folder, seconds=20)

    def join(self) -> Connection:
        line = lines.join(self.store, "127.0.0.1", rank=1, folder=self.folder)
        self.thread.join(20)
        return line


@pytest.fixture
def meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Meeting]]:
    """Have rank 0 wait for rank 1."""
    monkeypatch.delenv("BSOPT_RANKS_KEY", raising=False)
    made: list[Meeting] = []

    def begin() -> Meeting:
        made.append(Meeting(Store(), tmp_path))
        return made[-1]

    yield begin
    for meeting in made:
        meeting.thread.join(20)
        for line in meeting.found.values():
            line.close()


def test_ranks_meet_over_a_file_that_only_their_user_can_read(meet: Callable[[], Meeting], tmp_path: Path) -> None:
    meeting = meet()
    told = json.loads(meeting.store.get("bsopt/line"))
    (secret,) = tmp_path.iterdir()
    assert (secret.name, secret.stat().st_mode & 0o777) == (told["file"], 0o600)
    assert secret.read_bytes().hex() not in json.dumps(meeting.store.values)
    with meeting.join() as line:
        assert lines.send(line, _Report("crash", StopReason.OUT_OF_MEMORY, "text"))
        said = lines.receive(meeting.found[1], _Report)
        assert said == _Report("crash", StopReason.OUT_OF_MEMORY, "text")
    assert not list(tmp_path.iterdir())


def test_ranks_meet_over_a_secret_that_all_of_them_were_given(
    meet: Callable[[], Meeting], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BSOPT_RANKS_KEY", "a long text")
    meeting = meet()
    meeting.store.get("bsopt/line")
    assert not list(tmp_path.iterdir())
    meeting.join().close()
    assert set(meeting.found) == {1}


def test_a_rank_without_the_secret_says_how_to_give_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BSOPT_RANKS_KEY", raising=False)
    monkeypatch.setattr(lines, "_FILE_SECONDS", 0.1)
    store = Store()
    store.set("bsopt/line", json.dumps({"port": 1, "file": "ranks-1.key"}))
    with pytest.raises(StudyError, match=r"set BSOPT_RANKS_KEY .* or put the output folder"):
        lines.join(store, "127.0.0.1", rank=1, folder=tmp_path)


def test_strangers_are_turned_away_and_cost_no_rank_its_place(
    meet: Callable[[], Meeting], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "_HANDSHAKE_SECONDS", 1)
    meeting = meet()
    port = json.loads(meeting.store.get("bsopt/line"))["port"]
    silent = socket.create_connection(("127.0.0.1", port))
    rude = socket.create_connection(("127.0.0.1", port))
    rude.sendall(b"GET / HTTP/1.0\r\n\r\n" * 10)
    meeting.join().close()
    silent.close()
    rude.close()
    assert set(meeting.found) == {1}


def test_a_pickle_is_nonsense() -> None:
    ours, theirs = Pipe()
    theirs.send_bytes(pickle.dumps(_Report("done")))
    assert lines.receive(ours, _Report) is None


def test_what_a_trial_is_travels_whole(project: Path) -> None:
    config = load_config(project / "study.yaml", ["trainer={gradient_clip_val: 1.5, accelerator: cpu}"]).config
    spec = trial_spec(config, 3, {"batch_size": 16, "lr": 0.1}, Plan(8, 1, 1, 2), study_folder=project)
    sent, received = Pipe()
    assert lines.send(sent, _Order("train", spec, 29500))
    assert lines.receive(received, _Order) == _Order("train", spec, 29500)


@pytest.mark.parametrize(
    ("address", "bound"), [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("x.invalid", "")]
)
def test_rank_0_listens_at_the_rendezvous_alone(address: str, bound: str) -> None:
    assert lines._bound_to(address) == bound
