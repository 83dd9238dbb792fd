"""Study files at random, by what the schema knows and by bytes: each is read or refused, in one message and soon."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from bsopt.cli.main import main
from bsopt.config import StudyConfig, load_config
from bsopt.errors import ConfigError

NOT_FUZZED = {"storage", "isolation", "output", "artifacts"}
"""What would leave the test's folder, or start processes and servers."""
SECONDS, BYTES = 2.0, 1 << 30
IN_PROCESS = ("--set", "isolation=none", "--set", "storage=memory://", "--set", "output=out", "--set", "artifacts=kept")


def _keys(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every key that a study file may have, blocks included."""
    for name, field in model.model_fields.items():
        if not path and name in NOT_FUZZED:
            continue
        yield (*path, name)
        for block in _blocks(field.annotation):
            yield from _keys(block, (*path, name))


def _blocks(hint: Any) -> list[type[BaseModel]]:
    if get_origin(hint) is None and isinstance(hint, type) and issubclass(hint, BaseModel):
        return [hint]
    return [block for part in get_args(hint) for block in _blocks(part)]


KEYS = sorted(set(_keys(StudyConfig)))
WORDS = ["", "0", "-1", "1 epoch", "3 epochs", "-2 GiB", "2 GiB", "1e400 samples", "none", "plateau", "median", "pow2"]
WORDS += ["any", "linear", "../../x", "/abs", "a/b", "model.lr", "data.batch_size", "toy.Toy", "lr", "auto", "null\t"]
NUMBERS = [0, 1, -1, 2, 8, 10**9, 10**30, -(10**12), 0.0, 1e-300, 1e300, 0.5, math.inf, -math.inf, math.nan]
SCALARS = st.one_of(st.none(), st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(WORDS), st.text(max_size=12))
BLOCK_KEYS = st.sampled_from([*WORDS, "low", "high", "step", "multiple_of", "class_path"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(BLOCK_KEYS, inner, max_size=4),
    max_leaves=8,
)
CHANGES = st.lists(st.tuples(st.sampled_from(KEYS), VALUES), min_size=1, max_size=4)
PIECES = st.one_of(
    st.binary(max_size=8),
    st.sampled_from([b"&a ", b"*a", b"!!int ", b"<<: ", b"? ", b"- ", b"[", b"{", b": ", b"\n", b"\t", b"\xff", b"\0"]),
)
SPLICES = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 30), PIECES), min_size=1, max_size=6)


def _changed(data: dict[str, Any], changes: list[tuple[tuple[str, ...], Any]]) -> dict[str, Any]:
    for (*blocks, key), value in changes:
        place: Any = data
        for block in blocks:
            inner = place.get(block)
            place[block] = place = inner if isinstance(inner, dict) else {}
        place[key] = value
    return data


def _spliced(content: bytes, splices: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, piece in splices:
        content = content[:at] + piece + content[at + length :]
    return content


class Judge:
    """Reads files and says of each whether it was taken; in processor time, for the machine may be busy."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.taken: list[bytes] = []
        self.count = 0

    def load(self, content: bytes) -> None:
        self.path.write_bytes(content)
        began = time.process_time()
        try:
            load_config(self.path)
            message = None
        except ConfigError as error:
            message = str(error)
        assert time.process_time() - began < SECONDS
        self.count += 1
        if message is None:
            self.taken.append(content)
        else:
            assert 0 < len(message) < 10_000

    def check(self, content: bytes) -> None:
        self.path.write_bytes(content)
        began = time.process_time()
        _judge(CliRunner().invoke(main, ["study", "check", str(self.path), *IN_PROCESS]), {0, 2})
        assert time.process_time() - began < SECONDS


def _judge(result: Result, codes: set[int]) -> None:
    assert result.exit_code in codes, (result.output, result.exc_info)
    assert isinstance(result.exception, (SystemExit, type(None))), result.exception
    assert "Traceback" not in result.output
    assert "wasn't foreseen" not in result.output


@pytest.fixture
def judge(project: Path) -> Judge:
    """A judge beside the toy project."""
    return Judge(project / "fuzzed.yaml")


def _read_many(judge: Judge, examples: int) -> None:
    base = (judge.path.parent / "study.yaml").read_bytes()
    # Not made smaller: a study file is small, and a busy machine would take minutes over it.
    phases = (Phase.explicit, Phase.generate)
    checks = list(HealthCheck)
    shared = settings(max_examples=examples, suppress_health_check=checks, database=None, phases=phases)

    @shared
    @given(CHANGES)
    def by_schema(changes: list[tuple[tuple[str, ...], Any]]) -> None:
        data = _changed(yaml.safe_load(base), changes)
        judge.load(yaml.safe_dump(data, allow_unicode=False).encode())

    @shared
    @given(SPLICES)
    def by_bytes(splices: list[tuple[int, int, bytes]]) -> None:
        judge.load(_spliced(base, splices))

    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: earlier tests of this process had theirs
    before = _kib("VmRSS")
    by_schema()
    by_bytes()
    assert (_kib("VmHWM") - before) * 1024 < BYTES


def _kib(name: str) -> int:
    """Return a number of this process's memory, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@pytest.mark.slow
def test_study_files_at_random_are_read_or_refused(judge: Judge) -> None:
    _read_many(judge, 100)
    assert judge.count >= 200
    assert judge.taken


@pytest.mark.slow
def test_thousands_of_study_files_at_random_are_checked_and_some_run(judge: Judge) -> None:
    _read_many(judge, 1000)
    assert judge.count >= 2000
    CliRunner().invoke(main, ["study", "check", "study.yaml", *IN_PROCESS])  # imports PyTorch: no file's own time
    for content in judge.taken:
        judge.check(content)
    accepted = judge.taken[:: max(1, len(judge.taken) // 20)][:20]
    assert len(accepted) == 20
    short = ("--set", "budget={trials: 1, epochs: 1}", "--set", "workers=1", "--set", "confirm_seeds=0")
    for content in accepted:
        judge.path.write_bytes(content)
        result = CliRunner().invoke(main, ["study", "run", str(judge.path), *IN_PROCESS, *short])
        _judge(result, {0, 1, 2})
