"""Whether every control of the page can be seen and reached, at every size that guests come with."""

import json
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import Page

from tests.support.judges.page import settled

SIZES = {
    "320": (320, 568),
    "360": (360, 740),
    "390": (390, 844),
    "768": (768, 1024),
    "1024": (1024, 768),
    "1440": (1440, 900),
    "2560": (2560, 1440),
    "phone on its side": (740, 360),
    "1280 at 200 %": (640, 430),
}
IFRAMES = {"small iframe": (320, 180), "iframe": (640, 360)}
FAULTS = Path(__file__).with_suffix(".js").read_text()

# All that may be there is there: the menu's choices, the offer after an outage, a clip, and the
# button for the sound.
EVERYTHING = """() => {
    const all = ["settings", "choice", "speed-choice", "caption-choice", "audio-choice"];
    all.push("missed", "clipped", "unmute");
    for (const id of all) document.getElementById(id).hidden = false;
    document.getElementById("caption").replaceChildren(new Option("No captions"));
    document.getElementById("missed-text").textContent = "You missed 55 s.";
    document.getElementById("clip-text").textContent = "The clip could not be made. Please try again.";
    document.getElementById("behind-by").textContent = "-1:00:55";
    document.documentElement.toggleAttribute("data-embed", EMBED);
}"""
TOGGLE_CHOICES = "void document.getElementById('choices').togglePopover()"


FINGER = 44  # CSS pixels
# Controls that are narrower or lower than a finger needs; a switch is as large as its label.
SMALL = """(least) => {
    const controls = 'body :is(button, a, select, label.switch, input:not([type="checkbox"]))';
    document.querySelector("main")?.removeAttribute("data-idle");
    document.getElementById("seeking")?.toggleAttribute("hidden", false);
    const isSeen = (control) => control.checkVisibility({ visibilityProperty: true });
    const sizeOf = (control) => [control.offsetWidth, control.offsetHeight];
    const small = [...document.querySelectorAll(controls)].filter((control) => {
        const [width, height] = sizeOf(control);
        return isSeen(control) && width > 0 && (width < least || height < least);
    });
    return small.map((control) => `${control.id || control.textContent} ${sizeOf(control).join(" x ")}`);
}"""


async def check_fingers(page: Page) -> None:
    """At each size every control has room for a finger, on a page that was opened with one."""
    found = {}
    for name, (width, height) in (SIZES | IFRAMES).items():
        await page.set_viewport_size({"width": width, "height": height})
        await page.evaluate(EVERYTHING.replace("EMBED", str(name in IFRAMES).lower()))
        await settled(page)
        for what in ("all", "choices"):
            if small := await page.evaluate(SMALL, FINGER):
                found[f"{what} at {name}"] = small
            await page.evaluate(TOGGLE_CHOICES)
            await settled(page)
    assert found == {}, json.dumps(found, indent=1)


async def check_boxes(page: Page, folder: Path) -> None:
    """At each size no control is cut, covered or on top of another; the pictures are in ``folder``."""
    before = page.viewport_size
    found: dict[str, Any] = {}
    colors: tuple[Literal["none", "active"], ...] = ("none", "active")
    for forced in colors:
        await page.emulate_media(forced_colors=forced)
        for name, (width, height) in (SIZES | IFRAMES).items():
            everything = EVERYTHING.replace("EMBED", str(name in IFRAMES).lower())
            await page.evaluate(everything)
            await page.set_viewport_size({"width": width, "height": height})
            await page.mouse.move(width // 2, 50)
            await settled(page)
            for what in ("all", "choices"):
                if faults := await page.evaluate(f"() => {{ ({everything})(); return ({FAULTS})(); }}"):
                    found[f"{what} at {name}, forced colours {forced}"] = faults
                await page.screenshot(path=folder / f"size {name} {forced} {what}.png")
                await page.evaluate(TOGGLE_CHOICES)
                await settled(page)
    await page.emulate_media(forced_colors="none")
    await page.evaluate("""() => {
        const all = ["settings", "speed-choice", "caption-choice", "audio-choice", "missed"];
        all.push("clipped");
        for (const id of all) document.getElementById(id).hidden = true;
        document.documentElement.removeAttribute("data-embed");
    }""")
    if before:
        await page.set_viewport_size(before)
    assert found == {}, json.dumps(found, indent=1)
