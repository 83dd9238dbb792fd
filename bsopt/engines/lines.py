"""Lines between the ranks of several nodes: authenticated, at the rendezvous address, and of plain data.

Every rank knows a secret: what `BSOPT_RANKS_KEY` says, or what rank 0 writes into the study's output folder, in a file
that only its user can read. The store of torch's rendezvous, which anybody who reaches it can read and write, says
where rank 0 listens and the file's name, and nothing secret. (torch's own traffic between ranks is neither
authenticated nor encrypted: PyTorch wants a network that is trusted.)
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
import secrets
import socket
import struct
import time
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any, TypeVar

from bsopt.errors import StudyError
from bsopt.serialization import from_plain, to_plain

__all__ = ["accept", "join", "receive", "send"]

_HANDSHAKE_SECONDS = 10
_FILE_SECONDS = 60.0
_MOST_BYTES = 64 << 20
_KEY_VARIABLE = "BSOPT_RANKS_KEY"
_T = TypeVar("_T")


def accept(store: Any, address: str, *, world_size: int, folder: Path, seconds: float) -> dict[int, Connection]:
    """Wait on rank 0 for a line from every other rank, and return them by rank.

    Args:
        store: torch's key-value store.
        address: Where the other ranks look for rank 0.
        world_size: Ranks in all.
        folder: The study's output folder.
        seconds: How long to wait for each.

    Raises:
        StudyError: They didn't come.
    """
    lines: dict[int, Connection] = {}
    with _secret_of_rank_0(folder) as (key, file), socket.create_server((_bound_to(address), 0)) as server:
        server.settimeout(seconds)
        store.set("bsopt/line", json.dumps({"port": server.getsockname()[1], "file": file}))
        while len(lines) < world_size - 1:
            try:
                end, _ = server.accept()
            except OSError as error:
                minutes = f"{seconds / 60:g} minutes"
                raise StudyError(f"only {len(lines) + 1} of {world_size} ranks came within {minutes}.") from error
            line, rank = _authenticated(end, key)
            if line is not None and 0 < rank < world_size and rank not in lines:
                lines[rank] = line
            elif line is not None:
                line.close()
    return lines


def join(store: Any, address: str, *, rank: int, folder: Path) -> Connection:
    """Open a rank's line to rank 0.

    Args:
        store: torch's key-value store.
        address: Where rank 0 is.
        rank: This rank.
        folder: The study's output folder.

    Raises:
        StudyError: This rank doesn't know the secret, or rank 0 is gone.
    """
    where = json.loads(store.get("bsopt/line"))
    key = _secret_of_other_rank(folder, str(where["file"]))
    try:
        line = Client((address, int(where["port"])), authkey=key)
    except AuthenticationError as error:
        raise StudyError(f"{_KEY_VARIABLE} isn't the same on every node.") from error
    except (OSError, EOFError) as error:
        raise StudyError("rank 0, which runs the study, is gone. Start all ranks again.") from error
    _keep_alive(line)
    line.send_bytes(str(rank).encode())
    return line


def send(line: Connection, message: object) -> bool:
    """Send a dataclass of plain values; return whether it could be sent."""
    try:
        line.send_bytes(json.dumps(to_plain(message), default=str).encode())
    except OSError:
        return False
    return True


def receive(line: Connection, kind: type[_T]) -> _T | None:
    """Return the next message on a line as a dataclass of that kind; None where the line has ended or says nonsense."""
    try:
        return from_plain(kind, json.loads(line.recv_bytes(_MOST_BYTES)))
    except (EOFError, OSError, ValueError, TypeError, AttributeError):
        return None


@contextlib.contextmanager
def _secret_of_rank_0(folder: Path) -> Iterator[tuple[bytes, str]]:
    """Give the key and the name of the file that holds it while the other ranks come; no name where all know it."""
    said = os.environ.get(_KEY_VARIABLE)
    if said:
        yield hashlib.sha256(said.encode()).digest(), ""
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"ranks-{secrets.token_hex(8)}.key"
    key = secrets.token_bytes(32)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key)
    try:
        yield key, path.name
    finally:
        path.unlink(missing_ok=True)


def _secret_of_other_rank(folder: Path, file: str) -> bytes:
    said = os.environ.get(_KEY_VARIABLE)
    if said and not file:
        return hashlib.sha256(said.encode()).digest()
    path, until = folder / Path(file).name, time.monotonic() + _FILE_SECONDS
    while file and time.monotonic() < until:
        with contextlib.suppress(OSError):
            key = path.read_bytes()
            if len(key) == 32 and path.stat().st_uid == os.getuid():
                return key
        time.sleep(0.2)  # a shared disk may show it late
    raise StudyError(
        f"this rank doesn't know the secret of rank 0: set {_KEY_VARIABLE} to the same long random text on every node"
        + (f", or put the output folder {folder} on a disk that all of them share." if file else ".")
    )


def _authenticated(end: socket.socket, key: bytes) -> tuple[Connection | None, int]:
    """Return a line and whose it is; None for somebody who doesn't know the key, or says nothing."""
    end.settimeout(None)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _HANDSHAKE_SECONDS, 0))
    line = Connection(end.detach())
    try:
        deliver_challenge(line, key)
        answer_challenge(line, key)
        rank = int(line.recv_bytes(16))
    except (OSError, EOFError, AuthenticationError, ValueError):
        line.close()
        return None, 0
    _keep_alive(line)
    return line, rank


def _bound_to(address: str) -> str:
    """Return the address of this host to listen at: the rendezvous's, all where a name means the host itself."""
    try:
        found = socket.getaddrinfo(address, 0, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
    except OSError:
        return ""
    is_only_here = ipaddress.ip_address(found).is_loopback and address not in ("localhost", str(found))
    if is_only_here:  # Debian's /etc/hosts names the host 127.0.1.1; the other nodes know it by another address
        return ""
    with socket.socket() as probe:
        try:
            probe.bind((found, 0))
        except OSError:  # behind a translated address
            return ""
    return str(found)


def _keep_alive(line: Connection) -> None:
    """Have the system notice within about a minute when the other host is gone without a word."""
    with socket.socket(fileno=os.dup(line.fileno())) as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 0))
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, seconds in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)
