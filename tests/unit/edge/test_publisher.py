"""The publisher keeps the edge's texts equal to what viewers see, and says why it cannot."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.access.gate import TRIES
from broadcaster.edge import VERSION, client
from broadcaster.edge import publisher as module
from broadcaster.edge.publisher import EdgePublisher, splice, texts_of
from broadcaster.events import Event
from broadcaster.ipc.messages import HealthReport, PassphraseAnswer, PassphraseTry, Pong, View
from broadcaster.service.viewer_process import message_of
from broadcaster.viewer_server.pages import PageTexts
from broadcaster.viewer_server.snapshots import ServedStream
from tests.support.fakes.channel import Channel
from tests.support.fakes.edge_worker import KEY, EdgeWorker
from tests.support.fakes.pipeline_parts import START, stored_segment, variants_listed
from tests.support.judges.gate_cases import GRANT
from tests.support.waiting import changes, eventually

LINES = st.lists(st.sampled_from(["a\n", "bc\n", "a\u00e4\n", "\U0001f600"]), max_size=8).map("".join)


@given(LINES, LINES)
def test_a_splice_makes_the_new_text(before: str, now: str) -> None:
    """Whatever two texts are, the pieces make the second of the first."""
    assert joined(before, now) == now


def test_a_playlist_that_goes_on_costs_its_head_and_its_end() -> None:
    """Of a playlist of a thousand segments, a new version sends the new lines alone."""
    segments = [
        f"#EXTINF:2.000000,\nhttps://video.example.com/live/{number:08}.ts\n" for number in range(1001)
    ]
    before = "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:1\n" + "".join(segments[:-1])
    now = "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:2\n" + "".join(segments[1:])
    assert joined(before, now) == now
    assert len(json.dumps(splice(before, now))) < 200


def joined(before: str, now: str) -> str:
    return "".join(
        piece if isinstance(piece, str) else before[slice(*piece)] for piece in splice(before, now)
    )


class Fed:
    """A publisher that a channel feeds; ``reports`` are those that it has passed on."""

    def __init__(self, edge: EdgeWorker, folder: Path, key: str = KEY, address: str = "") -> None:
        self.edge = edge
        self.reports: list[tuple[str, str, str]] = []
        self.opened = Counter[str]()
        self.report = HealthReport("offline", 0, None)
        self.pong = Pong(())
        self.epoch: int | None = 7
        self.publisher = EdgePublisher(
            address or edge.address,
            key,
            PageTexts({"eventsUrl": "/live/events"}, folder),
            report=lambda: self.report,
            pong=lambda: self.pong,
            on_reports=self.reports.extend,
            epoch=lambda: self.epoch,
            outbid=self.outbid,
            wall=lambda: datetime.now(UTC),
            passphrase=self.answer,
            on_opened=self.opened.update,
        )
        self.channel = Channel(6, lambda: START, self.observe, show=self.publisher.show)
        self.channel.list_variants(variants_listed("0"))
        self.count = 0

    def answer(self, attempt: PassphraseTry, answer: Callable[[PassphraseAnswer], None]) -> None:
        answer(PassphraseAnswer(attempt.id, "a token" if attempt.text == "right" else None))

    def outbid(self, epoch: int) -> None:
        self.epoch = epoch + 1

    def observe(self, event: Event) -> None:
        if message := message_of(event):
            self.publisher.send(message)

    def publish(self, count: int = 1) -> None:
        for _ in range(count):
            time = START + timedelta(seconds=2 * self.count)
            self.channel.publish(stored_segment(f"https://a/{self.count:08}.ts", seconds=2, time=time))
            self.count += 1

    async def until_same(self) -> None:
        """Wait until the edge has all playlists as they are."""
        await changes(self.edge.changed, self.is_same)

    def is_same(self) -> bool:
        stream = ServedStream()
        stream.show(self.channel.view)
        wanted = {name: text.render() for name, text in texts_of(stream).items()}
        return wanted == {name: text for name, text in self.edge.texts.items() if name.startswith("live/")}


@asynccontextmanager
async def pushing(folder: Path, key: str = KEY, address: str = "") -> AsyncIterator[Fed]:
    """A publisher that runs, in front of a stand-in for the Worker, or of the one at ``address``."""
    async with EdgeWorker().running() as edge:
        fed = Fed(edge, folder, key, address)
        running = asyncio.create_task(fed.publisher.run())
        try:
            yield fed
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def until(fed: Fed, *, fault: str) -> None:
    """Wait until the publisher says so of its fault."""
    await eventually(lambda: str(fed.publisher.fault), lambda found: fault in found)


async def test_the_edge_has_every_version(tmp_path: Path) -> None:
    """A whole view comes first, then what has changed, with events, segments and the page's settings."""
    async with pushing(tmp_path) as fed:
        await changes(fed.edge.changed, lambda: fed.edge.pushes)
        assert fed.edge.pushes[0]["base"] is None
        for _ in range(12):
            fed.publish()
            await fed.until_same()
        pushes = fed.edge.pushes
        assert [push["base"] for push in pushes[1:]] == [push["serial"] for push in pushes[:-1]]
        assert [name for push in pushes for name, _ in push["events"]] == ["starting", "started"]
        assert [segment["sequence"] for push in pushes for segment in push["segments"]] == list(range(1, 13))
        assert pushes[-1]["state"]["state"] == "live"
        assert json.loads(fed.edge.texts["page"])["settings"] == {
            "eventsUrl": "/live/events",
            "events": "held",
        }
        await eventually(lambda: fed.publisher.fault is None)
        fed.publisher.show(View())
        await changes(fed.edge.changed, lambda: pushes[-1]["base"] is None)
        assert pushes[-1]["segments"] == []


