"""The gate of a private event, the outermost step of the viewers' listener, and the page that asks.

The gate takes the token out of the path, so that everything behind it has one URL for all guests. A request
without a valid token reaches three routes alone: the page that asks (401), ``/access`` for a passphrase, and
``/health`` without particulars; besides, the page of a recording that is opened.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import math
import re
import secrets
import struct
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from html import escape
from pathlib import Path
from string import Template
from typing import cast
from urllib.parse import parse_qsl

from aiohttp import hdrs, web
from yarl import URL

from broadcaster.access import STRANGER, Guest, guest_of, is_valid, proxy_key
from broadcaster.http.connections import CONNECTIONS, Handle
from broadcaster.http.static import ENGLISH, choose_language, day_of, text_of
from broadcaster.ipc.messages import Grants, PassphraseAnswer, PassphraseTry
from broadcaster.tracker.tracker import TokenBucket, limited_networks

# Of a request behind the gate: its guest, its path without the token, and the text that says why not.
GUEST: web.RequestKey[Guest | None] = web.RequestKey("GUEST")
WANTED, REFUSED = web.RequestKey("WANTED", str), web.RequestKey("REFUSED", str)
PATH = re.compile(r"/t/(?P<token>[^/]*)(?P<path>/.*)?", re.DOTALL)
COOKIE = "broadcaster_access"
# Of a gate in front (deploy/nginx/private.conf): where the guest's token was, path or cookie, and the key.
# It puts the guest's token into the place of PASSED.
IN_FRONT, PASSED = "X-Broadcaster-Gate", "-"
MAX_AGE = re.compile(r"public, max-age=(\d+)")
TRY, ASK, ENTER, HEALTH = "/access", "/access/ask", "/access/enter", "/access/health"
OUTSIDE = {TRY: TRY, "/health": HEALTH}  # what strangers reach; all else is ASK
PAGES = re.compile(r"/(recordings|watch/[^/]+|c/[^/]+)?")  # that open in a browser's window
LOCAL = re.compile(r"/(?![/\\])[\x21-\x7e]*")  # a path of this host
HIDDEN = {hdrs.CACHE_CONTROL: "private, no-store", "Referrer-Policy": "no-referrer"}
CHECK_EVERY = 1.0  # seconds between looks for guests whose time is over


class Gate:
    """Lets guests pass. ``clock`` gives seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.opens: Callable[[str], bool] = lambda _: False  # a path, to strangers
        self._clock = clock
        self._secret = b""
        self._key = secrets.token_hex()  # of a gate in front
        self._grants: Mapping[str, int | None] = {}  # none: everybody is a stranger
        self._waiting: Mapping[str, int | None] = {}
        self._open: dict[int, tuple[web.Request, Guest]] = {}  # requests under way
        self._opened = Counter[str]()  # links, by grant

    def update(self, grants: Grants) -> None:
        """Take new grants; the requests of guests who have none any more are cut."""
        self._secret, self._grants = bytes.fromhex(grants.secret), grants.ends
        self._waiting = grants.waiting
        self._key = proxy_key(self._secret)
        self._cut()

    async def run(self) -> None:
        """Cut the requests of guests whose time is over, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_EVERY)
            self._cut()

    def take_opened(self) -> Counter[str]:
        """How often links were opened since the last call, by grant."""
        found, self._opened = self._opened, Counter()
        return found

    def __call__(self, handle: Handle) -> Handle:
        """``handle`` behind the gate."""

        async def check(request: web.BaseRequest) -> web.StreamResponse:
            inner, guest = self._inner(cast("web.Request", request))
            if guest:
                self._open[id(inner)] = inner, guest
            try:
                response = await handle(inner)
            except web.HTTPException as answer:
                await _prepare(answer, inner)
                raise
            finally:
                self._open.pop(id(inner), None)
            await _prepare(response, inner)
            return response

        return check

    def _inner(self, request: web.Request) -> tuple[web.Request, Guest | None]:
        """The request as the application sees it, and its guest, unless a gate in front knows who it is."""
        way, _, key = request.headers.get(IN_FRONT, "").partition(" ")
        if hmac.compare_digest(key.encode(errors="replace"), self._key.encode()):
            inner = request.clone()
            inner[GUEST], inner[WANTED], inner[REFUSED] = Guest(PASSED, "", 0, way == "path"), "/", ""
            return inner, None
        path, query = request.rel_url.raw_path or "/", request.rel_url.raw_query_string
        match = PATH.fullmatch(path)
        token = match["token"] if match else request.cookies.get(COOKIE, "")
        guest = guest_of(token, self._secret, self._grants, self._clock(), in_path=match is not None)
        wanted = (match["path"] or "/") if match else path
        is_opened = guest is None and request.method in {hdrs.METH_GET, hdrs.METH_HEAD} and self.opens(path)
        if is_opened:
            target, query = path, ""
        elif guest is None:
            target, query = OUTSIDE.get(path, ASK), ""
        elif match and _is_opened(request, wanted):
            target, query = ENTER, ""
            self._opened[guest.grant] += 1
        else:
            target = wanted
        inner = request.clone(rel_url=URL.build(path=target, query_string=query, encoded=True))
        waits = not guest and guest_of(token, self._secret, self._waiting, self._clock())
        refused = "" if guest or not token else "closed" if waits else "over"
        inner[GUEST], inner[WANTED], inner[REFUSED] = STRANGER if is_opened else guest, wanted, refused
        return inner, guest

    def _cut(self) -> None:
        now = self._clock()
        for request, guest in list(self._open.values()):
            if not is_valid(guest, self._grants, now) and request.transport:
                request.transport.abort()


def _is_opened(request: web.Request, path: str) -> bool:
    """Whether a browser's window opens a page: its address bar should not show the token."""
    return (
        request.method == hdrs.METH_GET
        and PAGES.fullmatch(path) is not None
        and "text/html" in request.headers.get(hdrs.ACCEPT, "")
        and request.headers.get("Sec-Fetch-Dest", "document") == "document"
    )


