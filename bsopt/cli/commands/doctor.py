"""`bsopt doctor`."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import click

from bsopt.cli.group import Command
from bsopt.cli.opening import DEFAULT_STORAGE
from bsopt.cli.options import json_option, storage_option
from bsopt.cli.terminal.formatting import json_text
from bsopt.units import count_of, format_bytes

__all__ = ["doctor"]

_REQUIRED = ("torch", "pytorch-lightning", "optuna", "numpy", "scipy", "plotly", "pydantic", "PyYAML", "click", "rich")
_EXTRAS = {
    "scikit-learn": "examples",
    "optuna-dashboard": "dashboard",
    "kaleido": "images",
    "psycopg": "postgresql",
    "PyMySQL": "mysql",
    "grpcio": "grpc",
    "jsonargparse": "cli-yaml",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        topic: What was looked at.
        text: What was found.
        verdict: "ok", "missing" (optional, and not there) or "problem".
    """

    topic: str
    text: str
    verdict: Literal["ok", "missing", "problem"] = "ok"


@click.command(cls=Command, short_help="Show versions, devices and the storage.")
@storage_option
@json_option
def doctor(storage: str | None, as_json: bool) -> None:
    """Show versions, devices, the storage and optional packages. Ends with 2 when something needed is broken."""

    findings = [*_versions(), *_devices(), _storage(storage), *_extras()]
    if as_json:
        click.echo(json_text(findings))
    else:
        colours = {"ok": "green", "missing": "yellow", "problem": "red"}
        signs = {"ok": "✓", "missing": "–", "problem": "✗"}
        for finding in findings:
            sign = click.style(signs[finding.verdict], fg=colours[finding.verdict])
            click.echo(f"{sign} {finding.topic:<18} {finding.text}")
    if any(finding.verdict == "problem" for finding in findings):
        click.get_current_context().exit(2)


def _versions() -> list[Finding]:
    import bsopt

    findings = [
        Finding("bsopt", bsopt.__version__),
        Finding("Python", f"{platform.python_version()} ({sys.executable})"),
        Finding("system", f"{platform.system()} {platform.release()} on {platform.machine()}"),
    ]
    for name in _REQUIRED:
        found = _version(name)
        findings.append(Finding(name, found) if found else Finding(name, f"pip install {name}", "problem"))
    lightning = _version("lightning")
    if lightning:
        findings.append(Finding("lightning", f"{lightning} (modules of lightning.pytorch are served as well)"))
    return findings


def _devices() -> list[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        return [Finding("devices", f"torch can't be imported: {error}", "problem")]

    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    findings = [Finding("cpu", f"{available} cores for this process, {torch.get_num_threads()} threads by default")]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        findings.append(Finding(f"cuda:{index}", f"{properties.name}, {format_bytes(properties.total_memory)}"))
    if torch.backends.mps.is_available():
        findings.append(Finding("mps", "Apple's GPU"))
    return findings


def _storage(url: str | None) -> Finding:
    from bsopt.cli.opening import existing_storage, quiet_hosts
    from bsopt.errors import BsoptError
    from bsopt.storage.databases import redacted

    quiet_hosts()
    address = url or DEFAULT_STORAGE
    try:
        import optuna

        from bsopt.storage.databases import open_storage

        count = len(optuna.get_all_study_names(open_storage(existing_storage(address))))
    except BsoptError as error:
        if url is None:  # nobody asked for it: it is made by the first run
            return Finding("storage", f"none at {DEFAULT_STORAGE} yet; the first run makes it", "missing")
        return Finding("storage", str(error), "problem")
    return Finding("storage", f"{redacted(address)}: {count_of(count, 'study', plural='studies')}")


def _extras() -> list[Finding]:
    findings = []
    for name, extra in _EXTRAS.items():
        found = _version(name)
        text = found or f"optional: pip install 'bsopt[{extra}]'"
        findings.append(Finding(name, text, "ok" if found else "missing"))
    return findings


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