async def test_one_push_at_a_time(tmp_path: Path) -> None:
    """While a push hangs nothing else is sent; what came meanwhile is in the next one."""
    async with pushing(tmp_path) as fed:
        fed.publish(3)
        await fed.until_same()
        before = len(fed.edge.pushes)
        fed.edge.open.clear()
        fed.publish()
        await changes(fed.edge.changed, lambda: True)
        fed.publish(20)
        fed.edge.open.set()
        await fed.until_same()
        assert fed.edge.most_at_once == 1
        assert len(fed.edge.pushes) <= before + 2


async def test_a_base_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edge that has lost its view gets the whole view."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    async with pushing(tmp_path) as fed:
        fed.publish(3)
        await fed.until_same()
        fed.edge.refusal = (409, {"reason": "base", "serial": 0})
        fed.publish()
        await changes(fed.edge.changed, lambda: fed.edge.refused)
        fed.edge.texts, fed.edge.refusal = {}, None
        await fed.until_same()
        assert fed.edge.pushes[-1]["base"] is None
        await eventually(lambda: fed.publisher.fault is None)


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (409, {"reason": "epoch", "epoch": 2**50, "silent": 0.0}, "another broadcaster"),
        (400, {"reason": "version", "v": VERSION - 1}, "deploy the Worker of this release"),
        (400, {"reason": "version", "v": VERSION + 2}, "upgrade the service"),
        (422, {"reason": "live/0/playlist.m3u8"}, "later segments"),
        (413, {"reason": "size"}, "too large"),
    ],
)
async def test_a_refusal_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, body: dict[str, object], fault: str
) -> None:
    """The fault says what the edge refuses and what to do, until the edge takes pushes again."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    async with pushing(tmp_path) as fed:
        fed.edge.refusal = (status, body)
        fed.publish(3)
        await until(fed, fault=fault)
        metrics = {metric.name: metric.samples.get(()) or 0.0 for metric in fed.publisher.metrics()}
        assert metrics["edge_refusing"] == 1
        assert metrics["edge_behind_versions"] > 0
        fed.edge.refusal = None
        await fed.until_same()
        await eventually(lambda: fed.publisher.fault is None)


async def test_a_wrong_key(tmp_path: Path) -> None:
    """The fault names a key that the edge does not know, and never shows it."""
    async with pushing(tmp_path, key="x" * 43) as fed:
        await until(fed, fault="refuses the key")
        assert "x" * 43 not in str(fed.publisher.fault)


async def test_a_later_epoch_that_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that was lost locks nobody out: an epoch that nobody pushes in is outbid."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    async with pushing(tmp_path) as fed:
        fed.edge.refusal = (409, {"reason": "epoch", "epoch": 2**50, "silent": 61_000.0})
        fed.publish(3)
        await changes(fed.edge.changed, lambda: fed.edge.refused)
        fed.edge.refusal = None
        await fed.until_same()
        assert fed.edge.pushes[-1]["epoch"] == 2**50 + 1


async def test_who_does_not_lead_pushes_nothing(tmp_path: Path) -> None:
    """Without the lease nothing is pushed, and nothing is at fault; with it again, everything is."""
    async with pushing(tmp_path) as fed:
        fed.publish(3)
        await fed.until_same()
        fed.epoch = None
        await asyncio.sleep(module.LEASE_EVERY)  # a push that has begun
        count = len(fed.edge.pushes)
        fed.publish(2)
        await asyncio.sleep(3 * module.LEASE_EVERY)
        assert len(fed.edge.pushes) == count
        assert fed.publisher.fault is None
        fed.epoch = 9
        await fed.until_same()
        assert (fed.edge.pushes[-1]["epoch"], fed.edge.pushes[count]["base"]) == (9, None)


async def test_another_version_that_still_takes_pushes(tmp_path: Path) -> None:
    """A Worker of another release is named while it works."""
    async with pushing(tmp_path) as fed:
        fed.edge.version = VERSION + 1
        fed.publish(3)
        await fed.until_same()
        await until(
            fed, fault=f"version {VERSION + 1} of the protocol, the service {VERSION}; upgrade the service"
        )


async def test_an_edge_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edge without answers is a fault after a while, with how far behind it is; metrics count it."""
    monkeypatch.setattr(module, "BEHIND", 0.05)
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    async with pushing(tmp_path) as fed:
        fed.edge.refusal = (503, {})
        fed.publish(3)
        await until(fed, fault="behind")
        metrics = {metric.name: metric.samples.get(()) or 0.0 for metric in fed.publisher.metrics()}
        assert metrics["edge_behind_seconds"] > 0
        assert metrics["edge_refusing"] == 0


