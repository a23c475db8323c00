"""Names of objects of a private event cannot be guessed, and are the same after a restart."""

import re
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from broadcaster.catalog.records import ID, LETTERS, LONG, free_id, unguessable

NAMES = st.from_regex(r"[a-z0-9-]{1,20}\.(ts|m4s|mp4|jpg|json)", fullmatch=True)
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