async def _prepare(response: web.StreamResponse, request: web.Request) -> None:
    """Begin the answer for the inner request, with the headers of its route."""
    with suppress(ConnectionError):  # the client has left: aiohttp notices
        await response.prepare(request)


@web.middleware
async def guests_only(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuse all that has not come through the gate."""
    if request.get(GUEST) is None and not request.path.startswith(TRY):
        return web.Response(status=401, text="A gate is missing in front.\n")
    return await handler(request)


async def hide(request: web.Request, response: web.StreamResponse) -> None:
    """No cache keeps an answer of a private event but a gate's in front; no other site learns its address."""
    guest, headers = request.get(GUEST), response.headers
    if guest and guest.is_proxy and (found := MAX_AGE.match(headers.get(hdrs.CACHE_CONTROL, ""))):
        headers["X-Accel-Expires"] = found[1]  # nginx reads it, and does not pass it on
    headers.update(HIDDEN)


A_MINUTE = 60.0
TRIES = 5  # of a client network at once, and as many more in a minute
UNKNOWN_FACTOR = 6  # times as many, where networks are not known
MAX_NETWORKS, MAX_WAITING = 10_000, 500
ANSWER_WITHIN, RETRY_AFTER = 8.0, 60  # seconds
REMEMBERED = 86_400  # seconds for which a browser keeps the cookie of an access that is over, to show that
OPENS_WITHIN = "2"  # seconds after which a waiting guest's page is loaded again
MAX_BYTES, MAX_PASSPHRASE = 4096, 200
INLINE = {name: re.compile(f"<{name}>(.*?)</{name}>", re.DOTALL) for name in ("style", "script")}
# The poster in settings: a PNG of so few pixels, in each direction, that it tells no more than a blur.
BLURRED, MAX_PIXELS, IHDR = re.compile(r"data:image/png;base64,([\w+/]{40,6000}={0,2})"), 32, slice(16, 24)
POSTER = Template('<img class="poster" src="$poster" alt="">')
NO_PAGE = "<!doctype html><title>$title</title><h1>$title</h1><p>$fault</p>$form<p>$advice</p>"
FORM = Template(
    '<form method="post" action="/access"><input type="hidden" name="to" value="$to">'
    '<label for="passphrase">$label</label><input id="passphrase" name="passphrase" type="password"'
    ' autocomplete="current-password" maxlength="200" required autofocus aria-describedby="fault"$invalid>'
    '<button type="submit">$button</button></form>'
)
FAULTS = {"wrong": "gateWrong", "often": "gateOften", "over": "gateOver", "closed": "gateClosed"}


class TryLimits:
    """How many passphrases a client network may try.

    A right one does not count: many guests can share an address.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._networks: OrderedDict[str, TokenBucket] = OrderedDict()  # the latest used last

    def take(self, network: str) -> int:
        """Count a try; returns 0, or the seconds after which another one may be made."""
        buckets = self._buckets(network)
        if all(bucket.take(self._clock()) for bucket in buckets):
            return 0
        return math.ceil(1 / min(bucket.rate for bucket in buckets))

    def give_back(self, network: str) -> None:
        """The try was right."""
        for bucket in self._buckets(network):
            bucket.give_back()

    def _buckets(self, network: str) -> list[TokenBucket]:
        found = []
        is_known = network[:1].isdigit() or ":" in network
        for name, times in limited_networks(network) if is_known else [(network, UNKNOWN_FACTOR)]:
            bucket = self._networks.pop(name, None) or TokenBucket.full(
                times * TRIES / A_MINUTE, times * TRIES, self._clock()
            )
            self._networks[name] = bucket
            found.append(bucket)
        while len(self._networks) > MAX_NETWORKS:
            self._networks.popitem(last=False)
        return found


class AskingPage:
    """The page for strangers, and the tries of passphrases, which ingest decides.

    ``settings`` returns what the operator has written of the event; ``network`` the client network of a
    request, or a word.
    """

    def __init__(
        self,
        folder: Path,
        *,
        takes_passphrase: bool,
        settings: Callable[[], Awaitable[Mapping[str, object]]],
        network: Callable[[web.Request], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        file = folder / "access.html"
        text = file.read_text() if file.is_file() else NO_PAGE
        self._page = Template(text)
        inline = "; ".join(f"{name}-src {_hashes(found.findall(text))}" for name, found in INLINE.items())
        self.policy = f"default-src 'none'; {inline}; img-src data:; form-action 'self'; base-uri 'none'"
        self._takes_passphrase = takes_passphrase
        self._settings = settings
        self._network = network
        self._unsent: dict[str, PassphraseTry] = {}
        self._answers: dict[str, asyncio.Future[PassphraseAnswer]] = {}
        self._limits = TryLimits(clock)

    def add_to(self, app: web.Application) -> None:
        """Add the routes that strangers reach."""
        app.middlewares.append(guests_only)
        app.router.add_route("*", TRY, self.take, name="access")
        app.router.add_route("*", ASK, self.ask, name="ask")
        app.router.add_route("*", HEALTH, self.health, name="health_for_strangers")
        app.router.add_get(ENTER, self.enter, name="enter")

    def take_unsent(self) -> tuple[PassphraseTry, ...]:
        """The tries that ingest does not know yet."""
        found, self._unsent = tuple(self._unsent.values())[:100], dict(list(self._unsent.items())[100:])
        return found

    def handle_answer(self, answer: PassphraseAnswer) -> None:
        """Pass an answer of ingest to its request."""
        if (waiting := self._answers.get(answer.request)) and not waiting.done():
            waiting.set_result(answer)

    async def health(self, request: web.Request) -> web.Response:
        """That the service answers, and the client network of this request."""
        return web.json_response({"status": "ok"}, headers={"X-Client-Address": self._network(request)})

    async def enter(self, request: web.Request) -> web.Response:
        """Turn the token of an opened link into a cookie, and show the page without it."""
        guest = request[GUEST]
        if guest is None:
            return await self.ask(request)
        return self._entered(request, guest.token, guest.expires, request[WANTED])

    async def ask(self, request: web.Request) -> web.Response:
        """The page that asks, the same for every path: 401."""
        return await self._asking(request, request[REFUSED], request[WANTED])

    async def take(self, request: web.Request) -> web.Response:
        """Try a passphrase: 303 to the page with a cookie; JSON for programs; 401, or 429 for too many."""
        if request.method != hdrs.METH_POST or not self._takes_passphrase:
            return await self.ask(request)
        if (request.content_length or MAX_BYTES + 1) > MAX_BYTES:
            return await self._asking(request, "wrong", "/")
        if request.headers.get("Sec-Fetch-Site") == "cross-site":  # of a page that is not ours
            return await self.ask(request)
        given = dict(parse_qsl(await request.text(), max_num_fields=10, errors="replace"))
        text, to = given.get("passphrase", ""), given.get("to", "/")
        to = to if LOCAL.fullmatch(to) and not PATH.fullmatch(to) else "/"
        network = self._network(request)
        if wait := RETRY_AFTER if len(self._answers) >= MAX_WAITING else self._limits.take(network):
            return await self._asking(request, "often", to, wait)
        request.app[CONNECTIONS].complete(request)
        answer = await self._answer(text[:MAX_PASSPHRASE])
        if answer.token is None:
            return await self._asking(request, "often" if answer.busy else "wrong", to)
        self._limits.give_back(network)
        return self._entered(request, answer.token, int(answer.token.partition(".")[0], 16), to)

    async def _answer(self, text: str) -> PassphraseAnswer:
        attempt = PassphraseTry(secrets.token_hex(8), text)
        self._unsent[attempt.id] = attempt
        self._answers[attempt.id] = answer = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                found: PassphraseAnswer = await answer
                return found
        except TimeoutError:
            return PassphraseAnswer(attempt.id, busy=True)
        finally:
            self._unsent.pop(attempt.id, None)
            del self._answers[attempt.id]

    def _entered(self, request: web.Request, token: str, expires: int, to: str) -> web.Response:
        if "application/json" in request.headers.get(hdrs.ACCEPT, ""):
            return web.json_response({"path": f"/t/{token}/"})
        answer = web.Response(status=303, headers={hdrs.LOCATION: to})
        secure = request.secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https"
        left = max(0, expires - int(time.time())) + REMEMBERED
        answer.set_cookie(COOKIE, token, max_age=left, path="/", secure=secure, httponly=True, samesite="Lax")
        return answer

    async def _asking(
        self, request: web.Request, fault: str, to: str, retry_after: int | None = None
    ) -> web.Response:
        status = web.HTTPTooManyRequests.status_code if fault == "often" else web.HTTPUnauthorized.status_code
        headers: dict[str, str] = (
            {hdrs.WWW_AUTHENTICATE: "Invitation"}
            if fault != "often"
            else {hdrs.RETRY_AFTER: str(RETRY_AFTER)}
        )
        if fault == "closed":
            headers["Refresh"] = OPENS_WITHIN
        if retry_after:
            headers[hdrs.RETRY_AFTER] = str(retry_after)
        if "text/html" not in request.headers.get(hdrs.ACCEPT, ""):
            text = text_of(ENGLISH, "gateOften" if fault == "often" else "gateInvited")
            return web.Response(status=status, text=f"{text}\n", headers=headers)
        own = (await self._settings()).get("language")
        language = choose_language(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""), own)
        body = await self.page(language, fault, to)
        headers |= {"Content-Security-Policy": self.policy, hdrs.CONTENT_LANGUAGE: language}
        return web.Response(status=status, text=body, content_type="text/html", headers=headers)

    async def page(self, language: str, fault: str, to: str) -> str:
        """The page in a language, which leads to a path; ``fault`` is of FAULTS, or empty."""
        own, text = await self._settings(), partial(text_of, language)
        starts = _time(language, own.get("startsAt"))
        title, host = ((own.get(name) or "") for name in ("title", "performer"))
        invalid = ' aria-invalid="true"' if fault == "wrong" else ""
        local = to if LOCAL.fullmatch(to) else "/"
        advice = "" if self._takes_passphrase or fault == "closed" else "gateInvited"
        if fault == "over":  # the same for each token that is refused: nobody learns what it once was
            advice = "gateRenewPassphrase" if self._takes_passphrase else "gateRenewLink"
        asks = self._takes_passphrase and fault != "closed"
        label, button = text("gateLabel"), text("gateButton")
        form = FORM.substitute(to=escape(local), label=label, button=button, invalid=invalid) if asks else ""
        return self._page.safe_substitute(
            lang=language,
            direction=text("direction"),
            title=escape(title if isinstance(title, str) and title.strip() else text("gateTitle")),
            host=escape(host.strip()) if isinstance(host, str) else "",
            poster=_poster(own.get("posterBlur")),
            starts=text("gateStarts", time=starts) if starts else "",
            kind=fault,
            fault=text(FAULTS[fault]) if fault else "",
            form=form,
            advice=text(advice) if advice else "",
        )


def _hashes(texts: list[str]) -> str:
    """The sources of a Content-Security-Policy that allow these inline elements alone."""
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"


def _poster(value: object) -> str:
    """The element of a blurred poster; nothing of a picture that would tell more."""
    match = BLURRED.fullmatch(value.strip()) if isinstance(value, str) else None
    with suppress(ValueError, struct.error):
        if match and max(struct.unpack(">II", base64.b64decode(match[1])[IHDR])) <= MAX_PIXELS:
            return POSTER.substitute(poster=match[0])
    return ""


def _time(language: str, value: object) -> str | None:
    """A time in words, in the zone in which the operator gave it."""
    if not isinstance(value, str):
        return None
    with suppress(ValueError):
        when = datetime.fromisoformat(value.strip())
        text = f"{day_of(language, when)}, {when:%H:%M}"
        # The page's script puts the reader's own time in the place of "UTC+01:00".
        return f'<time datetime="{when.isoformat()}">{text}\u00a0{when:%Z}</time>' if when.tzinfo else text
    return None
