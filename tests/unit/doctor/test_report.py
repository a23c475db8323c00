"""The doctor's rules: how checks are run, what a folder's look is worth, and when a bucket will do."""

import asyncio
import json
import os
import threading
from pathlib import Path

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from broadcaster.cli import origin
from broadcaster.doctor.bucket import Measurement, ProbeObjects, measure, uplink_finding, warm_finding
from broadcaster.doctor.folders import Survey, SurveyedVariant
from broadcaster.doctor.public import address_finding, preflight_finding
from broadcaster.doctor.report import Check, Report, Result, examine, from_storage, in_thread
from broadcaster.errors import StorageRefused, StorageUnavailable
from broadcaster.guest import BrowserResponse
from broadcaster.service.health import CheckFinding, clock_finding, failed, ok, skipped, warning

PAGE = "https://watch.example.com"


def check(name: str, finding: CheckFinding, *needs: str) -> Check:
    async def run() -> CheckFinding:
        return finding

    return Check(name, name.upper(), run, needs)


def verdicts(report: Report) -> dict[str, str]:
    return {result.name: result.finding.outcome for result in report.results}


async def test_what_needs_a_failed_check_is_skipped() -> None:
    """A failure skips what depends on it, at any distance, and says so; what is merely unknown does not."""
    report = await examine(
        [
            check("a", failed("no", "mend it")),
            check("b", ok("yes"), "a"),
            check("c", ok("yes"), "b"),
            check("d", warning("so so", "better it")),
            check("e", ok("yes"), "d"),
            check("f", skipped("cannot be known")),
            check("g", ok("yes"), "f"),
        ],
        budget=10,
    )
    assert verdicts(report) == {
        "a": "failed",
        "b": "skipped",
        "c": "skipped",
        "d": "warning",
        "e": "ok",
        "f": "skipped",
        "g": "ok",
    }
    assert report.results[1].finding.message == "needs a, which failed"
    assert report.results[2].finding.message == "needs b, which was skipped"
    assert not report.is_good


async def test_a_check_that_hangs_or_breaks_is_bounded() -> None:
    """A check that does not answer fails at its deadline, with its remedy; one that breaks hides why."""

    async def hang() -> CheckFinding:
        await asyncio.Event().wait()
        return ok("never")

    async def raises() -> CheckFinding:
        raise ValueError("secret")

    checks = [Check("hangs", "", hang, deadline=0.05, on_timeout="wait"), Check("breaks", "", raises)]
    report = await examine(checks, budget=10)
    assert [result.finding for result in report.results] == [
        failed("no answer within 0 s", "wait"),
        failed("the check itself failed (ValueError)", "please report this"),
    ]


async def test_the_whole_is_bounded() -> None:
    """When the time of the whole is used up the rest is skipped, but for what must always be done."""

    async def hang() -> CheckFinding:
        await asyncio.Event().wait()
        return ok("never")

    last = Check("last", "", check("last", ok("done")).run, always=True)
    report = await examine([Check("hangs", "", hang), check("next", ok("yes")), last], budget=0.05)
    assert verdicts(report) == {"hangs": "failed", "next": "skipped", "last": "ok"}
    assert report.results[1].finding.message == "no time is left"


async def test_calls_that_may_hang() -> None:
    """A file system's answer or error comes through; a call that hangs holds up nobody."""
    assert await in_thread(str.upper, "a") == "A"
    with pytest.raises(FileNotFoundError):
        await in_thread(os.stat, "/does/not/exist")
    released = threading.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await in_thread(released.wait)
    released.set()


