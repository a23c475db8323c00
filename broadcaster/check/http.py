"""HTTP as a browser does it, and what is wrong when there is no answer."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

from broadcaster.check.report import Finding, failed
from broadcaster.guest import TIMEOUT, why_no_answer


async def negotiated(url: str) -> str | None:
    """What a server of an https URL chooses of HTTP/2 and HTTP/1.1 (ALPN, RFC 7301): ``h2`` or ``http/1.1``.

    None when it does not choose. Raises OSError (ssl.SSLError is one) or TimeoutError.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    parts = urlsplit(url)
    async with asyncio.timeout(TIMEOUT):
        _, writer = await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=context)
    try:
        chosen: str | None = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    finally:
        writer.close()
    return chosen


def no_answer(error: Exception, url: str, setting: str) -> Finding:
    """Why there was no answer from ``url``, which comes from ``setting``; only its host is shown."""
    fault = why_no_answer(error, url, setting)
    return failed(fault.message, fault.remedy)
