"""The metrics that ingest accepts from the viewer server: of this list, with this shape and range.

Strangers talk to the viewer server, so it could send anything.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from broadcaster.ipc.messages import SentMetric
from broadcaster.printable import printable

Labels = tuple[str, ...]
WORD, STATUS = r"[a-z][a-z0-9_-]{0,31}", r"[1-5][0-9][0-9]"
CODEC = r"[A-Za-z0-9.-]{1,7}"
VARIANT = r".{1,255}"  # a path in the HLS folder
EVENTS, MANY = 2.0**53, 1e7  # the largest counter, and the largest count at a time
SECONDS = 1e9
TEXT = 300  # characters
BOUNDS = 32  # of a histogram


@dataclass(frozen=True, slots=True)
class Accepted:
    """The shape of a metric: its kind, its labels, the number of label sets, and the largest value."""

    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[tuple[str, str], ...] = ()  # name, and pattern of the values
    sets: int = 1
    most: float = EVENTS


def _by(name: str, values: str, sets: int) -> tuple[tuple[tuple[str, str], ...], int]:
    return ((name, values),), sets


VARIANTS = _by("variant", VARIANT, 200)
REASONS = _by("reason", WORD, 20)
ACCEPTED = {
    "requests": Accepted("counter", (("route", WORD), ("status", STATUS)), 600),
    "wake_up_seconds": Accepted("histogram"),
    "waiters": Accepted("gauge", most=MANY),
    "waiters_refused": Accepted("counter"),
    "viewer_bytes": Accepted("counter", *_by("source", WORD, 5)),
    "viewer_seconds": Accepted("counter"),
    "viewer_reports_refused": Accepted("counter"),
    "viewers": Accepted("gauge", *VARIANTS, MANY),
    "viewers_error": Accepted("gauge", most=MANY),
    "viewer_report_share": Accepted("gauge", most=1),
    "viewers_without_picture": Accepted("gauge", most=MANY),
    "viewers_undecodable": Accepted("gauge", *_by("codec", CODEC, 10), MANY),
    "viewer_furthest_seconds": Accepted("gauge", most=SECONDS),
    "viewer_startup_seconds": Accepted("histogram", *VARIANTS),
    "viewer_latency_seconds": Accepted("histogram", *VARIANTS),
    "viewer_stalls": Accepted("counter", *VARIANTS),
    "viewer_stalled_seconds": Accepted("counter", *VARIANTS),
    "viewer_errors": Accepted("counter", *VARIANTS),
    "viewers_clips": Accepted("counter", *_by("outcome", WORD, 10)),
    "connections": Accepted("gauge", most=MANY),
    "connections_cut": Accepted("counter", *REASONS),
    "long_requests": Accepted("gauge", *_by("kind", WORD, 20), MANY),
    "long_requests_refused": Accepted("counter", *REASONS),
    "viewers_share_an_address": Accepted("gauge", most=1),
    "audience_lag_seconds": Accepted("gauge", most=SECONDS),
    "event_readers": Accepted("gauge", most=MANY),
    "held_events": Accepted("gauge", most=MANY),
    "held_segments": Accepted("gauge", most=MANY),
    "event_readers_refused": Accepted("counter"),
    "tracker_peers": Accepted("gauge", most=MANY),
    "tracker_swarms": Accepted("gauge", most=MANY),
    "tracker_sockets": Accepted("gauge", most=MANY),
    "tracker_messages": Accepted("counter", *_by("action", WORD, 20)),
    "tracker_refused": Accepted("counter", *REASONS),
}


def accepted(sent: Iterable[SentMetric]) -> tuple[tuple[SentMetric, ...], set[str]]:
    """The accepted metrics, each once, and the printable names of all others."""
    found: dict[str, SentMetric] = {}
    refused = set()
    for metric in sent:
        if metric.name not in found and fits(metric):
            found[metric.name] = metric
        else:
            refused.add(printable(metric.name[:TEXT]))
    return tuple(found.values()), refused


def add_bounded(counts: Counter[Labels], name: str, more: dict[Labels, float]) -> None:
    """Add to the counts of earlier processes, up to the metric's number of label sets."""
    most = ACCEPTED[name].sets * BOUNDS
    for labels, value in more.items():
        if labels in counts or len(counts) < most:
            counts[labels] += value  # type: ignore[assignment]  # a Counter's values may be any numbers


def fits(metric: SentMetric) -> bool:
    """Whether a metric is in the list and has the shape."""
    shape = ACCEPTED.get(metric.name)
    if (
        shape is None
        or metric.labels != tuple(name for name, _ in shape.labels)
        or metric.is_counter is (shape.kind == "gauge")
        or (metric.total is None) is (shape.kind == "histogram")
        or not (metric.text.isprintable() and len(metric.text) <= TEXT)
    ):
        return False
    samples, total = dict(metric.samples), dict(metric.total or ())
    if metric.total is not None:
        return len(total) <= shape.sets and _is_histogram(shape, samples, total)
    return len(samples) <= shape.sets and all(
        _has_labels(shape, labels) and _is_number(value, shape.most) for labels, value in samples.items()
    )


def _is_histogram(shape: Accepted, samples: dict[Labels, float], total: dict[Labels, float]) -> bool:
    """Whether each label set has rising buckets up to the infinite bucket."""
    counts: dict[Labels, dict[float, float]] = {labels: {} for labels in total}
    for key, value in samples.items():
        try:
            bound = float(key[-1])
        except (ValueError, IndexError):
            return False
        if key[:-1] not in counts or not bound >= 0 or not _is_number(value, EVENTS):
            return False
        counts[key[:-1]][bound] = value
    return all(
        _has_labels(shape, labels) and _is_number(total[labels], shape.most) and _rise(found)
        for labels, found in counts.items()
    )


def _rise(buckets: dict[float, float]) -> bool:
    ordered = sorted(buckets.items())
    return (
        0 < len(ordered) <= BOUNDS
        and ordered[-1][0] == math.inf
        and all(before <= after for (_, before), (_, after) in pairwise(ordered))
    )


def _has_labels(shape: Accepted, labels: Labels) -> bool:
    return len(labels) == len(shape.labels) and all(
        value.isprintable() and re.fullmatch(pattern, value)
        for (_, pattern), value in zip(shape.labels, labels, strict=True)
    )


def _is_number(value: float, most: float) -> bool:
    return 0 <= value <= most  # False for nan