def test_report() -> None:
    """As text: the verdict first, failures in capitals, the remedy below; as JSON: everything."""
    bad = Result("put", "PUT", failed("it is refused", "check the token"), 0.5)
    report = Report([bad, Result("get", "GET", ok("fine"), 0.25)], seconds=1.26)
    assert bad.text == "FAILED   PUT: it is refused\n         → check the token"
    assert report.results[1].text == "ok       GET: fine"
    assert report.summary() == "1 ok, 1 failed, in 1.3 s"
    parsed = json.loads(report.as_json())
    assert parsed["ok"] is False
    assert parsed["checks"][0] == {
        "name": "put",
        "title": "PUT",
        "verdict": "failed",
        "message": "it is refused",
        "remedy": "check the token",
        "seconds": 0.5,
    }


@pytest.mark.parametrize(
    ("skew", "verdict"), [(0, "ok"), (-20, "ok"), (31, "warning"), (-899, "warning"), (1200, "failed")]
)
def test_clock(skew: float, verdict: str) -> None:
    """A clock may be off by seconds; beyond 15 minutes S3 refuses every signature."""
    finding = clock_finding(skew)
    assert finding.outcome == verdict
    if verdict != "ok":
        assert "timedatectl" in finding.remedy
        assert ("ahead of" if skew > 0 else "behind") in finding.message


def test_storage_errors_name_their_remedy() -> None:
    """What the store says to do becomes the remedy; where it says nothing, the check does."""
    named = from_storage(StorageRefused("PUT: NoSuchBucket: there is no such bucket", "check R2_BUCKET"))
    assert named == failed("PUT: NoSuchBucket: there is no such bucket", "check R2_BUCKET")
    assert from_storage(StorageUnavailable("PUT: SlowDown (HTTP 503)")).remedy == "see whether it lasts"
    both = from_storage(StorageRefused("PUT: AccessDenied", "check R2_BUCKET"), "give the token rights")
    assert both.remedy == "check R2_BUCKET; give the token rights"


def survey_of(rate: float, *, seconds: int = 2, variants: int = 1) -> Survey:
    """A stream of so many bytes per second in all."""
    size = int(rate * seconds / variants)
    variant = SurveyedVariant(
        "0", seconds, 0.0, False, False, 5, 0, 5 * size, 5.0 * seconds, size, Path("x.ts")
    )
    return Survey(variants=(variant,) * variants, entries=1)


@pytest.mark.parametrize(
    ("uplink", "verdict"), [(90_000, "failed"), (110_000, "warning"), (199_000, "warning"), (210_000, "ok")]
)
def test_uplink(uplink: int, verdict: str) -> None:
    """It has to carry all variants together, and twice that to make up for an outage; numbers are given."""
    finding = uplink_finding(Measurement(uplink, 1.0), survey_of(100_000, variants=4), overhead=0.05)
    assert finding.outcome == verdict
    assert "the stream makes 0.80 Mbit/s in 4 variant(s)" in finding.message
    assert f"{uplink * 8 / 1e6:.2f} Mbit/s" in finding.message
    assert "of its segment's 2.0 s" in finding.message


def test_uplink_without_a_stream() -> None:
    """Without segments the speed alone is reported; an uplink without a finished upload fails."""
    assert uplink_finding(Measurement(2**20, 1.0), Survey(), 0.1).outcome == "ok"
    aborted = uplink_finding(Measurement(16_384, 4.0, finished=False), Survey(), 0.1)
    assert aborted.outcome == "failed"
    assert "less than 0.03 Mbit/s" in aborted.message


def test_what_a_warm_standby_costs() -> None:
    """Rate, operations and bytes are those of the stream; without one it is said what they depend on."""
    found = warm_finding(survey_of(750_000, variants=3))
    assert found.outcome == "ok"
    assert "6.00 Mbit/s of the uplink, and an hour 5,400 class A operations and 2.7 GB" in found.message
    assert "as much as the leader" in warm_finding(Survey()).message


