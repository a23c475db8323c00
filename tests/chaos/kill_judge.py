"""What a killed broadcaster may not have done: loses, lists twice, breaks a rule, deletes wrongly."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import aiohttp

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.judges.watcher import Watcher
from tests.support.servers.end_to_end import VARIANTS, object_keys

# What a stream that began in the instants that a disk forgot, and has to begin again, looks like.
BEGUN_AGAIN = (" is gone", "shorter than 3 target durations (6.2.2)", "tags rolled off (6.2.2)")
NUMBER = re.compile(r"^\d+-")  # before names without a run


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a stream when it is over."""

    watcher: Watcher
    record: Sequence[Mapping[str, Any]]  # what the processes wrote down
    stored: Mapping[str, Sequence[str]]  # by SHA-256: the URLs of what the bucket has
    finished: Mapping[str, str]  # by SHA-256: run, variant and name of what the encoder finished
    perished: AbstractSet[str]  # SHA-256 of what a power cut left nowhere

    def faults(self, *, deleted: bool, cut: bool, forgot: bool) -> list[str]:
        """What left the window was ``deleted``, or all was kept.

        After a power ``cut`` numbers go on with a margin, also those of what is listed still: a player sees
        a stream that begins again. A disk ``forgot`` what was written last: then nobody can know what had
        been listed, or stored, in the last instants, and it may come again.
        """
        found = [*self._renumbered(), *self._twice(self._versions())]
        found += [f"listed and not there: {name}" for name in self.watcher.missing]
        found += [f"other bytes: {self.stored[name]}" for name in self.stored.keys() - self.finished.keys()]
        found += self.lost(deleted=deleted)
        found += [
            violation
            for violation in self.watcher.violations
            if not (cut and violation.endswith(BEGUN_AGAIN))
        ]
        if forgot:
            return found
        found += [] if cut else self._twice([list(self._numbers().values())])
        found += [f"stored twice: {urls}" for urls in self.stored.values() if len(urls) > 1]
        return [*found, *(self._undeleted() if deleted else self._breaks(cut=cut))]

    def _listed(self) -> list[Mapping[str, Any]]:
        return [fact for fact in self.record if "listed" in fact]

    def _shown(self) -> set[str]:
        """Every URL that viewers could play, for however short a time."""
        seen = {url for variant in VARIANTS for url in self.watcher.segments(variant)}
        return seen | {fact["listed"] for fact in self._listed() if not fact["gap"]}

    def _numbers(self) -> dict[tuple[str, int], str]:
        urls = {(fact["variant"], fact["number"]): fact["listed"] for fact in self._listed()}
        return urls | self.watcher.listed

    def _renumbered(self) -> Iterator[str]:
        """A number means one URL for ever."""
        known = self._numbers()
        for fact in self._listed():
            where = (fact["variant"], fact["number"])
            if known[where] != fact["listed"]:
                yield f"number {where} is {fact['listed']} and {known[where]}"

    def _versions(self) -> list[list[str]]:
        """What each version has to play. A gap has the address of what follows (RFC 8216bis, 4.4.4.7)."""
        versions = [version for versions in self.watcher.versions.values() for version in versions]
        return [[segment.uri for segment in version.segments if not segment.gap] for version in versions]

    def _twice(self, lists: list[list[str]]) -> Iterator[str]:
        for urls in lists:
            yield from (f"listed twice: {url}" for url, count in Counter(urls).items() if count > 1)

    def _breaks(self, *, cut: bool) -> Iterator[str]:
        """There are two runs; nothing has rolled off. A power cut may leave nothing of the first."""
        for variant in VARIANTS:
            if variant not in self.watcher.versions:
                yield f"variant {variant} was never shown"
                continue
            listed = self.watcher.versions[variant][-1].segments
            runs = {segment.uri.split("/")[-3] for segment in listed}
            breaks = sum(segment.discontinuity for segment in listed)
            if breaks != 1 and not (cut and len(runs) == 1 and breaks == 0):
                yield f"variant {variant} has {breaks} discontinuities"

    def lost(self, *, deleted: bool) -> list[str]:
        """Segments that viewers could never play, but that a disk still had.

        They are found by their bytes; where objects are deleted, by their names.
        """
        required, shown = self.finished.keys() - self.perished, self._shown()
        if deleted:
            names = {place(url) for url in shown}
            missing = [self.finished[name] for name in required if place(self.finished[name]) not in names]
            return [f"never listed: {name}" for name in missing]
        missing = [
            self.finished[name] for name in required if not shown.intersection(self.stored.get(name, ()))
        ]
        return [f"lost: {name}" for name in missing]

    def _undeleted(self) -> Iterator[str]:
        stored = {url for urls in self.stored.values() for url in urls}
        yield from (f"left undeleted: {url}" for url in sorted(stored - listed_now(self.watcher)))


def listed_now(watcher: Watcher) -> set[str]:
    """The URLs in the newest playlists."""
    return {segment.uri for versions in watcher.versions.values() for segment in versions[-1].segments}


async def objects(bucket: SeaweedBucket, prefix: str) -> dict[str, list[str]]:
    """By SHA-256, the URLs of all objects below ``prefix``."""
    found: dict[str, list[str]] = {}
    async with aiohttp.ClientSession() as session:
        for key in await object_keys(bucket):
            if key.startswith(f"{prefix}/"):
                url = f"{bucket.public_url}/{key}"
                async with session.get(url) as response:
                    found.setdefault(hashlib.sha256(await response.read()).hexdigest(), []).append(url)
    return found


def place(url: str) -> str:
    """Variant and name at the end of a URL, a path or a key, as the encoder has them."""
    _, variant, name = url.rsplit("/", 2)
    return f"{variant}/{NUMBER.sub('', name)}"
