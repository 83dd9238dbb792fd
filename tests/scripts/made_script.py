"""Stands where `scripts/check_gpu` does for the processes of made rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from gpu_checks.driver import Place, Row, serve_row


def main() -> None:
    words = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    function, _, arguments = words["--row"].partition("?")
    row = Row(words["--row"], "", f"made_rows:{function}", json.loads(arguments or "{}"))
    serve_row(row.name, [row], Place(**json.loads(words["--place"])), Path(words["--out"]))


if __name__ == "__main__":
    main()
