"""Real servers for the tests that need one."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Database:
    """A PostgreSQL server that can be stopped and started again."""

    url: str
    stop: Callable[[], None]
    start: Callable[[], None]


@contextlib.contextmanager
def postgresql(folder: Path, *, is_durable: bool = False) -> Iterator[str]:
    """Start a PostgreSQL server with an empty database and yield its SQLAlchemy URL; skip where there is none.

    Args:
        folder: Where its files go.
        is_durable: As in `database`.
    """
    with database(folder, is_durable=is_durable) as server:
        yield server.url


@contextlib.contextmanager
def database(folder: Path, *, is_durable: bool = False) -> Iterator[Database]:
    """Start a PostgreSQL server with an empty database; skip where there is none.

    Args:
        folder: Where its files go.
        is_durable: Whether a commit waits for the disk, as on a server that people rely on.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(p) for p in [shutil.which("initdb")] if p]
    if not found:
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("psycopg")
    programs, data, port = found[-1].parent, folder / "data", free_port()
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        as_user = ["runuser", "-u", "postgres", "--"]
        folder.chmod(0o755)
        for parent in folder.parents:
            if parent == Path("/tmp"):
                break
            parent.chmod(parent.stat().st_mode | 0o055)
        shutil.chown(folder, "postgres")

    patient = {**os.environ, "PGCTLTIMEOUT": "600"}  # on a busy machine a start takes long

    def run(*command: str) -> None:
        subprocess.run(
            [*as_user, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", env=patient
        )

    run(str(programs / "initdb"), "-D", str(data), "-U", "tester", "--auth=trust", "--no-sync")
    durability = "on" if is_durable else "off"
    # no Unix socket: the path of a test's folder may be longer than a socket's may be
    options = f"-p {port} -c unix_socket_directories='' -c listen_addresses=127.0.0.1 -c fsync={durability}"
    control = (str(programs / "pg_ctl"), "-D", str(data))

    def start() -> None:
        run(*control, "-w", "-l", str(folder / "log"), "-o", options, "start")

    def stop() -> None:
        run(*control, "-m", "immediate", "stop")

    start()
    try:
        yield Database(f"postgresql+psycopg://tester@127.0.0.1:{port}/postgres", stop, start)
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):  # stopped already
            stop()


@contextlib.contextmanager
def grpc_proxy(url: str) -> Iterator[str]:
    """Start Optuna's gRPC proxy in front of a storage and yield its address."""
    pytest.importorskip("grpc")
    port = free_port()
    code = (
        "import optuna, sys, warnings; warnings.simplefilter('ignore'); "
        "from bsopt.storage.databases import open_storage; "
        "optuna.storages.run_grpc_proxy_server(open_storage(sys.argv[1]), host='127.0.0.1', port=int(sys.argv[2]))"
    )
    server = subprocess.Popen([sys.executable, "-c", code, url, str(port)], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < until, "the gRPC proxy did not start"
            assert server.poll() is None, "the gRPC proxy ended"
            time.sleep(0.1)
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)
