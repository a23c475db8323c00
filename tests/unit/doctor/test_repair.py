"""What ``check --fix`` sets of a bucket, and what it leaves alone."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from broadcaster.doctor.bucket import Rule, SettingsClient
from broadcaster.doctor.repair import (
    allows,
    backstop_days,
    cors_rule,
    expiring,
    fix_cors,
    fix_lifecycle,
    fix_uploads,
    lets_put,
    lifecycle,
    upload_rule,
)
from broadcaster.errors import StorageRefused
from broadcaster.service.health import Outcome

PAGE = "https://watch.example.com"
RULE = cors_rule("*")


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        ([RULE], True),
        ([{**RULE, "AllowedOrigins": [PAGE]}], True),
        ([{**RULE, "AllowedOrigins": ["https://*.example.com"]}], True),
        ([{**RULE, "AllowedHeaders": ["*"], "ExposeHeaders": ["content-range"]}], True),
        ([{**RULE, "AllowedMethods": ["PUT"]}, RULE], True),
        ([], False),
        ([{**RULE, "AllowedOrigins": ["https://other.example.com"]}], False),
        ([{**RULE, "AllowedMethods": ["GET"]}], False),
        ([{**RULE, "AllowedHeaders": []}], False),
        ([{**RULE, "ExposeHeaders": ["ETag"]}], False),
        ([{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}, RULE], False),  # the first that fits counts
    ],
)
def test_which_cors_policies_will_do(rules: list[Rule], allowed: bool) -> None:  # noqa: FBT001
    """GET and HEAD from the page, with Range, and Content-Range to be seen."""
    assert allows(rules, PAGE) is allowed


class FakeBucket(SettingsClient):
    """A bucket's settings; ``refuses`` them to whoever asks."""

    def __init__(self, *, refuses: bool = False, oldest: datetime | None = None) -> None:
        self.cors_rules: list[Rule] = []
        self.lifecycle_rules: list[Rule] = []
        self._refuses = refuses
        self._oldest = oldest

    def _ask(self) -> None:
        if self._refuses:
            raise StorageRefused("GET: AccessDenied: the access key may not; check the token")

    async def cors(self) -> list[Rule]:
        self._ask()
        return self.cors_rules

    async def set_cors(self, rules: Sequence[Rule]) -> None:
        self.cors_rules = list(rules)

    async def lifecycle(self) -> list[Rule]:
        self._ask()
        return self.lifecycle_rules

    async def set_lifecycle(self, rules: Sequence[Rule]) -> None:
        self.lifecycle_rules = list(rules)

    async def oldest(self, prefix: str) -> datetime | None:
        assert prefix == "live/"
        return self._oldest


async def test_mending_cors() -> None:
    """Our rule comes first and once, others stay, and a policy that will do is left alone."""
    bucket = FakeBucket()
    other = {"ID": "upload", "AllowedMethods": ["PUT"], "AllowedOrigins": [PAGE]}
    bucket.cors_rules = [{**RULE, "AllowedOrigins": ["https://old.example.com"]}, other]
    assert (await fix_cors(bucket, PAGE, PAGE)).outcome == "ok"
    assert bucket.cors_rules == [cors_rule(PAGE), other]
    before = list(bucket.cors_rules)
    assert "nothing to do" in (await fix_cors(bucket, PAGE, "*")).message
    assert bucket.cors_rules == before


async def test_mending_without_the_rights() -> None:
    """The usual token may not change a bucket: the report says which may, and what to paste instead."""
    finding = await fix_cors(FakeBucket(refuses=True), PAGE, "*")
    assert finding.outcome == "failed"
    assert "Admin Read & Write" in finding.remedy
    assert '"AllowedMethods": ["GET", "HEAD"]' in finding.remedy
    finding = await fix_lifecycle(FakeBucket(refuses=True), "live", 30)
    assert finding.outcome == "failed"
    assert "Admin Read & Write" in finding.remedy


