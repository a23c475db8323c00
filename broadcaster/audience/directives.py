"""Delivery directives: what a player asks of a playlist in its query (§6.2.5)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

NUMBER = re.compile(r"[0-9]{1,16}", re.ASCII)


class BadDirective(ValueError):  # noqa: N818 - reads as what it is
    """A directive that no server can follow: 400, whatever the playlist."""


@dataclass(frozen=True, slots=True)
class Directives:
    """The ``_HLS_`` parameters; all others are none of ours and are ignored."""

    media_sequence: int | None = None  # _HLS_msn
    skip: bool = False  # _HLS_skip

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Self:
        """Read the query; raises BadDirective.

        There are no partial segments here: whoever waits for a part gets the whole segment, which contains
        it. ``_HLS_skip=v2`` may skip date ranges too; there are none.
        """
        media_sequence, part = _number(query, "_HLS_msn"), _number(query, "_HLS_part")
        if part is not None and media_sequence is None:
            raise BadDirective("_HLS_part needs _HLS_msn")  # §6.2.5.2
        return cls(media_sequence, query.get("_HLS_skip") in ("YES", "v2"))


def _number(query: Mapping[str, str], name: str) -> int | None:
    value = query.get(name)
    if value is None:
        return None
    if not NUMBER.fullmatch(value):
        raise BadDirective(f"{name} must be a decimal integer")
    return int(value)
