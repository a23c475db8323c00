"""What the page's HTML says of the event before anything runs: its title, and what link previews show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape, unescape
from urllib.parse import urljoin

TITLE = re.compile(r"<title>(?P<text>.*?)</title>", re.DOTALL | re.IGNORECASE)
LONGEST = 200  # characters of a text, as on the page


def described(html: str, settings: Mapping[str, object]) -> str:
    """The page with its title and the tags of link previews (ogp.me) as ``settings`` have them, escaped.

    Without a title the page keeps its own, which goes with a poster. ``pageUrl`` is the page's own public
    address. A picture needs one that is whole: previews take no other.
    """
    title, own = _text(settings.get("title")), TITLE.search(html)
    if title is None and own and _text(settings.get("poster")):
        title = unescape(own["text"])
    if title is None:
        return html
    lines = [f"<title>{escape(title)}</title>"]
    lines += [f'<meta property="{name}" content="{escape(text)}">' for name, text in _tags(title, settings)]
    return TITLE.sub(lambda _: "\n    ".join(lines), html, count=1)


def _tags(title: str, settings: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    yield "og:type", "website"
    yield "og:title", title
    if performer := _text(settings.get("performer")):
        yield "og:description", performer
    page = _address(settings.get("pageUrl"))
    if page:
        yield "og:url", page
    poster = _text(settings.get("poster"))
    if picture := _address(poster and urljoin(page or "", poster)):
        yield "og:image", picture


def _text(value: object) -> str | None:
    return value.strip()[:LONGEST] if isinstance(value, str) and value.strip() else None


def _address(value: object) -> str | None:
    text = _text(value)
    return text if text and text.startswith(("https://", "http://")) else None
