"""Which installed packages a task imports: read from its files, so that trials start with them already loaded.

Only packages are taken that are known to do nothing at import but define things: a trial is forked from the process
that has imported them, and threads and GPU contexts don't survive that.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["installed_imports"]

_SAFE = {
    *("lightning", "pytorch_lightning", "torch", "torchaudio", "torchmetrics", "torchvision"),
    *("PIL", "datasets", "einops", "hydra", "jsonargparse", "numpy", "omegaconf", "pandas", "scipy", "sklearn"),
    *("timm", "transformers", "yaml"),
}
_CLI = ("pytorch_lightning.cli", "lightning.pytorch.cli")


def installed_imports(task: Mapping[str, Any], folders: Sequence[Path]) -> tuple[str, ...]:
    """Return the modules of well-known packages that a task's own files import at their top level.

    Args:
        task: The study file's `task` block as plain data.
        folders: Where its imports are looked up; of what they import themselves, files in these are read, too.
    """
    entry = task.get("entry") or {}
    classes = [(task.get(name) or {}).get("class_path") for name in ("model", "data")]
    objects = [*classes, task.get("factory"), entry.get("function")]
    waiting = [str(path).replace(":", ".").rpartition(".")[0] for path in objects if path]
    files = [Path(folder) / entry["script"] for folder in folders if entry.get("script")]
    found = dict.fromkeys(_CLI) if entry else {}
    read: set[Path] = set()
    while waiting or files:
        if not files:
            module = waiting.pop()
            files = [file for folder in folders for file in _files_of(module, folder)]
            continue
        file = files.pop()
        if file in read:
            continue
        read.add(file)
        for name in _imports(file):
            if name.split(".")[0] in _SAFE:
                found[name] = None
            elif name not in waiting:
                waiting.append(name)
    return tuple(found)


def _files_of(module: str, folder: Path) -> list[Path]:
    base = Path(folder).joinpath(*module.split("."))
    return [file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()]


def _imports(file: Path) -> list[str]:
    """Return the modules that a file imports at its top level; none where it can't be read."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return []
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
    return names
