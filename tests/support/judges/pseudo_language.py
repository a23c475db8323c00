"""A language for trial, from right to left: each text in brackets, so that other words show."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from broadcaster.own_files import VIEWER

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page, Route

LOCALE = "de-DE"  # in whose place it is
# Every text and every name in the document, shown or not, but for what the stream and the operator say.
SAID = """() => {
    const said = [document.title];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const { data, parentElement } = texts.currentNode;
        if (!parentElement.closest("script, noscript, style")) said.push(data);
    }
    for (const element of document.querySelectorAll("*")) {
        for (const name of ["aria-label", "aria-valuetext", "title", "alt", "placeholder"]) {
            said.push(element.getAttribute(name) ?? "");
        }
    }
    return said;
}"""
WORD = re.compile(r"[^\W\d_]{2,}")
# What no catalogue has: figures with their units, hosts, and R2.
FIGURES = re.compile(r"\b(?:[kMG]B|[kM]bit/s|ms|R2|[\w.-]+:\d+|\d+p)(?!\w)")


def pseudo() -> dict[str, Any]:
    """The catalogue's file of it."""
    english = json.loads((VIEWER / "public/languages/en.json").read_text())

    def bracketed(text: Any) -> Any:  # noqa: ANN401 - a text, or its forms
        if isinstance(text, dict):
            return {form: bracketed(value) for form, value in text.items()}
        return f"⟦{text}⟧"

    return {name: bracketed(text) for name, text in english.items()} | {"direction": "rtl"}


async def speak(context: BrowserContext, ready: Callable[[], Awaitable[object]] | None = None) -> None:
    """Give pages this language in the place of another one, as soon as it is ``ready``."""

    async def answer(route: Route) -> None:
        if ready is not None:
            await ready()
        await route.fulfill(json=pseudo())

    await context.route(re.compile(r"/assets/de-.*\.json|/languages/de\.json"), answer)


async def outside(page: Page) -> list[str]:
    """The texts and names of a page that are not of the catalogue."""
    said = [text.strip() for text in await page.evaluate(SAID)]
    return [text for text in said if WORD.search(FIGURES.sub("", text)) and "⟦" not in text]
