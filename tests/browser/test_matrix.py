"""Each state of the page at each size, dark and light, in languages of both directions: pictures, and judges.

The main states in Japanese and in forced colours, too.

Set ``SCREENSHOTS`` to a folder to keep the pictures: ``state-language-size-scheme.png``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import pytest
import pytest_asyncio

from broadcaster.access.gate import AskingPage
from broadcaster.http.static import TEXTS, translated
from tests.browser.other_engines import firefox, webkit
from tests.support.judges import pseudo_language
from tests.support.judges.held_page import hold, make_holdable
from tests.support.judges.page import barriers, is_played, settled, until
from tests.support.judges.page_layout import FAULTS, FINGER, IFRAMES, SIZES, SMALL, TOGGLE_CHOICES
from tests.support.length import SOAK
from tests.support.servers.fake_origin import VIEWER, FakeOrigin, Place, on_air
from tests.support.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from playwright.async_api import Browser, BrowserContext, Page

FINGERS = {name: SIZES[name] for name in ("360", "390", "768", "phone on its side")}
MICE = {name: SIZES[name] for name in ("1024", "1440", "2560")}
JUDGED_BY_AXE = {"390", "1440", "iframe"}
NARROW = {"Firefox": 390, "WebKitGTK": 460}  # whose window gets no narrower than 447
SCHEMES: tuple[Literal["dark", "light"], ...] = ("dark", "light")
Forced = Literal["none", "active"]
Sizes = Mapping[str, tuple[int, int]]
LANGUAGES = {"en": "en-GB", "de": "de-DE", "rtl": pseudo_language.LOCALE}
LOCALES = LANGUAGES | {"ja": "ja-JP"}
NOW = datetime.now(UTC)
HOUR = 3600
POSTER = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 36"><defs>
<linearGradient id="sky" x2="0" y2="1"><stop stop-color="#123a5c"/><stop offset="1" stop-color="#f0a060"/>
</linearGradient></defs><rect width="64" height="36" fill="url(#sky)"/><circle cx="44" cy="20" r="6"
fill="#ffe0a0"/><path d="M0 28l14-9 10 7 12-5 28 10v5H0z" fill="#20242c"/></svg>"""
LOGO = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><rect width="8" height="8" rx="2"
fill="#0b6e6e"/><path d="M2 6V2l4 4V2" fill="none" stroke="#fff"/></svg>"""
CHAT = """<!doctype html><html lang=en><meta name=color-scheme content="dark light"><title>Chat</title>
<style>body{font:1rem system-ui;margin:1rem}</style><p><b>Ada</b> Good evening from Lisbon!"""


def milliseconds(**since: float) -> int:
    """A moment so long after now, as the page has it."""
    return round(1000 * (NOW + timedelta(**since)).timestamp())


def recording(number: int, title: str, **more: object) -> dict[str, Any]:
    """A recording, as the index has it."""
    began = datetime(2026, 7, 1, 19, tzinfo=UTC) + timedelta(days=number)
    ended = began + timedelta(minutes=40 * number)
    times = {"started": began.isoformat(), "ended": ended.isoformat()}
    return {"id": f"2026-{number}", "title": title, "parts": ["x.m3u8"], **times, **more}


RECORDINGS = [
    recording(1, "Sound check", poster="poster.svg"),
    recording(2, ""),
    recording(
        3, "A very long evening with three bands, their friends, and all that came after", poster="poster.svg"
    ),
    recording(4, "The night before", poster="poster.svg"),
    recording(5, "Rehearsal", poster="gone.png"),
]
EVENING: dict[str, object] = {
    "title": "An evening in the harbour",
    "performer": "The Trio",
    "pageUrl": "https://live.example/evening",
    "poster": "/hls/segments/poster.svg",
    "logo": "/hls/segments/logo.svg",
    "description": "Four musicians, two hours, one boat.\nBring a blanket: evenings are cold by the water.",
    "links": [
        {"name": "Programme", "url": "https://example.com/"},
        {"name": "Tickets", "url": "https://example.com/t"},
    ],
    "recordings": {"newest": "/hls/segments/index.json", "list": "/recordings.html"},
    "clipsUrl": "/clips",
    "prices": {
        "storagePerGbMonth": 0.015,
        "classAPerMillion": 4.5,
        "classBPerMillion": 0.36,
        "compareEgressPerGb": 0.09,
    },
}
CHATTING = EVENING | {"chatUrl": "/hls/segments/chat.html"}
WATCHED = EVENING | {
    "recording": recording(
        4,
        "The night before",
        parts=["/hls/segments/recorded/playlist.m3u8"],
        poster="/hls/segments/poster.svg",
    )
}
ON_SHELF = [
    {
        "id": f"r{number}",
        "title": title,
        "started": milliseconds(days=-number),
        "ended": milliseconds(days=-number, hours=1),
    }
    | {"duration": HOUR, "parts": [], "poster": "/hls/segments/poster.svg", "file": None, "fileSize": None}
    for number, title in enumerate(("The night before", "", "Sound check"), start=1)
]
TIMELINE = {
    "start": 0, "first": 0, "live": HOUR,
    "anchors": [{"at": 0, "date": milliseconds(hours=-1)}, {"at": 1500, "date": milliseconds(minutes=-34)}],
}  # fmt: skip
ON = {
    "viewers": 214,
    "muted": False,
    "paused": False,
    "startsAt": milliseconds(minutes=-20),
    "shelf": ON_SHELF,
    "timeline": TIMELINE,
    "position": HOUR,
    "recorded": {**ON_SHELF[0], "ended": None},
}
OFF = {"startsAt": None, "viewers": 3, "shelf": ON_SHELF, "channel": "offline"}
BACK = ON | {"behind": True, "following": False, "paused": True, "position": 2400}
MISSED = {"seconds": 55, "date": milliseconds()}
BOTH = ON | {"muted": True, "missed": MISSED, "clip": {"stage": "clipFailed", "url": None}}
P2P = {"available": True, "enabled": False, "gives": True, "peers": 0, "reason": None}
CHOICES = {
    "captions": [{"id": "c0", "label": "English"}],
    "audioTracks": [
        {"id": 0, "lang": "en", "name": "English", "on": True},
        {"id": 1, "lang": "pt", "name": "", "on": False},
    ],
}


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """The folder for the pictures."""
    return Path(os.environ.get("SCREENSHOTS", tmp_path))


@dataclass(frozen=True)
class Shown:
    """What a page shows: a phase, and what differs from the state of a page that plays."""

    phase: str
    patch: dict[str, Any] = field(default_factory=dict)
    script: str = ""  # opens what no state opens, and closes it


def is_still(status: str, phase: str, **more: object) -> Shown:
    return Shown(phase, {**ON, "status": status, **more})


def is_off(phase: str, **more: object) -> Shown:
    return Shown(phase, {**OFF, "status": "offline", **more})


BOX = "document.getElementById('elsewhere-box').toggleAttribute('hidden')"
HELP = """() => {
    const help = document.getElementById("help");
    if (help.open) help.close();
    else help.showModal();
}"""
STATES = {
    "soon": is_off("soon", startsAt=milliseconds(hours=26, minutes=5)),
    "offline": is_off("offline", poster=None),
    "starting": is_off("starting", channel="starting"),
    "live": Shown("live", ON),
    "sharing": Shown("live", ON | {"p2p": P2P, "muted": True}),
    "blocked": is_still("blocked", "blocked", paused=True),
    "encoder": is_still("waiting", "encoder", trouble="encoder"),
    "delivery": is_still("waiting", "delivery", trouble="delivery"),
    "slow": is_still("buffering", "slow", slow=True, missed={"seconds": 55, "date": milliseconds()}),
    "behind": Shown("behind", BACK | CHOICES),
    "choices": Shown("behind", BACK | CHOICES | {"castable": True}, TOGGLE_CHOICES),
    "gone": Shown("gone", BACK | {"gone": True}),
    "missed": Shown("live", ON | {"muted": True, "missed": MISSED}),
    "clip": Shown("live", ON | {"clip": {"stage": "made", "url": "https://live.example/c/x"}}),
    "clip and missed": Shown("live", BOTH),
    "fallback": Shown("live", ON | {"muted": True, "fallback": True}),
    "ended": is_off("ended", channel="ended", ended=True, recorded=ON_SHELF[0]),
    "undecodable": is_still("undecodable", "undecodable", undecodable="HEVC"),
    "statistics": Shown("live", ON | {"statsOpen": True}),
    "keys": Shown("live", ON, HELP),
    "elsewhere": Shown("live", ON | {"elsewhere": "https://live.example/t/0123456789abcdef/x.m3u8"}, BOX),
    "reconnecting": is_still("reconnecting", "reconnecting", fallback=True),
}  # fmt: skip
CHAT_STATES = {
    "chat live": Shown("live", ON | {"p2p": P2P, "muted": True}),
    "chat soon": STATES["soon"],
    "chat ended": STATES["ended"],
    "chat statistics": STATES["statistics"],
    "chat theatre": Shown("behind", BACK | {"theatre": True}),
}
WATCH_STATES = {
    "watch": Shown("recorded", {"timeline": TIMELINE, "position": 1000, "muted": False, "shelf": ON_SHELF}),
    "watch over": Shown("over", {"status": "over", "paused": True, "timeline": TIMELINE, "position": HOUR}),
    "watch missing": Shown("missing", {"status": "missing", "recording": None}),
}
IFRAME_STATES = {
    f"embed {name}": STATES[name]
    for name in (
        "soon",
        "offline",
        "live",
        "blocked",
        "encoder",
        "delivery",
        "behind",
        "choices",
        "gone",
        "missed",
        "clip",
        "clip and missed",
        "fallback",
        "reconnecting",
        "undecodable",
        "sharing",
        "ended",
    )
}
KINDS: dict[str, Any] = {
    "page": (EVENING, "", STATES, None),
    "chat": (CHATTING, "", CHAT_STATES, None),
    "watch": (WATCHED, "", WATCH_STATES, None),
    "embed": (EVENING, "?embed=1", IFRAME_STATES, IFRAMES),
}
MAIN = {"soon", "offline", "live", "blocked", "encoder", "behind", "choices", "missed", "clip", "ended"}
MAIN |= {"watch"}
READY = """() => {
    document.querySelector("main")?.removeAttribute("data-idle");
    scrollTo(0, 0);
}"""
CHOICES_HEIGHT = "document.getElementById('choices').offsetHeight"
HIGHEST = 200  # pixels of a menu with quality and speed: WebKit made it as high as its window
FILES = ("ask", "ask wrong", "ask over", "ask closed", "lost")


class Matrix:
    """Takes the pictures of one language, and collects what the judges find."""

    def __init__(
        self, language: str, folder: Path, *, is_finger: bool = False, forced: Forced = "none"
    ) -> None:
        self.language = language
        self.is_finger = is_finger
        self.forced: Forced = forced
        self._folder = folder
        self.faults: dict[str, Any] = {}
        self.count = 0

    async def look(self, page: Page, state: str, sizes: Sizes | None = None) -> None:
        """Look at what is shown in each size and scheme."""
        for size, (width, height) in (sizes or (FINGERS if self.is_finger else MICE)).items():
            await page.set_viewport_size({"width": width, "height": height})
            for scheme in SCHEMES:
                colors = f"forced {scheme}" if self.forced == "active" else scheme
                name = f"{state}-{self.language}-{size}-{colors}"
                await page.emulate_media(
                    color_scheme=scheme, reduced_motion="reduce", forced_colors=self.forced
                )
                await page.evaluate(READY)
                await settled(page)
                await page.evaluate(READY)
                # Chromium draws what lies below the screen as if there were a mouse.
                whole = not self.is_finger
                await page.screenshot(path=self._folder / f"{name}.png", full_page=whole)
                self.count += 1
                if self.language == "en" and size in JUDGED_BY_AXE:
                    self.note(name, [violation["id"] for violation in await barriers(page)])
            self.note(name, await page.evaluate(FAULTS, True))
            self.note(name, await page.evaluate(SMALL, FINGER) if self.is_finger else [])

    def judge(self) -> None:
        """Nothing was found."""
        print(f"{self.count} pictures")
        assert self.faults == {}, json.dumps(self.faults, indent=1, ensure_ascii=False)

    def note(self, name: str, found: list[str]) -> None:
        if found:
            print(name, found)
            self.faults.setdefault(name, []).extend(found)

    async def look_at(self, page: Page, states: dict[str, Shown], sizes: Sizes | None) -> None:
        """Look at a page in states in which it is held."""
        for state, shown in states.items():
            await hold(page, {**shown.patch, "phase": shown.phase})
            await page.locator(f"body[data-status={shown.phase}]").wait_for()
            if shown.patch.get("statsOpen"):
                await page.locator("#delay-plot canvas").wait_for()
            await page.evaluate(shown.script)
            await self.look(page, state, sizes)
            await page.evaluate(shown.script)


async def write_pages(folder: Path, language: str) -> None:
    """What a stranger sees, and who is lost, as files."""
    asking = {"title": EVENING["title"], "startsAt": (NOW + timedelta(days=2)).isoformat()}

    async def settings() -> dict[str, object]:
        return asking

    gate = AskingPage(VIEWER, takes_passphrase=True, settings=settings, network=str)
    pages = {name: await gate.page(language, name.partition(" ")[2], "/") for name in FILES[:-1]}
    pages["lost"] = translated((VIEWER / "404.html").read_text(), language)
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text)


def has_listed(origin: FakeOrigin, count: int) -> bool:
    """So many segments are in the playlist."""
    origin.media(0, "")
    return len(origin.segments) >= count


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """The end of a stream of two runs of the encoder, and its recording."""
    async with on_air(tmp_path_factory.mktemp("matrix")) as place:
        origin = place.fake_origin
        index = json.dumps({"recordings": RECORDINGS})
        for name, text in {
            "poster.svg": POSTER,
            "logo.svg": LOGO,
            "chat.html": CHAT,
            "index.json": index,
        }.items():
            (origin.root / name).write_text(text)
        for length in (4, 14):
            await origin.stop()
            await origin.encode()
            await eventually(partial(has_listed, origin, length))
        await origin.stop()
        origin.ended = True
        for variant in (0, 1):
            folder = origin.root / "recorded" / str(variant)
            folder.mkdir(parents=True)
            (folder / "playlist.m3u8").write_text(origin.media(variant, origin.bucket))
        (origin.root / "recorded" / "playlist.m3u8").write_text(origin.top(""))
        origin.on, origin.ended = True, False
        yield place


@pytest.fixture
def forced() -> Forced:
    """Whether the colours are the system's."""
    return "none"


