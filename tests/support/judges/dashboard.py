"""The dashboard as a test sees it: whether all that is needed is on one screen, and whether figures agree."""

from __future__ import annotations

import re
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from playwright.async_api import Page

from tests.support.waiting import eventually

SCREENS = ((360, 740), (1440, 900), (390, 844))  # pixels; a checklist has to be scrolled on the first
CANVAS = ".plot canvas"  # of which one has to be there
DASH = "\N{EN DASH}"  # nothing is known
NEEDED = (
    *("#clock", "#age", ".sound", "#verdict", "#sentence", "#lamps li"),
    *("[aria-selected=true]", "#now-tiles dt", "#now-tiles dd"),
)
HIDDEN = """([selectors, one]) => {
    const isHidden = (element) => {
        const { left, top, right, bottom, width } = element.getBoundingClientRect();
        const at = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
        const isOurs = (other) => element.contains(other) || element.parentElement.contains(other);
        const isCovered = at === null || !isOurs(at);
        const isCut = element.tagName !== "SPAN" && element.scrollWidth > element.clientWidth + 1;
        const isInside = width > 0 && left >= 0 && top >= 0 && right <= innerWidth && bottom <= innerHeight;
        return isCovered || isCut || !isInside;
    };
    const find = (selector) => [...document.querySelectorAll(selector)];
    const lacks = (found, name) => found.length === 0 || found[name](isHidden);
    return selectors.filter((selector) => lacks(find(selector), selector === one ? "every" : "some"));
}"""
FITS = """() => {
    const { scrollHeight, scrollWidth } = document.scrollingElement;
    return scrollHeight <= innerHeight && scrollWidth <= innerWidth;
}"""
# All of the dashboard at a moment, as far as one thing is named in two places.
SHOWN = """() => {
    const all = (selector) => [...document.querySelectorAll(selector)];
    const words = (element) => element.textContent.replace(/\\s+/g, " ").trim();
    const pair = (tile) => [words(tile.querySelector("dt")), words(tile.querySelector("dd"))];
    const tiles = (selector) => Object.fromEntries(all(`${selector} div`).map(pair));
    const states = (selector, name) =>
        Object.fromEntries(all(selector).map((element) => [name(element), element.dataset.state ?? "ok"]));
    return {
        title: document.title,
        verdict: words(document.querySelector("#verdict")),
        state: document.querySelector("#status").dataset.state,
        sentence: words(document.querySelector("#sentence")),
        tiles: tiles("#now-tiles"),
        audience: tiles("#audience"),
        ill: states("#now-tiles div", (tile) => words(tile.querySelector("dt"))),
        lamps: states("#lamps li", (lamp) => words(lamp).slice(2)),
        badge: words(document.querySelector("#checked")),
        checks: states("#checks li", (item) => words(item.querySelector("strong"))),
        checklist: words(document.querySelector("#checks")),
        qualities: all("#qualities tr").map((line) => [...line.cells].map(words)),
    };
}"""
# The lamps of what a tile is about: it is as ill as one of these.
ABOUT = {
    "Last segment": ("Encoder", "Viewers"),
    "Uplink left": ("Bucket",),
    "Waiting": ("Bucket",),
    "Behind live": ("Viewers",),
    "No picture": ("Viewers",),
}
# The findings of what a tile, and what a lamp is about.
TILE_CHECKS = {"Disk lasts": "Disk for 9 h", "Recording": "Recording on"}
LAMP_CHECKS = {"Encoder": "Encoder connected"}
# Figures of a sentence, and the tile that is about the same thing.
SAME = (
    (r"(\d+) segments \(", "Waiting"),
    (r"(\d+) segments wait", "Waiting"),
    (r"segments \(([^)]+B)\)", "Waiting"),
    (r"the disk lasts ([^;]+);", "Disk lasts"),
    (r"for an outage of (\d+ \w+)", "Disk lasts"),
    (r"encoder has brought nothing new for (\d+ \w+)", "Last segment"),
    (r"the stream needs ([\d.]+)", "Uplink left"),
    (r"LIVE: (\d+) viewer", "Viewers"),
    (r"FROZEN for (\d+ \w+)", "No picture"),
    (r"FROZEN for (\d+ \w+)", "Behind live"),
    (r"FROZEN for (\d+ \w+)", "Last segment"),
    (r"last segment (.*)", "Last segment"),
)


async def fits(page: Page, picture: Path, below: str = CANVAS) -> None:
    """On a desk and on a phone nothing has to be scrolled for, and nothing that is needed is covered."""
    for width, height in SCREENS if below == CANVAS else SCREENS[1:]:
        await page.set_viewport_size({"width": width, "height": height})
        await page.wait_for_function(FITS)
        # Plots take their new size a frame later.
        needed = [*NEEDED, below]
        if await page.locator("#lines li").count():
            needed.append("#lines li")
        await eventually(partial(page.evaluate, HIDDEN, [needed, CANVAS]), lambda found: found == [])
        await page.screenshot(path=picture.with_name(f"{picture.name}-{width}.png"))


async def tiles_of(page: Page, *, stands: bool = False) -> dict[str, str]:
    """The figures of the first tab by their names; nothing else on the page differs from them.

    Where time ``stands``, neither do the table of qualities and ``/health``, which is asked a moment later.
    """
    shown = await page.evaluate(SHOWN)
    tiles: dict[str, str] = shown["tiles"]
    _agree_on_figures(tiles, shown["sentence"], shown["checklist"])
    if shown["state"] != "old":
        _agree_on_severity(shown)
    assert shown["audience"].get("Behind live", tiles["Behind live"]) == tiles["Behind live"]
    if stands:
        answer = await page.request.get(re.sub("/dashboard.*", "/health", page.url))
        health = await answer.json()
        assert (shown["state"] == "failing") is (health["status"] == "failing")
        assert tiles["Waiting"].split()[0] == str(health["backlog"])
        _agree_on_figures(tiles, health["reason"] or "", health["warning"] or "")
        assert sum(int(waiting) for *_, waiting, _ in shown["qualities"]) in {health["backlog"], 0}
        if shown["state"] != "ok":
            assert all(age in tiles["Last segment"] for _, _, age, _, _ in shown["qualities"]), shown
    return tiles


def _agree_on_figures(tiles: dict[str, str], *texts: str) -> None:
    for text, (pattern, name) in product(texts, SAME):
        if found := re.search(pattern, text):
            assert found[1] in tiles[name], (text, tiles)


def _agree_on_severity(shown: dict[str, Any]) -> None:
    ill, lamps, checks = shown["ill"], shown["lamps"], shown["checks"]
    assert shown["title"].startswith(shown["verdict"])
    for tile, about in ABOUT.items():
        assert ill[tile] in {"ok", *(lamps[lamp] for lamp in about)}, (tile, ill, lamps)
    if lamps["Encoder"] != "ok" and shown["tiles"]["Last segment"] != DASH:
        assert ill["Last segment"] == lamps["Encoder"], (ill, lamps)
    for tile, check in TILE_CHECKS.items():
        assert ill[tile] == checks[check].replace("off", "ok"), (tile, ill, checks)
    for lamp, check in LAMP_CHECKS.items():
        assert lamps[lamp] == checks[check], (lamp, lamps, checks)
    to_do = sum(state in {"warning", "failing"} for state in checks.values())
    assert shown["badge"] == (f"{to_do} to do" if to_do else "\N{CHECK MARK}") or shown["state"] == "off"
