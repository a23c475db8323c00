"""Repairs the bucket's settings: CORS and lifecycle rules (``--fix``), uploads by pages (``--uploads``)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Protocol

import aiohttp

from broadcaster.doctor.bucket import ENDPOINT_SETTING, Rule, from_storage, no_answer
from broadcaster.doctor.report import CheckFinding, failed, ok, warning
from broadcaster.errors import StorageError, StorageRefused
from broadcaster.guest import Answer, Browser

OURS, ABORT, EXPIRE = "broadcaster", "broadcaster-abort", "broadcaster-expire"  # the rules' IDs
EXPOSED = ["Content-Length", "Content-Range", "Date", "ETag", "Age"]
BACKSTOP_DAYS = 30  # a finished stream's playlist names its segments until the next stream begins
ABORT_DAYS = 7  # as long as an upload may be resumed (recordings/file_uploads.py)
NEED = (
    "--fix needs a token with Admin Read & Write (the service does not: change it back afterwards), "
    "or do it in the dashboard, under the bucket's Settings: "
)


class BucketSettings(Protocol):
    """Protocol of the bucket's settings. All calls raise StorageError."""

    async def cors(self) -> list[Rule]:
        """Return the CORS policy's rules."""

    async def set_cors(self, rules: Sequence[Rule]) -> None:
        """Replace the CORS policy's rules."""

    async def lifecycle(self) -> list[Rule]:
        """Return the lifecycle rules."""

    async def set_lifecycle(self, rules: Sequence[Rule]) -> None:
        """Replace the lifecycle rules."""

    async def oldest(self, prefix: str) -> datetime | None:
        """The time when the oldest object was stored."""


def cors_rule(origin: str) -> dict[str, Any]:
    """A CORS rule by which pages of ``origin`` can read, with ranges; ``range`` as browsers write it."""
    return {
        "ID": OURS,
        "AllowedMethods": ["GET", "HEAD"],
        "AllowedOrigins": [origin],
        "AllowedHeaders": ["range"],
        "ExposeHeaders": EXPOSED,
        "MaxAgeSeconds": 3600,
    }


def allows(rules: Sequence[Rule], origin: str) -> bool:
    """Whether pages of ``origin`` can send all their requests; the first rule that matches decides."""
    for rule in rules:
        if "GET" not in rule.get("AllowedMethods", []):
            continue
        if not any(fnmatchcase(origin, pattern) for pattern in rule.get("AllowedOrigins", [])):
            continue
        headers = {header.lower() for header in rule.get("AllowedHeaders", [])}
        exposed = {header.lower() for header in rule.get("ExposeHeaders", [])}
        return (
            "HEAD" in rule["AllowedMethods"]
            and not headers.isdisjoint({"*", "range"})
            and not exposed.isdisjoint({"*", "content-range"})
        )
    return False


async def fix_cors(store: BucketSettings, origin: str, allowed: str) -> CheckFinding:
    """Add a rule for ``allowed`` (an origin or ``*``) if ``origin`` cannot read. Other rules stay."""
    if finding := await _add_cors_rule(store, cors_rule(allowed), lambda rules: allows(rules, origin)):
        return finding
    return ok(f"set: pages of {allowed} may read; R2 may take 30 s to act on it")


async def _add_cors_rule(
    store: BucketSettings, rule: Rule, is_enough: Callable[[Sequence[Rule]], bool]
) -> CheckFinding | None:
    """Add a rule in place of an earlier rule of this ID; returns why no rule was added."""
    try:
        rules = await store.cors()
        if is_enough(rules):
            return ok("the policy already allows it; nothing to do")
        await store.set_cors([rule, *(other for other in rules if other.get("ID") != rule["ID"])])
    except StorageError as error:
        text = json.dumps([{name: value for name, value in rule.items() if name != "ID"}])
        return refused(error, f"CORS policy, beside other rules: {text}")
    return None


def backstop_days(retention: timedelta | None, window: timedelta) -> int | None:
    """The age in days after which no object is needed; None if objects are kept for ever."""
    if retention is None:
        return None
    return BACKSTOP_DAYS + math.ceil((retention + window) / timedelta(days=1))