def test_how_long_the_backstop_waits() -> None:
    """Longer than anything can be wanted; kept objects are never deleted."""
    day = timedelta(days=1)
    assert backstop_days(None, timedelta()) is None
    assert backstop_days(timedelta(), timedelta()) == 30
    assert backstop_days(timedelta(seconds=1), timedelta()) == 31
    assert backstop_days(10 * day, day / 2) == 41


async def test_lifecycle_rules() -> None:
    """Ours are set once, for our prefix alone; others stay; with keep, nothing of ours deletes."""
    default = {"ID": "Default Multipart Abort Rule", "Status": "Enabled", "Filter": {"Prefix": ""}}
    bucket = FakeBucket(oldest=datetime.now(UTC) - timedelta(days=2))
    bucket.lifecycle_rules = [default]
    for _ in range(2):
        assert (await fix_lifecycle(bucket, "live", 30)).outcome == "ok"
        assert [rule["ID"] for rule in bucket.lifecycle_rules] == [
            "Default Multipart Abort Rule",
            "broadcaster-abort",
            "broadcaster-expire",
        ]
    assert bucket.lifecycle_rules[2]["Filter"] == {"Prefix": "live/"}
    assert bucket.lifecycle_rules[2]["Expiration"] == {"Days": 30}
    assert (await fix_lifecycle(bucket, "live", None)).outcome == "ok"
    assert [rule["ID"] for rule in bucket.lifecycle_rules] == [default["ID"], "broadcaster-abort"]


async def test_the_backstop_deletes_no_recordings() -> None:
    """Objects older than the limit, from when they were kept, are not put at risk."""
    bucket = FakeBucket(oldest=datetime.now(UTC) - timedelta(days=31))
    finding = await fix_lifecycle(bucket, "live", 30)
    assert finding.outcome == "warning"
    assert [rule["ID"] for rule in bucket.lifecycle_rules] == ["broadcaster-abort"]


async def test_a_rule_that_deletes_what_is_kept() -> None:
    """With BROADCASTER_RETENTION=keep, somebody else's rule over our objects is named."""
    bucket = FakeBucket()
    bucket.lifecycle_rules = [
        {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 7}}
    ]
    finding = await fix_lifecycle(bucket, "live", None)
    assert finding.outcome == "warning"
    assert "tidy" in finding.message
    rules = [
        {"ID": "a", "Status": "Enabled", "Filter": {"Prefix": "live2/"}, "Expiration": {"Days": 7}},
        {"ID": "b", "Status": "Disabled", "Filter": {"Prefix": "live/"}, "Expiration": {"Days": 7}},
        {"ID": "c", "Status": "Enabled", "Prefix": "live/x", "Expiration": {"Days": 7}},
        *lifecycle([], "live", 30),
    ]
    assert expiring(rules, "live") == ["c"]


DASHBOARD = "http://127.0.0.1:3001"
PUTS = upload_rule(DASHBOARD)


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        ([RULE, PUTS], True),
        ([{**PUTS, "AllowedOrigins": ["*"], "ExposeHeaders": ["etag"]}], True),
        ([], False),
        ([RULE], False),
        ([{**PUTS, "ExposeHeaders": []}, PUTS], False),
        ([upload_rule("http://localhost:3001")], False),
    ],
)
def test_which_cors_policies_let_files_be_uploaded(rules: list[Rule], allowed: bool) -> None:  # noqa: FBT001
    """PUT from the dashboard, and the ETag to be seen."""
    assert lets_put(rules, DASHBOARD) is allowed


async def test_letting_files_be_uploaded() -> None:
    """What lets pages read stays as it is, and so does a policy that will do."""
    bucket = FakeBucket()
    bucket.cors_rules = [RULE, upload_rule("http://localhost:3001")]
    assert (await fix_uploads(bucket, DASHBOARD)).outcome is Outcome.OK
    assert bucket.cors_rules == [PUTS, RULE]
    assert allows(bucket.cors_rules, PAGE)
    assert "nothing to do" in (await fix_uploads(bucket, DASHBOARD)).message
    found = await fix_uploads(FakeBucket(refuses=True), DASHBOARD)
    assert (found.outcome, '"AllowedMethods": ["PUT"]' in found.remedy) == (Outcome.FAILED, True)
