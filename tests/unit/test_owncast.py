"""What is made of Owncast's word, by the time at which it comes."""

import json
import logging
from datetime import timedelta

import pytest

from broadcaster.errors import EncoderError
from broadcaster.owncast import RETURN, OwncastStatus, Status, parse
from tests.support.fakes.owncast_api import VERSION, status
from tests.support.fakes.pipeline_parts import START

LATER = START + timedelta(minutes=10)


def said(*, connected: bool) -> Status:
    """Its word after an encoder was connected, or has left, at a time of its own."""
    return Status(connected, START, None, "t", "1") if connected else Status(connected, None, LATER, "t", "1")


FRESH = Status(False, None, None, "t", "1")  # an Owncast that was just started


@pytest.mark.parametrize(
    ("found", "connected"),
    [
        (status(online=True, connected=START), True),
        (status(online=False, connected=START), True),  # the first 7 seconds of a connection and more
        (status(online=False, disconnected=START), False),
        (status(online=False), False),
    ],
)
def test_phases(found: dict[str, object], *, connected: bool) -> None:
    """An encoder is connected from its first moment on, and not any more when it has gone."""
    read = parse(json.dumps(found).encode())
    assert (read.connected, read.title, read.version) == (connected, "A title", VERSION)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe\x00",
        b"<!doctype html>",
        b"[]",
        b"null",
        b"{}",
        b'{"online": "no", "lastConnectTime": null}',
        b'{"online": false}',
        b'{"online": false, "lastConnectTime": 1}',
        b'{"online": false, "lastConnectTime": "soon"}',
        b'{"online": false, "lastConnectTime": "2026-01-01T12:00:00"}',
        b'{"online": 1' + b"0" * 5000 + b', "lastConnectTime": null}',
        b"[" * 65_000,
    ],
)
def test_nonsense(body: bytes) -> None:
    """What is not Owncast's answer is none, above all no "disconnected"."""
    with pytest.raises(EncoderError, match="as Owncast does"):
        parse(body)


def test_an_encoder_that_left() -> None:
    """The time counts from the first answer that said so, until the encoder is back."""
    known = OwncastStatus("http://x")
    known.heard(said(connected=True), 0)
    for now in (2, 4, 6):
        known.heard(said(connected=False), now)
        assert (known.connected, known.disconnected_since) == (False, 2)
    known.heard(said(connected=True), 8)
    assert (known.connected, known.disconnected_since) == (True, None)


def test_a_missed_answer() -> None:
    """After a look without an answer the time begins anew: the encoder could not have come back before."""
    known = OwncastStatus("http://x")
    known.heard(said(connected=True), 0)
    known.heard(said(connected=False), 2)
    known.silent("busy", 4)
    assert (known.connected, known.disconnected_since, known.fault) == (None, None, "busy")
    known.heard(said(connected=False), 6)
    assert (known.connected, known.disconnected_since) == (False, 6)


@pytest.mark.parametrize("seen", [True, False])
def test_a_restart_of_owncast(*, seen: bool) -> None:
    """An Owncast that was started again has no encoder at first: that is no word that the stream is over.

    Be the restart seen or not. Only when no encoder has come back for a while it counts, from its return on.
    """
    known = OwncastStatus("http://x")
    known.heard(said(connected=True), 0)
    if seen:
        known.silent("it refuses connections", 2)
    known.heard(FRESH, 4)
    assert (known.connected, known.disconnected_since) == (False, None)
    known.heard(said(connected=True), 6)
    assert known.connected
    known.heard(FRESH, 100)
    known.heard(FRESH, 100 + RETURN - 1)
    assert known.disconnected_since is None
    known.heard(FRESH, 100 + RETURN)
    assert known.disconnected_since == 100


def test_a_start_beside_an_owncast_without_an_encoder() -> None:
    """Nothing is known of what went before, so an encoder has time to come back then as well."""
    known = OwncastStatus("http://x")
    known.heard(said(connected=False), 50)
    assert (known.connected, known.disconnected_since) == (False, None)
    known.heard(said(connected=False), 50 + RETURN)
    assert known.disconnected_since == 50


def test_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """One line for each change, one warning when it has not answered for long, one when it is back."""
    caplog.set_level(logging.INFO)
    known = OwncastStatus("http://x")
    known.heard(FRESH, 0)
    assert caplog.messages == []
    for now in (1, 2):
        known.heard(said(connected=True), now)
    known.silent("busy", 3)
    known.heard(said(connected=True), 4)
    for now in (5, 6):
        known.heard(said(connected=False), now)
    assert caplog.messages == [
        "Owncast says that the encoder has connected",
        "Owncast says that the encoder has disconnected",
    ]
    caplog.clear()
    for now in (10, 40, 41, 100):
        known.silent("it refuses connections", now)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "it refuses connections; check its address (BROADCASTER_OWNCAST_URL)" in caplog.text
    caplog.clear()
    known.heard(said(connected=False), 101)
    known.heard(said(connected=False), 102)
    assert caplog.messages == ["Owncast answers again"]


def test_a_title_that_nobody_can_write_down() -> None:
    """JSON lets half of a character through; the catalog and the bucket do not."""
    found = {"online": True, "lastConnectTime": None, "lastDisconnectTime": None, "streamTitle": "a\ud800"}
    assert parse(json.dumps(found).encode()).title == "a?"
