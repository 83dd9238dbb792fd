"""Rows that do what a test of the driver needs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from gpu_checks.driver import Found, Place


def tells(place: Place, text: str = "well", holds: bool | None = True) -> Found:
    return Found(text, holds, {"device": place.device})


def raises(place: Place) -> Found:
    raise ValueError("the row is broken")


def dies(place: Place) -> Found:
    os._exit(7)


def hangs(place: Place, child: str) -> Found:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(child).write_text(str(process.pid))
    time.sleep(600)
    return Found("never")
