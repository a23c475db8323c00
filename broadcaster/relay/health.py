"""Health of the relay, its savings of uplink traffic, and the routes of its admin listener."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from html import escape

from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from broadcaster.http.connections import CONNECTIONS, Connections
from broadcaster.http.server import ADMIN_HEADERS, HEALTH, allow_hosts, health
from broadcaster.ipc.messages import HealthReport, State, ViewerProblem
from broadcaster.metrics import Metric
from broadcaster.relay.follower import OriginFollower
from broadcaster.relay.origin import Origin
from broadcaster.relay.segments import SegmentHandler

UNREACHABLE_AFTER = 3.0  # seconds without an answer after a failed request
# Seconds without any answer, in addition to the time for which a blocking request may wait (§6.2.5.2).
SILENT, PATIENCE_TARGET_DURATIONS = 5.0, 3
USUAL_TARGET_DURATION = 5  # seconds, before there is a stream


@dataclass(frozen=True, slots=True)
class Savings:
    """Answers and bytes sent to viewers, and objects and bytes fetched over the uplink for them."""

    answers: int
    fetched: int
    sent: int
    received: int

    @property
    def hit_rate(self) -> float:
        """The share of answers that needed no fetch."""
        return max(0.0, 1 - self.fetched / self.answers) if self.answers else 0.0

    @property
    def bytes(self) -> int:
        """Bytes that were sent without being fetched again."""
        return max(0, self.sent - self.received)


class RelayHealth:
    """Reads the state of the relay's parts.

    ``fetching`` returns the fetcher's metrics, ``trouble`` the problem that the origin reports.
    """

    def __init__(
        self,
        origin: Origin,
        follower: OriginFollower,
        media: SegmentHandler,
        fetching: Callable[[], Iterable[Metric]],
        trouble: Callable[[], ViewerProblem | None],
    ) -> None:
        self._origin = origin
        self._follower = follower
        self._media = media
        self._fetching = fetching
        self._trouble = trouble

    @property
    def is_unreachable(self) -> bool:
        """Whether the origin does not answer."""
        silence = self._origin.silence
        if silence > self._patience:
            return True
        return self._origin.fault is not None and silence > UNREACHABLE_AFTER

    @property
    def uplink(self) -> str:
        """A sentence about the connection to the origin."""
        origin = self._origin
        if not self.is_unreachable:
            return f"{origin.address} answers"
        why = f" ({origin.fault})" if origin.fault else ""
        return f"{origin.address} has not answered for {origin.silence:.0f} s{why}: reconnecting to it"

    @property
    def savings(self) -> Savings:
        """Savings since the start."""
        metrics = {metric.name: metric.value for metric in self._fetching()}
        fetched, received = metrics["fetch_misses"], metrics["fetch_received_bytes"]
        assert isinstance(fetched, int | float)  # noqa: S101 - for the type checker
        assert isinstance(received, int | float)  # noqa: S101 - for the type checker
        return Savings(self._media.answers, int(fetched), self._media.sent, int(received))

    def report(self) -> HealthReport:
        """The report for ``/health`` and the page."""
        view, trouble, warning = self._follower.view, self._trouble(), None
        on = view.state in (State.LIVE, State.STARTING)
        reason = self._reason() if on else None
        if self.is_unreachable and not on:
            warning = self.uplink
        elif on and trouble and not reason:
            warning = f"the origin reports a problem: {trouble}"
        return HealthReport(
            view.state,
            0,
            reason,
            warning=warning,
            listed=sum(len(version.playlist.segments) for version in view.playlists.values()),
            variants=tuple(view.playlists),
            qualities=view.qualities,
            target_duration=view.target_duration,
            trouble="delivery" if reason else trouble,
            parts={"service": "failing" if reason else "warning"} if reason or warning else {},
        )

    @property
    def _patience(self) -> float:
        target_duration = self._follower.view.target_duration or USUAL_TARGET_DURATION
        return SILENT + PATIENCE_TARGET_DURATIONS * target_duration

    def _reason(self) -> str | None:
        """Why viewers do not get the running stream; None if they do."""
        if self.is_unreachable:
            return f"{self.uplink}; cached segments are still served"
        if self._media.fault:
            return f"segments cannot be fetched: {self._media.fault}"
        # Requests may be answered without new segments. A problem of the origin is not this relay's.
        silence = self._follower.silence
        if silence <= self._patience or self._trouble():
            return None
        return f"{self._origin.address} answers, but has had nothing new for {silence:.0f} s"

    def metrics(self) -> Iterator[Metric]:
        """The state and the savings for Prometheus."""
        savings = self.savings
        yield Metric("relay_uplink_up", "1 while the origin answers", not self.is_unreachable)
        yield Metric(
            "relay_origin_silent_seconds",
            "Seconds since the latest answer of the origin",
            self._origin.silence,
        )
        yield Metric("relay_hit_ratio", "Share of answers that needed no fetch", savings.hit_rate)
        yield Metric("relay_saved_bytes", "Bytes sent without being fetched again", savings.bytes)
        yield Metric("relay_live", "1 while a stream is live", self._follower.view.state is State.LIVE)
        text = "1 while a stream is live and does not reach viewers"
        yield Metric("relay_failing", text, self.report().reason is not None)


MAX_CONNECTIONS = 100
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width">
<title>{sentence}</title>
<style>
body {{ font: 1.1rem/1.6 system-ui, sans-serif; margin: 2rem auto; max-width: 40rem; padding: 0 1rem }}
h1 {{ font-size: 1.4rem }} th {{ text-align: left; padding-right: 2rem; font-weight: normal }}
td {{ font-variant-numeric: tabular-nums }}
</style>
<h1>{sentence}</h1>
<table>{rows}</table>
"""


def make_admin_app(
    report: Callable[[], HealthReport],
    relay_health: RelayHealth,
    registry: CollectorRegistry,
    names: Collection[str] = (),
) -> web.Application:
    """The application of the admin listener; ``names`` are further host names for which it answers."""

    async def page(_: web.Request) -> web.Response:
        now, savings = report(), relay_health.savings
        rows = {
            "Uplink": relay_health.uplink,
            "Viewers": str(now.viewers),
            "Hit rate": f"{savings.hit_rate:.1%} of {savings.answers} answers",
            "Fetched": f"{savings.fetched} objects, {savings.received / 1e6:,.1f} MB",
            "Sent to viewers": f"{savings.sent / 1e6:,.1f} MB",
            "Saved": f"{savings.bytes / 1e6:,.1f} MB",
        }
        lines = "".join(f"<tr><th>{name}<td>{escape(text)}" for name, text in rows.items())
        text = PAGE.format(sentence=escape(now.sentence), rows=lines)
        return web.Response(text=text, content_type="text/html", headers={hdrs.CACHE_CONTROL: "no-store"})

    async def metrics(_: web.Request) -> web.Response:
        headers = {hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST, hdrs.CACHE_CONTROL: "no-store"}
        return web.Response(body=generate_latest(registry), headers=headers)

    app = web.Application(middlewares=[allow_hosts(names)])
    app[CONNECTIONS], app[HEALTH] = Connections(MAX_CONNECTIONS), report
    app.on_response_prepare.append(_on_answer)
    app.router.add_get("/dashboard", page, name="dashboard")
    app.router.add_get("/health", health, name="health")
    app.router.add_get("/metrics", metrics, name="metrics")
    return app


async def _on_answer(request: web.Request, response: web.StreamResponse) -> None:
    request.app[CONNECTIONS].complete(request)
    response.headers.update(ADMIN_HEADERS)
    response.headers.pop(hdrs.SERVER, None)
