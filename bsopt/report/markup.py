"""HTML that is safe by construction: text is escaped unless it was built here."""

from __future__ import annotations

import html
from typing import Any

__all__ = ["Html", "embedded_json", "join", "tag", "verbatim"]

_VOID = {"meta", "br", "input", "link"}


class Html(str):
    """Markup; any other string is text and gets escaped."""

    __slots__ = ()


def tag(name: str, /, *children: str | None, **attributes: str | int | bool | None) -> Html:
    """Return an element.

    Args:
        name: Tag name.
        children: Markup (`Html`) as it is, other strings escaped, None left out.
        attributes: `class_` is `class`, other underscores become hyphens; None and False are left out.

    >>> tag("p", "1 < 2", class_="note")
    '<p class="note">1 &lt; 2</p>'
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: str | None) -> Html:
    """Return the children one after the other, text escaped."""
    return Html("".join(_escaped(child) for child in children if child is not None))


def verbatim(name: str, content: str, **attributes: str | int | bool | None) -> Html:
    """Return a `style` or `script` element around code of our own, which HTML would not let us escape."""
    assert f"</{name}" not in content.lower(), f"{name} would end early"
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    return Html(f"<{name}{written}>{content}</{name}>")


def embedded_json(data: str, **attributes: str | int | bool | None) -> Html:
    """Return JSON text in a script element that no content of it can end."""
    safe = data.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    return Html(f'<script type="application/json"{written}>{safe}</script>')


def _attribute(key: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value), quote=True)}"'


def _escaped(child: str) -> str:
    return child if isinstance(child, Html) else html.escape(child, quote=False)
