"""Repairs the bucket's settings: CORS and lifecycle rules (``--fix``), uploads by pages (``--uploads``)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from broadcaster.doctor.bucket import ENDPOINT_SETTING, Rule, SettingsClient
from broadcaster.doctor.report import reading
from broadcaster.errors import StorageRefused
from broadcaster.guest import Browser, BrowserResponse
from broadcaster.service.health import CheckFinding, failed, ok, warning

OURS, ABORT, EXPIRE = "broadcaster", "broadcaster-abort", "broadcaster-expire"  # the rules' IDs
EXPOSED = ["Content-Length", "Content-Range", "Date", "ETag", "Age"]
BACKSTOP_DAYS = 30  # a finished stream's playlist names its segments until the next stream begins
ABORT_DAYS = 7  # as long as an upload may be resumed (recordings/file_uploads.py)
UPLOADS = "broadcaster-uploads"  # ID of the CORS rule for uploads
DENIED = "the token may not change the bucket's settings"
NEED = (
    "--fix needs a token with Admin Read & Write (the service does not: change it back afterwards), "
    "or do it in the dashboard, under the bucket's Settings: "
)


def cors_rule(origin: str) -> Rule:
    """A CORS rule by which pages of ``origin`` can read, with ranges; ``range`` as browsers write it."""
    return _cors_rule(OURS, origin, ["GET", "HEAD"], "range", EXPOSED)


def upload_rule(origin: str) -> Rule:
    """A CORS rule by which pages of ``origin`` can PUT parts to presigned URLs and read their ETags."""
    return _cors_rule(UPLOADS, origin, ["PUT"], "content-type", ["ETag"])


def _cors_rule(name: str, origin: str, methods: list[str], header: str, exposed: list[str]) -> Rule:
    return {
        "ID": name,
        "AllowedMethods": methods,
        "AllowedOrigins": [origin],
        "AllowedHeaders": [header],
        "ExposeHeaders": exposed,
        "MaxAgeSeconds": 3600,
    }


def allows(rules: Sequence[Rule], origin: str) -> bool:
    """Whether pages of ``origin`` can send all their requests; the first rule that matches decides."""
    rule = _rule_for("GET", origin, rules)
    return (
        "HEAD" in rule.get("AllowedMethods", [])
        and not _headers(rule, "AllowedHeaders").isdisjoint({"*", "range"})
        and not _headers(rule, "ExposeHeaders").isdisjoint({"*", "content-range"})
    )


def lets_put(rules: Sequence[Rule], origin: str) -> bool:
    """Whether pages of ``origin`` can PUT and read the ETag; the first rule that matches decides."""
    return not _headers(_rule_for("PUT", origin, rules), "ExposeHeaders").isdisjoint({"*", "etag"})


def _rule_for(method: str, origin: str, rules: Sequence[Rule]) -> Rule:
    """The first rule for requests from ``origin``; an empty rule if there is none."""
    for rule in rules:
        origins = rule.get("AllowedOrigins", [])
        if method in rule.get("AllowedMethods", []) and any(fnmatchcase(origin, name) for name in origins):
            return rule
    return {}


def _headers(rule: Rule, field: str) -> set[str]:
    return {header.lower() for header in rule.get(field, [])}


async def fix_cors(store: SettingsClient, origin: str, allowed: str) -> CheckFinding:
    """Add a rule for ``allowed`` (an origin or ``*``) if ``origin`` cannot read."""
    return await _add_cors_rule(
        store,
        cors_rule(allowed),
        lambda rules: allows(rules, origin),
        f"set: pages of {allowed} may read; R2 may take 30 s to act on it",
    )


async def fix_uploads(store: SettingsClient, origin: str) -> CheckFinding:
    """Add a rule if ``origin`` cannot PUT."""
    return await _add_cors_rule(
        store,
        upload_rule(origin),
        lambda rules: lets_put(rules, origin),
        f"set: pages of {origin} may upload; R2 may take 30 s to act on it",
    )


async def _add_cors_rule(
    store: SettingsClient, rule: Rule, is_enough: Callable[[Sequence[Rule]], bool], done: str
) -> CheckFinding:
    """Add a rule in place of an earlier rule of this ID. Other rules stay."""
    try:
        rules = await store.cors()
        if is_enough(rules):
            return ok("the policy allows it already; nothing to do")
        await store.set_cors([rule, *(other for other in rules if other.get("ID") != rule["ID"])])
    except StorageRefused:
        text = json.dumps([{name: value for name, value in rule.items() if name != "ID"}])
        return failed(DENIED, f"{NEED}CORS policy, beside other rules: {text}")
    return ok(done)


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


async def fix_lifecycle(store: SettingsClient, prefix: str, days: int | None) -> CheckFinding:
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
    except StorageRefused:
        return failed(DENIED, f"{NEED}a lifecycle rule that aborts multipart uploads after {ABORT_DAYS} days")
    done = f"unfinished uploads are deleted after {ABORT_DAYS} days"
    if at_risk and oldest:
        return warning(
            f"{done}; the bucket has objects of {oldest:%Y-%m-%d}, which a limit of {days} days would delete",
            f"move or delete old objects under {prefix}/, then --fix again",
        )
    foreign = expiring(rules, prefix)
    if days is None and foreign:
        return warning(
            f"objects are to be kept (BROADCASTER_RETENTION), and a rule deletes them: {', '.join(foreign)}",
            "remove that lifecycle rule in the dashboard",
        )
    return ok(f"{done}, objects under {prefix}/ after {days} days" if days else f"{done}; objects are kept")


async def may_upload(browser: Browser, address: str, origin: str) -> CheckFinding:
    """A CORS preflight request for PUT to ``address`` is allowed (Fetch, CORS-preflight fetch)."""
    headers = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
    with reading(address, ENDPOINT_SETTING):
        return upload_finding(await browser.fetch(address, "OPTIONS", headers), origin)


def upload_finding(answer: BrowserResponse, origin: str) -> CheckFinding:
    """Whether the answer to the preflight request allows PUT from a page of ``origin``."""
    allowed = answer.headers.get("Access-Control-Allow-Origin") in ("*", origin)
    may_put = not answer.tokens("Access-Control-Allow-Methods").isdisjoint({"*", "put"})
    if answer.status in range(200, 300) and allowed and may_put:
        return ok(f"pages of {origin} may upload")
    return warning(
        f"pages of {origin} may not upload: the bucket's CORS policy does not allow PUT",
        f"broadcaster check --fix --uploads {origin}",
    )
