"""How an answer looks in a notebook: HTML that needs neither style sheet nor script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["answer_card"]


def answer_card(sentence: str, caveats: Sequence[str], goals: Sequence[tuple[str, str, str]], settings: str) -> str:
    """Return an answer as HTML, all text escaped.

    Args:
        sentence: The answer.
        caveats: What to know before trusting it.
        goals: Goal, batch size and learning rate of each choice; a table where there is more than one.
        settings: To paste; folded away.

    >>> answer_card("8 < 16.", (), (), "")
    '<div><p><b>8 &lt; 16.</b></p></div>'
    """
    parts = [f"<p><b>{escape(sentence)}</b></p>"]
    if caveats:
        parts.append(f"<ul>{''.join(f'<li>{escape(caveat)}</li>' for caveat in caveats)}</ul>")
    if len(goals) > 1:
        head = "".join(f"<th>{name}</th>" for name in ("goal", "batch size", "learning rate"))
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in goals)
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
    if settings:
        parts.append(f"<details><summary>Settings to paste</summary><pre>{escape(settings)}</pre></details>")
    return f"<div>{''.join(parts)}</div>"
