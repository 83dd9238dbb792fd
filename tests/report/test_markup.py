from __future__ import annotations

import json

import pytest

from bsopt.report.markup import Html, embedded_json, join, tag, verbatim


def test_text_is_escaped_and_markup_is_not() -> None:
    inner = tag("b", "1 < 2 & 3")
    assert inner == "<b>1 &lt; 2 &amp; 3</b>"
    assert join(inner, "<script>") == "<b>1 &lt; 2 &amp; 3</b>&lt;script&gt;"


def test_attributes_are_escaped_and_absent_ones_left_out() -> None:
    assert tag("td", "x", class_='a" onclick="b', title=None, hidden=True) == (
        '<td class="a&quot; onclick=&quot;b" hidden>x</td>'
    )


def test_no_content_ends_embedded_json() -> None:
    element = embedded_json(json.dumps({"name": "</script><script>alert(1)</script>&"}), id="x")
    assert element.count("<") == 2
    inside = element.removeprefix('<script type="application/json" id="x">').removesuffix("</script>")
    assert json.loads(inside)["name"] == "</script><script>alert(1)</script>&"


def test_our_own_code_must_not_end_its_element() -> None:
    assert isinstance(verbatim("style", "a{}"), Html)
    with pytest.raises(AssertionError):
        verbatim("script", "'</script>'")