@pytest.fixture
def matrix(language: str, touches: str, forced: Forced, shots: Path) -> Matrix:
    """What looks at pages in one language, with a finger or a mouse."""
    return Matrix(language, shots, is_finger=touches == "finger", forced=forced)


@pytest_asyncio.fixture(loop_scope="session")
async def device(browser: Browser, matrix: Matrix) -> AsyncIterator[BrowserContext]:
    """A browser with a finger, or with a mouse."""
    context = await browser.new_context(
        locale=LOCALES[matrix.language],
        viewport={"width": 360 if matrix.is_finger else 1024, "height": 740},
        reduced_motion="reduce",
        is_mobile=matrix.is_finger,
        has_touch=matrix.is_finger,
    )
    context.set_default_timeout(1000 * PATIENCE)
    await make_holdable(context)
    if matrix.language == "rtl":
        await pseudo_language.speak(context)
    yield context
    await context.close()


async def open_page(context: BrowserContext, place: Place, config: dict[str, object], query: str) -> Page:
    """A page that has begun to play, and is held."""
    place.fake_origin.config = config
    page = await context.new_page()
    await page.goto(f"{place.url}/{query}")
    await until(page, lambda s: is_played(s) and s["time"] > 0)
    await hold(page, {})
    await page.locator("html:not([data-wordless])").wait_for()
    await page.wait_for_function("() => window.store.get().texts.locale")
    return page