async def test_a_push_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A push that the Worker would refuse for its size is not sent, and said; a smaller one follows."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(client, "MAX_PUSH", 10)
    async with pushing(tmp_path) as fed:
        fed.publish(3)
        await until(fed, fault="too large")
        assert fed.edge.most_at_once == 0
        monkeypatch.setattr(client, "MAX_PUSH", 2**20)
        await fed.until_same()
        await eventually(lambda: fed.publisher.fault is None)


async def test_each_push_has_the_share_of_reports(tmp_path: Path) -> None:
    """A share that is a little less goes with the next push; one that is much less makes its own."""
    async with pushing(tmp_path) as fed:
        fed.pong = Pong((), share=0.9, every=30.0)
        fed.publish(3)
        await fed.until_same()
        assert fed.edge.pushes[-1]["sampling"].items() >= {"share": 0.9, "every": 30.0}.items()
        fed.pong = Pong((), share=0.2, every=400.0)
        event = ["reports", {"share": 0.2, "every": 400.0}]
        await changes(fed.edge.changed, lambda: event in fed.edge.pushes[-1]["events"])
        assert fed.edge.pushes[-1]["sampling"].items() >= {"share": 0.2, "every": 400.0}.items()


@pytest.mark.parametrize("count", [1, 1000])
async def test_reports_are_passed_on(tmp_path: Path, count: int) -> None:
    """Reports that the edge has collected reach the service, each once, however many there are."""
    reports = [(f"192.0.2.{number % 250}", "{%s}" % ('"' * number)) for number in range(count)]
    async with pushing(tmp_path) as fed:
        fed.edge.reports, fed.edge.opened = list(reports), {GRANT: 2}
        fed.edge.grants = [GRANT]  # a Worker of an earlier release sends none
        fed.publish(3)
        await fed.until_same()
        await eventually(lambda: fed.reports)
        grants = [GRANT] + [""] * (count - 1)
        assert fed.reports == [(*report, grant) for report, grant in zip(reports, grants, strict=True)]
        assert fed.opened == {GRANT: 2}


async def test_passphrases_are_answered(tmp_path: Path) -> None:
    """What was typed at the edge is answered by the next push that is taken; only wrong tries run out."""
    async with pushing(tmp_path) as fed:
        await changes(fed.edge.changed, lambda: fed.edge.pushes)
        tried = [  # a client network is an IPv6 /64
            (f"{text} {number}", f"2001:db8::{number + 1}", text)
            for text in ("right", "wrong")
            for number in range(7)
        ]
        fed.edge.tries.extend(tried)
        fed.publish()
        await changes(fed.edge.changed, lambda: not fed.edge.tries)
        fed.edge.refusal = (500, {})
        await changes(fed.edge.changed, lambda: fed.edge.refused)
        fed.edge.refusal = None
        await changes(fed.edge.changed, lambda: any("answers" in push for push in fed.edge.pushes))
        fed.publish()
        await fed.until_same()
        (answers,) = [push["answers"] for push in fed.edge.pushes if "answers" in push]
        assert answers == [
            *([f"right {number}", "a token", False] for number in range(7)),
            *([f"wrong {number}", None, number >= TRIES] for number in range(7)),
        ]
