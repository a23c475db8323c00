"""Names of objects of a private event cannot be guessed, and are the same after a restart."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from broadcaster.bucket.lease import owner_key
from broadcaster.catalog.records import (
    ID,
    LETTERS,
    LONG,
    Clip,
    Recording,
    Run,
    SourceFile,
    Visibility,
    free_id,
    new_secret,
    unguessable,
)
from broadcaster.doctor.bucket import ProbeObjects
from tests.support.fakes.pipeline_parts import START, stored_segment
from tests.support.fakes.recorder_fixture import FakeObjectStore
from tests.support.judges.gate_cases import UNGUESSABLE

PREFIXES = st.from_regex(r"[A-Za-z0-9_-]{1,8}(/[A-Za-z0-9_-]{1,8})?", fullmatch=True)
NAMES = st.from_regex(r"[a-z0-9-]{1,20}\.(ts|m4s|mp4|jpg|json)", fullmatch=True)
RUNS = st.builds(
    Run,
    st.integers(0, 9),
    st.from_regex(r"r[0-9a-f]{1,8}", fullmatch=True),
    st.sampled_from(["#1", "Owncast"]),
)
SECRETS = st.binary(min_size=32, max_size=32)


@given(NAMES, NAMES, SECRETS, SECRETS)
def test_a_name_has_128_bits(name: str, other: str, secret: bytes, other_secret: bytes) -> None:
    """The bits hang on secret and key, and are the same each time; a public stream has its readable names."""
    key = unguessable(f"live/run/0/{name}", secret)
    assert re.fullmatch(rf"live/run/0/[0-9a-f]{{32}}-{re.escape(name)}", key)
    assert unguessable(f"live/run/0/{name}", secret) == key
    bits = key.rpartition("/")[2][:32]
    if other != name:
        assert bits not in unguessable(f"live/run/0/{other}", secret)
    if other_secret != secret:
        assert bits not in unguessable(f"live/run/0/{name}", other_secret)
    assert bits not in unguessable(f"live/run/1/{name}", secret)
    assert unguessable(f"live/run/0/{name}", b"") == f"live/run/0/{name}"


def test_a_long_id_has_128_bits() -> None:
    """Recordings and clips of a private event: each letter is one of 31."""
    name = free_id(datetime(2026, 1, 1, tzinfo=UTC), lambda _: False, LONG)
    assert re.fullmatch(ID, name)
    assert len(LETTERS) ** len(name.rpartition("-")[2]) > 2**128


def keys_of(prefix: str, name: str, variant: str, run: Run, secret: bytes) -> Iterator[str]:
    """The keys that a stream writes under a prefix, and those of a recording and a clip wherever they lie."""
    file = SourceFile(f"init-{name}", Path("/"), 1, 1)
    segment = replace(stored_segment(name, variant=variant), run=run, map_file=file).keyed(prefix, secret)
    yield from (
        segment.key,
        segment.map_key or "",
        owner_key(prefix, secret),
        ProbeObjects(FakeObjectStore(), prefix).key("x"),
    )
    yield unguessable(f"{prefix}/poster.jpg", secret)  # as the live poster does
    letters = LONG if secret else 14
    for deleted in (None, START):
        clip = Clip(
            free_id(START, lambda _: False, letters),
            "",
            START,
            START,
            START,
            deleted=deleted,
            bin=new_secret(),
        )
        yield f"{prefix}/clips/{clip.folder}/poster.jpg"
        for visibility in Visibility:
            recording = Recording(
                free_id(START, lambda _: False, letters),
                "",
                visibility,
                new_secret(),
                START,
                START,
                None,
                timedelta(),
                0,
                0,
                deleted=deleted,
                bin=new_secret(),
            )
            yield from (
                f"{prefix}/recordings/{recording.folder}/{path}"
                for path in ("recording.json", "0/playlist.m3u8")
            )
            yield f"{prefix}/files/{recording.id}-{new_secret()}.mp4"


@given(PREFIXES, NAMES, st.sampled_from(["0", "1", "audio"]), RUNS, SECRETS)
def test_every_key_of_a_private_stream(prefix: str, name: str, variant: str, run: Run, secret: bytes) -> None:
    """Whatever the settings and names, nobody can guess a key, and no two events have one in common."""
    keys = [*keys_of(prefix, name, variant, run, secret)]
    assert [key for key in keys if not UNGUESSABLE.search(key.removeprefix(f"{prefix}/"))] == []
    assert len(set(keys)) == len(keys)
    others = keys_of(prefix, name, variant, run, bytes(reversed(secret)) + b"!")
    assert set(keys).isdisjoint(others)
    public = [key for key in keys_of(prefix, name, variant, run, b"") if not UNGUESSABLE.search(key)]
    assert len(public) >= len(keys) - 1  # the probe's