EACH = [
    pytest.mark.skipif(
        not SOAK, reason="make soak runs it: test_event_page and test_page_looks have the worst"
    ),
    pytest.mark.takes(60),
    pytest.mark.parametrize("touches", ["finger", "mouse"]),
]


def each(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Have a test run for each device."""
    return reduce(lambda marked, mark: mark(marked), EACH, test)


@each
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
async def test_page_in_all_looks(matrix: Matrix, device: BrowserContext, place: Place, kind: str) -> None:
    """In no state and size is anything cut, covered, too small for a finger or too pale."""
    config, query, states, sizes = KINDS[kind]
    page = await open_page(device, place, config, query)
    await matrix.look_at(page, states, sizes)
    matrix.judge()


@each
@pytest.mark.parametrize(("language", "forced"), [("ja", "none"), ("en", "active")])
@pytest.mark.parametrize("kind", ["page", "watch", "embed"])
async def test_main_states(matrix: Matrix, device: BrowserContext, place: Place, kind: str) -> None:
    """In Japanese, and in the system's colours, nothing is cut, covered, too small or too pale."""
    config, query, states, sizes = KINDS[kind]
    page = await open_page(device, place, config, query)
    main = {name: shown for name, shown in states.items() if name.removeprefix("embed ") in MAIN}
    await matrix.look_at(page, main, sizes)
    matrix.judge()


@each
@pytest.mark.parametrize(
    ("language", "forced"), [*((language, "none") for language in LOCALES), ("en", "active")]
)
async def test_other_pages_in_all_looks(
    matrix: Matrix, device: BrowserContext, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of recordings, what strangers see, and a page that is not there: as the page."""
    monkeypatch.setitem(TEXTS, "rtl", pseudo_language.pseudo())
    await write_pages(place.fake_origin.root, matrix.language)
    place.fake_origin.config = EVENING
    page = await device.new_page()
    for name in ("recordings", *(f"hls/segments/{name}" for name in FILES)):
        await page.goto(f"{place.url}/{name}.html", wait_until="networkidle")
        await matrix.look(page, name.rpartition("/")[2])
    matrix.judge()


@pytest.mark.skipif(not SOAK, reason="make soak runs it")
@pytest.mark.takes(60)
@pytest.mark.parametrize("name", NARROW)
async def test_main_looks_in_other_engines(name: str, place: Place, tmp_path: Path, shots: Path) -> None:
    """The five main states, wide and narrow: no control is cut, covered or on top of another."""
    origin = place.fake_origin
    await write_pages(origin.root, "en")
    told = {"events": "server-sent", "eventsUrl": "/live/events"}
    soon = {"startsAt": (NOW + timedelta(hours=26)).isoformat()}
    matrix = Matrix(name, shots)
    opened = firefox(tmp_path / "profile") if name == "Firefox" else webkit()
    async with opened as engine:
        for state, config, word, sign in (
            ("live", CHATTING, "live", "[data-status=live]"),
            ("soon", CHATTING | soon, "offline", "[data-status=soon]"),
            ("ended", CHATTING, "ended", "#watch-recording:not([hidden])"),
            ("watch", WATCHED, None, "[data-status=recorded]"),
            ("ask", {}, None, "form"),
        ):
            origin.config, origin.on = config | told, word == "live"
            origin.word.tell(word)
            await engine.go(f"{place.url}/{'hls/segments/ask.html' if state == 'ask' else ''}")
            await eventually(partial(engine.evaluate, f"document.querySelector('{sign}') !== null"))
            for width, height in ((1280, 860), (NARROW[name], 844)):
                (shots / f"{state}-{name}-{width}.png").write_bytes(await engine.picture(width, height))
                matrix.count += 1
                matrix.note(
                    f"{state}-{name}-{width}", cast("list[str]", await engine.evaluate(f"({FAULTS})(true)"))
                )
            if state == "watch":
                await engine.evaluate(TOGGLE_CHOICES)
                await eventually(partial(engine.evaluate, f"{CHOICES_HEIGHT} > 0"))
                (shots / f"choices-{name}.png").write_bytes(await engine.picture(1280, 860))
                found = await engine.evaluate(f"({FAULTS})(true)")
                matrix.note(f"choices-{name}", cast("list[str]", found))
                assert cast("float", await engine.evaluate(CHOICES_HEIGHT)) < HIGHEST
    origin.word.tell(None)
    origin.on = True
    matrix.judge()
