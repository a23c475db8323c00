"""What the README and the example say of the settings is what the code says."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from broadcaster.config import VIEWER, Settings

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| (`[^|]+`(?:(?:, | or )`[^|]+`)*) \| ([^|]*) \|", re.MULTILINE)
NAME = re.compile(r"`((?:BROADCASTER|R2)_[A-Z0-9_]+)`")


def documented() -> dict[str, str]:
    """Every setting in the README's tables, and its default as it is written there."""
    found: dict[str, str] = {}
    for names, default in ROW.findall((ROOT / "README.md").read_text()):
        aliases = NAME.findall(names)
        defaults = default.split(", ") if len(aliases) > 1 and ", " in default else [default] * len(aliases)
        found.update(zip(aliases, defaults, strict=True))
    return found


def written(default: Any) -> str:  # noqa: ANN401 - of any type
    """A default as the README writes it."""
    if default in (None, PydanticUndefined):
        return "" if default is None else "required"
    match default:
        case bool():
            default = str(default).lower()
        case float():
            default = f"{default:g}"
        case timedelta():
            default = int(default.total_seconds())
        case Path() if default.is_relative_to(VIEWER):
            default = default.relative_to(VIEWER.parent)
    return f"`{default}`"


def test_every_setting_is_in_the_readme() -> None:
    """No setting is missing from the tables, and none is there that the code does not know."""
    assert documented().keys() == {field.alias for field in Settings.model_fields.values()}


def test_the_defaults_are_right() -> None:
    """Where the README gives a default as a value, it is the code's."""
    table = documented()
    by_hand = {
        "BROADCASTER_RETENTION": "`window`",  # zero seconds
        "BROADCASTER_RECORDINGS": "`off`",  # zero days
        "BROADCASTER_SPOOL_LIMIT": "`20GiB`",
        "BROADCASTER_RETENTION_MAX_SIZE": "`5GiB`",
        "BROADCASTER_ADMIN_NAMES": "—",  # none
    }
    for field in Settings.model_fields.values():
        assert field.alias
        expected = by_hand.get(field.alias, written(field.default))
        if expected:
            assert table[field.alias] == expected, field.alias


def test_the_example_knows_every_setting() -> None:
    """``.env.example`` names them all, those that have defaults as comments."""
    named = set(re.findall(r"^#?([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert named == {field.alias for field in Settings.model_fields.values()}


def test_the_alerts_are_counted() -> None:
    """README says how many there are."""
    alerts = (ROOT / "deploy/prometheus/rules.yml").read_text().count("- alert: ")
    assert f" {alerts} alerts " in (ROOT / "README.md").read_text()
