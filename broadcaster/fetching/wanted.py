"""What is to be read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object, or the ``length`` bytes of it from ``offset`` on (to its end, where there is no length).

    ``size`` in bytes and ``sha256`` in hexadecimal are of what is wanted, where they are known. Two that have
    the same ``name`` are the same object; it is the URL's unless given: one that is signed anew needs one.
    """

    url: str
    size: int | None = None
    sha256: str | None = None
    offset: int = 0
    length: int | None = None
    name: str | None = None

    @property
    def key(self) -> tuple[str, int, int | None, int | None, str | None]:
        """What makes it another one; what was checked against one sum is not taken for another's."""
        return self.name or self.url, self.offset, self.length, self.size, self.sha256

    @property
    def unchecked(self) -> Wanted:
        """The same, where neither its size nor its sum are known."""
        return replace(self, size=None, sha256=None)

    @property
    def known_size(self) -> int | None:
        """Bytes, as far as that can be said before."""
        return self.length if self.size is None else self.size

    @property
    def where(self) -> str:
        """The address as it may be shown: without a signature or a password."""
        try:
            parts = urlsplit(self.url)
        except ValueError:
            return "what is no address"
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
