"""What deploy/install.sh fetches is what the tests ran with, to the byte."""

import re
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
SHA256 = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def entries(file: str) -> dict[str, tuple[str, list[str]]]:
    """The version and the hashes of each package in a file of requirements."""
    text = re.sub(r"^#.*\n", "", (REPOSITORY / file).read_text(), flags=re.MULTILINE)
    found: dict[str, tuple[str, list[str]]] = {}
    for entry in text.replace("\\\n", " ").splitlines():
        pinned, *hashes = entry.split()
        name, _, version = pinned.partition("==")
        assert all(SHA256.fullmatch(digest) for digest in hashes), entry
        found[canonicalize_name(name)] = (version, hashes)
    return found


def needs(package: str, seen: set[str]) -> Iterator[str]:
    """Everything that a package needs, as what is installed says."""
    for text in distribution(package).requires or ():
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name not in seen and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            seen.add(name)
            yield name
            yield from needs(name, seen)


def test_versions_and_hashes() -> None:
    """Each version is the one of constraints.txt, and has hashes: many where wheels hold machine code."""
    constraints, requirements = entries("constraints.txt"), entries("deploy/requirements.txt")
    assert requirements
    for name, (version, hashes) in requirements.items():
        assert constraints[name][0] == version, name
        assert hashes, name
    assert len(requirements["aiohttp"][1]) > 10


def test_nothing_is_missing() -> None:
    """Whatever the service needs is listed, and what builds it: pip refuses the rest."""
    assert {*needs("broadcaster", set()), "setuptools"} == set(entries("deploy/requirements.txt"))
