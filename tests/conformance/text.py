"""A playlist read line by line, without the code under test. Only what the checks look at is understood."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.conformance.verdicts import Violation

ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",]*)')
# Tags that belong to the next segment, and those that go on for all that follow (§4.4.4).
OF_ONE_SEGMENT = {
    "EXTINF",
    "EXT-X-BYTERANGE",
    "EXT-X-DISCONTINUITY",
    "EXT-X-PROGRAM-DATE-TIME",
    "EXT-X-GAP",
    "EXT-X-PART",
}
VARIANT = "EXT-X-STREAM-INF"
IFRAMES = "EXT-X-I-FRAME-STREAM-INF"
CARRIED_ON = {"EXT-X-MAP", "EXT-X-KEY"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A segment as it is listed: its own tags, and those that it takes over from segments before it."""

    number: int  # media sequence number
    uri: str
    tags: tuple[str, ...]
    carried: dict[str, str]

    @property
    def seconds(self) -> float:
        """Its EXTINF; raises Violation."""
        for tag in self.tags:
            if tag.startswith("#EXTINF:"):
                return _decimal("EXTINF", tag.removeprefix("#EXTINF:").partition(",")[0])
        raise Violation(f"segment {self.number} has no EXTINF (4.4.4.1)")

    @property
    def byte_range(self) -> tuple[int, int] | None:
        """Length and offset of its EXT-X-BYTERANGE; raises Violation where one of them is missing."""
        for tag in self.tags:
            if tag.startswith("#EXT-X-BYTERANGE:"):
                value = tag.removeprefix("#EXT-X-BYTERANGE:")
                if not re.fullmatch(r"[1-9][0-9]{0,19}@[0-9]{1,20}", value):
                    raise Violation(f"EXT-X-BYTERANGE of an I-frame should be n@o, it is {value} (4.4.4.2)")
                length, _, offset = value.partition("@")
                return int(length), int(offset)
        return None

    @property
    def is_gap(self) -> bool:
        """Whether its URI need not answer."""
        return "#EXT-X-GAP" in self.tags


class Playlist:
    """A media or multivariant playlist; raises Violation where a number is none."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = [line for line in text.splitlines() if line]
        self._values: dict[str, str] = {}
        for name, value in map(_split, self.lines):
            self._values.setdefault(name, value)
        self.entries = tuple(self._read_entries())

    def has(self, tag: str) -> bool:
        """Whether the tag occurs."""
        return tag in self._values

    def value(self, tag: str) -> str | None:
        """What follows the tag where it occurs first."""
        return self._values.get(tag)

    def number(self, tag: str, default: int | None = None) -> int:
        """The tag's decimal integer."""
        value = self.value(tag)
        if value is None and default is not None:
            return default
        if value is None or not re.fullmatch(r"[0-9]{1,20}", value):
            raise Violation(f"{tag} should be a decimal integer, it is {value or 'missing'}")
        return int(value)

    def attributes(self, tag: str) -> dict[str, str]:
        """The attribute list of the tag, empty where it does not occur."""
        return dict(ATTRIBUTE.findall(self.value(tag) or ""))

    def seconds_of(self, tag: str, attribute: str) -> float | None:
        """A decimal attribute."""
        value = self.attributes(tag).get(attribute)
        return None if value is None else _decimal(attribute, value)

    @property
    def variants(self) -> list[str]:
        """The URIs of a multivariant playlist; empty for a media playlist."""
        pairs = zip(self.lines, self.lines[1:], strict=False)
        return [uri for tag, uri in pairs if _split(tag)[0] == VARIANT]

    @property
    def bandwidths(self) -> list[int]:
        """BANDWIDTH of each of ``variants``, 0 where it is missing."""
        tags = (dict(ATTRIBUTE.findall(value)) for name, value in map(_split, self.lines) if name == VARIANT)
        return [int(tag.get("BANDWIDTH", 0)) for tag in tags]

    @property
    def iframe_playlists(self) -> list[str]:
        """The URIs of a multivariant playlist's I-frame playlists (§4.4.6.3); raises Violation."""
        tags = (dict(ATTRIBUTE.findall(value)) for name, value in map(_split, self.lines) if name == IFRAMES)
        try:
            return [tag["URI"].strip('"') for tag in tags]
        except KeyError:
            raise Violation(f"{IFRAMES} without a URI (4.4.6.3)") from None

    @property
    def target_duration(self) -> int:
        """Seconds."""
        return self.number("EXT-X-TARGETDURATION")

    @property
    def media_sequence(self) -> int:
        """The number of the first segment."""
        return self.number("EXT-X-MEDIA-SEQUENCE", 0)

    @property
    def skipped(self) -> int:
        """How many segments EXT-X-SKIP stands for (§4.4.5.2)."""
        if not self.has("EXT-X-SKIP"):
            return 0
        count = self.attributes("EXT-X-SKIP").get("SKIPPED-SEGMENTS", "")
        if not re.fullmatch(r"[0-9]{1,20}", count):
            raise Violation("EXT-X-SKIP needs SKIPPED-SEGMENTS, a decimal integer (4.4.5.2)")
        return int(count)

    @property
    def last(self) -> int:
        """The number of the last segment."""
        return self.media_sequence + self.skipped + len(self.entries) - 1

    @property
    def seconds(self) -> float:
        """The sum of all EXTINF."""
        return sum(entry.seconds for entry in self.entries)

    @property
    def ended(self) -> bool:
        """Whether there is an ENDLIST."""
        return self.has("EXT-X-ENDLIST")

    @property
    def can_block(self) -> bool:
        """Whether blocking reload is advertised."""
        return self.attributes("EXT-X-SERVER-CONTROL").get("CAN-BLOCK-RELOAD") == "YES"

    @property
    def skip_boundary(self) -> float | None:
        """CAN-SKIP-UNTIL, seconds; None where delta updates are not advertised."""
        return self.seconds_of("EXT-X-SERVER-CONTROL", "CAN-SKIP-UNTIL")

    def _read_entries(self) -> Iterator[Entry]:
        if self.variants:
            return
        number = self.media_sequence + self.skipped
        tags: list[str] = []
        carried: dict[str, str] = {}
        for line in self.lines:
            name, _ = _split(line)
            if name in OF_ONE_SEGMENT:
                tags.append(line)
            elif name in CARRIED_ON:
                carried = {**carried, name: line}
            elif not line.startswith("#"):
                yield Entry(number, line, tuple(tags), carried)
                number, tags = number + 1, []


def _split(line: str) -> tuple[str, str]:
    """Name and value of a tag; a line that is none has the name ''."""
    if not line.startswith("#EXT"):
        return "", ""
    name, _, value = line[1:].partition(":")
    return name, value


def _decimal(name: str, value: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]*)?", value):
        raise Violation(f"{name} should be a decimal number, it is {value}")
    return float(value)