class Line(ProbeObjects):
    """Takes so many bytes per second, until it breaks at a size."""

    def __init__(self, rate: float, breaks_at: int = 2**40) -> None:
        self.sizes: dict[str, int] = {}
        self._rate = rate
        self._breaks_at = breaks_at

    async def put(self, name: str, size: int, *, deadline: float = 1.0) -> bytes:
        self.sizes[name] = size
        if size >= self._breaks_at:
            raise StorageUnavailable("broken")
        try:
            async with asyncio.timeout(deadline):
                await asyncio.sleep(size / self._rate)
        except TimeoutError:
            raise StorageUnavailable("no answer") from None
        return bytes(size)


async def test_measuring_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects grow until one takes long enough: the first on a slow line, the largest on a fast one."""
    monkeypatch.setattr("broadcaster.doctor.bucket.LONG_ENOUGH", 0.1)
    slow = Line(100_000)
    assert 0 < (await measure(slow)).rate <= 100_000
    assert list(slow.sizes.values()) == [16_384]
    monkeypatch.setattr("broadcaster.doctor.bucket.LONG_ENOUGH", 60)
    monkeypatch.setattr("broadcaster.doctor.bucket.PATIENCE", 600)
    fast = Line(1e9)
    assert (await measure(fast)).size == 4 * 2**20
    assert len(fast.sizes) == 5


async def test_measuring_a_line_that_breaks() -> None:
    """What got through is measured; when nothing does, the error of the bucket is raised."""
    assert (await measure(Line(1e6, breaks_at=65_536))).size == 16_384
    with pytest.raises(StorageUnavailable):
        await measure(Line(1e6, breaks_at=1))


async def test_a_line_that_gets_nothing_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload that is given up says how fast the line cannot be."""
    monkeypatch.setattr("broadcaster.doctor.bucket.PATIENCE", 0.1)
    measured = await measure(Line(100))
    assert not measured.finished
    assert measured.rate <= 16_384 / 0.1


def answer(status: int, **headers: str) -> BrowserResponse:
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return BrowserResponse(status, CIMultiDictProxy(named), b"", 0.0)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (answer(204, Access_Control_Allow_Origin="*", Access_Control_Allow_Headers="Range"), "ok"),
        (answer(200, Access_Control_Allow_Origin=PAGE, Access_Control_Allow_Headers="a, *"), "ok"),
        (answer(403), "warning"),
        (answer(200, Access_Control_Allow_Headers="range"), "warning"),
        (answer(200, Access_Control_Allow_Origin="*", Access_Control_Allow_Headers="etag"), "warning"),
    ],
)
def test_preflight(given: BrowserResponse, verdict: str) -> None:
    """A browser needs a 2xx that allows its origin and the header."""
    assert preflight_finding(given, PAGE).outcome == verdict


@pytest.mark.parametrize(
    ("url", "given", "verdict", "words"),
    [
        ("https://video.example.com/x.ts?secret", answer(404), "ok", "https://video.example.com answers"),
        ("https://pub-1.r2.dev/x.ts", answer(404), "warning", "for development"),
        ("https://video.example.com/x.ts", answer(403), "ok", ""),  # judged when there is something to read
        ("https://video.example.com/x.ts", answer(200), "failed", "not a bucket"),
        (
            "http://v.example.com/x",
            answer(301, Location="https://v.example.com/x?y"),
            "failed",
            "v.example.com",
        ),
        ("https://video.example.com/x.ts", answer(530), "failed", "530"),
    ],
)
def test_viewers_address(url: str, given: BrowserResponse, verdict: str, words: str) -> None:
    """Of the address itself it is asked that it answers, with a 404, and is meant for viewers."""
    finding = address_finding(url, given)
    assert finding.outcome == verdict
    assert words in finding.message
    assert "secret" not in finding.message


def test_origin() -> None:
    """Of an address only scheme, host and port are an origin."""
    assert origin("https://Watch.example.com/live?x") == PAGE
    assert origin("http://127.0.0.1:3000") == "http://127.0.0.1:3000"
    for wrong in ("watch.example.com", "ftp://x", "https://u:p@x"):
        with pytest.raises(ValueError, match="http"):
            origin(wrong)
