"""Whether the operator's page may put files into the bucket, and the rule that lets it (``--uploads``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import aiohttp

from broadcaster.check.bucket import ENDPOINT_SETTING
from broadcaster.check.http import no_answer
from broadcaster.check.repair import BucketSettings, refused
from broadcaster.check.report import Finding, ok, warning
from broadcaster.check.settings_client import Rule
from broadcaster.errors import StorageError
from broadcaster.guest import Answer, Browser

OURS = "broadcaster-uploads"  # the rule's ID


def upload_rule(origin: str) -> dict[str, Any]:
    """Let pages of ``origin`` put parts, with addresses that are signed for each, and see their ETags."""
    return {
        "ID": OURS,
        "AllowedMethods": ["PUT"],
        "AllowedOrigins": [origin],
        "AllowedHeaders": ["content-type"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 3600,
    }


def lets_put(rules: Sequence[Rule], origin: str) -> bool:
    """Whether a page of ``origin`` may put, and see the ETag; the first rule that fits a request counts."""
    for rule in rules:
        if "PUT" in rule.get("AllowedMethods", []) and any(
            fnmatchcase(origin, pattern) for pattern in rule.get("AllowedOrigins", [])
        ):
            return not {"*", "etag"}.isdisjoint(one.lower() for one in rule.get("ExposeHeaders", []))
    return False


async def fix_uploads(store: BucketSettings, origin: str) -> Finding:
    """Add a rule where ``origin`` may not put, in the place of an earlier one of ours; other rules stay."""
    rule = upload_rule(origin)
    try:
        rules = await store.cors()
        if lets_put(rules, origin):
            return ok("the policy lets that page upload; nothing to do")
        await store.set_cors([rule, *(one for one in rules if one.get("ID") != OURS)])
    except StorageError as error:
        pasted = {name: value for name, value in rule.items() if name != "ID"}
        return refused(error, "CORS policy, beside what is there: " + json.dumps([pasted]))
    return ok(f"set: pages of {origin} may upload; R2 may take 30 s to act on it")


async def may_upload(browser: Browser, address: str, origin: str) -> Finding:
    """A browser that asks before it puts a part to ``address`` is told yes (Fetch, CORS-preflight fetch)."""
    asked = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
    try:
        return judge(await browser.fetch(address, "OPTIONS", asked), origin)
    except (aiohttp.ClientError, OSError) as error:
        return no_answer(error, address, ENDPOINT_SETTING)


def judge(answer: Answer, origin: str) -> Finding:
    """Whether that lets a page of ``origin`` put."""
    allowed = answer.headers.get("Access-Control-Allow-Origin") in ("*", origin)
    may_put = not answer.words("Access-Control-Allow-Methods").isdisjoint({"*", "put"})
    if answer.status in range(200, 300) and allowed and may_put:
        return ok(f"pages of {origin} may upload")
    return warning(
        f"pages of {origin} may not upload: the bucket's CORS policy does not let them put",
        f"broadcaster check --fix --uploads {origin}",
    )
