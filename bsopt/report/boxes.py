"""What the report's sections are made of: tables in a frame that a keyboard can scroll, and text to copy."""

from __future__ import annotations

from bsopt.report.markup import Html, tag

__all__ = ["code", "framed"]


def framed(table: Html, *, label: str, class_: str = "") -> Html:
    """Return a table in its frame.

    Args:
        table: The table.
        label: What it holds, for those who can't see the heading above it.
        class_: Further classes of the frame.
    """
    classes = f"scroll {class_}".strip()
    return tag("div", table, class_=classes, tabindex=0, role="region", aria_label=label)


def code(title: str, text: str, element_id: str) -> Html:
    """Return a text to paste, with a button that copies it.

    Args:
        title: What it is.
        text: As it is to be pasted.
        element_id: Of the text, for the button.
    """
    button = tag("button", "copy", type="button", class_="copy", data_copy=element_id, aria_label=f"Copy: {title}")
    return tag("div", tag("div", title, button, class_="code-title"), tag("pre", text, id=element_id, tabindex=0))
