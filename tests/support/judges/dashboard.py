"""The dashboard as a test sees it: whether all that is needed is on one screen, and whether figures agree."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from playwright.async_api import Page

from tests.support.waiting import eventually

SCREENS = ((1440, 900), (390, 844))  # pixels
CANVAS = ".plot canvas"  # of which one has to be there
NEEDED = ("#verdict", "#sentence", "#lamps li", "[aria-selected=true]", "#now-tiles dt", "#now-tiles dd")
# Tiles that are less well, or better, than the lamp of what they are about.
LAMPS = """() => {
    const lampOf = (lamp) => [lamp.innerText.slice(2), lamp.dataset.state];
    const lamps = Object.fromEntries([...document.querySelectorAll("#lamps li")].map(lampOf));
    const about = {
        "Last segment": "Encoder", "Uplink left": "Bucket", Waiting: "Bucket",
        "Behind live": "Viewers", "No picture": "Viewers",
    };
    return [...document.querySelectorAll("#now-tiles div")].filter((tile) => {
        const name = tile.querySelector("dt").innerText, lamp = lamps[about[name]];
        const isTheSame = (tile.dataset.state ?? "ok") === lamp;
        return lamp && !isTheSame && (tile.dataset.state || name === "Last segment");
    }).map((tile) => tile.innerText);
}"""
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
    const count = (selector) => (selector === one ? 1 : Infinity);
    const find = (selector) => [...document.querySelectorAll(selector)].slice(0, count(selector));
    return selectors.filter((selector) => find(selector).length === 0 || find(selector).some(isHidden));
}"""
FITS = """() => {
    const { scrollHeight, scrollWidth } = document.scrollingElement;
    return scrollHeight <= innerHeight && scrollWidth <= innerWidth;
}"""
TILES = """() => [
    document.querySelector("#sentence").innerText,
    [...document.querySelectorAll("#now-tiles div")].map(({ innerText }) => innerText.split("\\n")),
]"""
# Figures of a sentence, and the tile that is about the same thing.
SAME = (
    (r"(\d+) segments \(", "Waiting"),
    (r"segments \(([^)]+B)\)", "Waiting"),
    (r"the disk lasts ([^;]+);", "Disk lasts"),
    (r"nothing new for (\d+ \w+)", "Last segment"),
    (r"the stream needs ([\d.]+)", "Uplink left"),
    (r"LIVE: (\d+) viewer", "Viewers"),
    (r"FROZEN for (\d+ \w+)", "No picture"),
    (r"last segment (.*)", "Last segment"),
)


async def fits(page: Page, picture: Path, below: str = CANVAS) -> None:
    """On a desk and on a phone nothing has to be scrolled for, and nothing that is needed is covered."""
    for width, height in SCREENS:
        await page.set_viewport_size({"width": width, "height": height})
        await page.wait_for_function(FITS)
        # Plots take their new size a frame later.
        needed = [*NEEDED, below]
        if await page.locator("#lines li").count():
            needed.append("#lines li")
        await eventually(partial(page.evaluate, HIDDEN, [needed, CANVAS]), lambda found: found == [])
        await page.screenshot(path=picture.with_name(f"{picture.name}-{width}.png"))


async def tiles_of(page: Page) -> dict[str, str]:
    """The figures of the first tab by their names; none differs from that of the sentence."""
    sentence, texts = await page.evaluate(TILES)
    tiles = {name: " ".join(" ".join(rest).split()) for name, *rest in texts}
    for pattern, name in SAME:
        if found := re.search(pattern, sentence):
            assert found[1] in tiles[name], (sentence, tiles)
    assert await page.evaluate(LAMPS) == []
    return tiles
