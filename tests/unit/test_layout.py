"""The folders of the unit tests are those of the package, and no module is too long to be read at once."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE, TESTS = ROOT / "broadcaster", ROOT / "tests/unit"
LINES = 600


def test_unit_tests_mirror_the_package() -> None:
    """tests/unit/<package>/test_<module>[_<aspect>].py is named after a module of that package."""
    found = sorted(TESTS.glob("*/test_*.py"))
    assert found
    for path in found:
        modules = {module.stem for module in (PACKAGE / path.parent.name).glob("*.py")} - {"__init__"}
        name = path.stem.removeprefix("test_")
        assert any(name == module or name.startswith(f"{module}_") for module in modules), path.relative_to(
            ROOT
        )


def test_no_module_is_too_long() -> None:
    """A module of the package has at most 600 lines."""
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= LINES, path.relative_to(ROOT)