def lifecycle(rules: Sequence[Rule], prefix: str, days: int | None) -> list[Rule]:
    """The bucket's rules with ours, which replace those of an earlier check."""
    foreign = [rule for rule in rules if rule.get("ID") not in (ABORT, EXPIRE)]
    ours: dict[str, Any] = {"Status": "Enabled", "Filter": {"Prefix": f"{prefix}/"}}
    abort = {"ID": ABORT, **ours, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": ABORT_DAYS}}
    expire = {"ID": EXPIRE, **ours, "Expiration": {"Days": days}}
    return [*foreign, abort, expire] if days else [*foreign, abort]


def expiring(rules: Sequence[Rule], prefix: str) -> list[str]:
    """The IDs of foreign rules that delete objects of the service."""
    return [
        str(rule.get("ID", "without an ID"))
        for rule in rules
        if rule.get("Status") == "Enabled"
        and "Expiration" in rule
        and rule.get("ID") != EXPIRE
        and _overlap(_prefix(rule), f"{prefix}/")
    ]


def _prefix(rule: Rule) -> str:
    chosen = rule.get("Filter", {})
    return str(chosen.get("Prefix") or chosen.get("And", {}).get("Prefix") or rule.get("Prefix") or "")


def _overlap(first: str, second: str) -> bool:
    return first.startswith(second) or second.startswith(first)


async def fix_lifecycle(store: BucketSettings, prefix: str, days: int | None) -> CheckFinding:
    """Set the rule that deletes objects after ``days``; None if objects are kept for ever.

    The rule is not set if the bucket has older objects, from a time when they were kept.
    """
    kept_for = None if days is None else timedelta(days=days)
    try:
        rules = await store.lifecycle()
        oldest = await store.oldest(f"{prefix}/")
        at_risk = kept_for is not None and oldest is not None and datetime.now(UTC) - oldest > kept_for
        new = lifecycle(rules, prefix, None if at_risk else days)
        if new != rules:
            await store.set_lifecycle(new)
    except StorageError as error:
        return refused(error, f"a lifecycle rule that aborts multipart uploads after {ABORT_DAYS} days")
    done = f"unfinished uploads are deleted after {ABORT_DAYS} days"
    if at_risk and oldest:
        return warning(
            f"{done}; the bucket has objects of {oldest:%Y-%m-%d}, which a limit of {days} days would delete",
            f"move or delete old objects under {prefix}/, then --fix again",
        )
    foreign = expiring(rules, prefix)
    if days is None and foreign:
        return warning(
            f"BROADCASTER_RETENTION is keep, and a rule deletes objects: {', '.join(foreign)}",
            "remove that lifecycle rule in the dashboard",
        )
    return ok(f"{done}, objects under {prefix}/ after {days} days" if days else f"{done}; objects are kept")


def refused(error: StorageError, instead: str) -> CheckFinding:
    """The finding for settings that could not be changed; ``instead`` says what to do in the dashboard."""
    if isinstance(error, StorageRefused):
        return failed("the token may not change the bucket's settings", NEED + instead)
    return from_storage(error)


UPLOADS_OURS = "broadcaster-uploads"  # the rule's ID


def upload_rule(origin: str) -> dict[str, Any]:
    """A CORS rule by which pages of ``origin`` can PUT parts to presigned URLs and read their ETags."""
    return {
        "ID": UPLOADS_OURS,
        "AllowedMethods": ["PUT"],
        "AllowedOrigins": [origin],
        "AllowedHeaders": ["content-type"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 3600,
    }


def lets_put(rules: Sequence[Rule], origin: str) -> bool:
    """Whether pages of ``origin`` can PUT and read the ETag; the first rule that matches decides."""
    for rule in rules:
        if "PUT" in rule.get("AllowedMethods", []) and any(
            fnmatchcase(origin, pattern) for pattern in rule.get("AllowedOrigins", [])
        ):
            return not {"*", "etag"}.isdisjoint(header.lower() for header in rule.get("ExposeHeaders", []))
    return False


async def fix_uploads(store: BucketSettings, origin: str) -> CheckFinding:
    """Add a rule if ``origin`` cannot PUT; it replaces an earlier rule of ours. Other rules stay."""
    if finding := await _add_cors_rule(store, upload_rule(origin), lambda rules: lets_put(rules, origin)):
        return finding
    return ok(f"set: pages of {origin} may upload; R2 may take 30 s to act on it")


async def may_upload(browser: Browser, address: str, origin: str) -> CheckFinding:
    """A CORS preflight request for PUT to ``address`` is allowed (Fetch, CORS-preflight fetch)."""
    headers = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
    try:
        return upload_finding(await browser.fetch(address, "OPTIONS", headers), origin)
    except (aiohttp.ClientError, OSError) as error:
        return no_answer(error, address, ENDPOINT_SETTING)


def upload_finding(answer: Answer, origin: str) -> CheckFinding:
    """Whether the answer to the preflight request allows PUT from a page of ``origin``."""
    allowed = answer.headers.get("Access-Control-Allow-Origin") in ("*", origin)
    may_put = not answer.words("Access-Control-Allow-Methods").isdisjoint({"*", "put"})
    if answer.status in range(200, 300) and allowed and may_put:
        return ok(f"pages of {origin} may upload")
    return warning(
        f"pages of {origin} may not upload: the bucket's CORS policy does not allow PUT",
        f"broadcaster check --fix --uploads {origin}",
    )
