"""The version: one place in the code, on the command line, in metrics and in the changelog."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from broadcaster import __version__
from broadcaster.cli import main
from broadcaster.metrics import MetricsCollector, build_info

ROOT = Path(__file__).resolve().parents[2]


def test_version_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """``broadcaster --version`` prints the version that is installed, and ends with 0."""
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])
    assert capsys.readouterr().out == f"broadcaster {version('broadcaster')}\n"


def test_version_as_a_metric() -> None:
    """``broadcaster_build_info`` is 1, with the version as its label."""
    registry = CollectorRegistry()
    registry.register(MetricsCollector(build_info))
    assert f'broadcaster_build_info{{version="{__version__}"}} 1.0\n' in generate_latest(registry).decode()


def test_version_in_the_changelog() -> None:
    """The newest release of the changelog is this version; only what comes after it is unreleased."""
    releases = re.findall(r"^## \[([^]]+)\](.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert [name for name, _ in releases[:2]] == ["Unreleased", __version__]
    assert all(re.fullmatch(r" - \d{4}-\d\d-\d\d", date) for _, date in releases[1:])


def test_changelog_has_no_entry_twice() -> None:
    """No line of the changelog stands twice within a release."""
    for release in (ROOT / "CHANGELOG.md").read_text().split("\n## ")[1:]:
        entries = [line for line in release.splitlines() if line.startswith("- ")]
        assert len(entries) == len(set(entries))
