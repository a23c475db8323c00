"""The viewer's page held still in a state of its store, so that many looks at each state take little time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.servers.fake_origin import VIEWER

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page, Route

MAKE, SET = "export function createStore(initial = initialState) {", "set(patch) {"
HELD_MAKE = f"""export const createStore = (initial) => (window.store = makeStore(initial));
{MAKE.replace("export function createStore", "function makeStore")}"""
HELD_SET = "set(patch, byTest = false) { if (window.heldFrom && !byTest) return state;"
HOLD = """(patch) => {
    document.querySelector("video").pause();
    window.heldFrom ??= window.store.get();
    window.store.set({ ...window.heldFrom, ...patch }, true);
}"""


async def make_holdable(context: BrowserContext) -> None:
    """Give pages of ``fake_origin`` a store that a test can set, and hold."""
    script = (VIEWER / "js" / "state.js").read_text()
    assert script.count(MAKE) == script.count(SET) == 1
    body = script.replace(MAKE, HELD_MAKE).replace(SET, HELD_SET)

    async def answer(route: Route) -> None:
        await route.fulfill(body=body, content_type="text/javascript")

    await context.route("**/js/state.js", answer)


async def hold(page: Page, patch: dict[str, Any]) -> None:
    """Show the state in which the page was at the first call, but for ``patch``, until the next call."""
    await page.evaluate(HOLD, patch)
