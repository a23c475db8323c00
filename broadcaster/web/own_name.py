"""What guards an operator's listener, which asks for no login: it is no page of others that asks."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

# Nothing of it is for pages of others, neither in a frame nor as what it is not.
CLOSED = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def asked_by_name(names: Collection[str]) -> Middleware:
    """Refuse what is asked of another host: a page elsewhere whose name was changed to our address."""
    known = {"localhost", *(name.lower() for name in names)}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if _is_ours(request, known):
            return await handler(request)
        text = "This is asked of a host that is not known here (BROADCASTER_ADMIN_NAMES).\n"
        return web.Response(status=421, text=text)

    return check


def _is_ours(request: web.Request, known: Collection[str]) -> bool:
    try:
        host = urlsplit(f"//{request.headers.get(hdrs.HOST, '')}").hostname or ""
    except ValueError:  # brackets that do not match
        return False
    if host in known:
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    own = request.transport.get_extra_info("sockname")[0] if request.transport else ""
    return address.is_loopback or host == own
