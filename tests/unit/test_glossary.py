"""Names, sizes and repetitions of the package: one word and one place for each thing (docs/glossary.md)."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "broadcaster"
VIEWER = ROOT / "viewer"
DECLARED = re.compile(r"^(?:export )?(?:async )?(?:function\*?|const|let|class) (\w+)", re.MULTILINE)
SHORTEST, LONGEST, MODULES = 40, 600, 120  # lines of a module; modules
RUN = 6  # equal lines

# Words that the glossary replaces. A phrase counts where its words follow each other in a name.
REPLACED = """
    audience, feed, delivery, fetching, web, desk,
    journal, book, known segments, run book, spot, lasting,
    absorb, recall, settle, miss, passing, hopeless, look, looked, looking, outlook,
    rescue, missed between, left behind, begun before, missed runs,
    turns, balance, departure, has left, let go, adopted,
    transfer, insist, wait out, shelf, stray, strays, sweeper, album, pictures, picturing, frames,
    outgrown, room for, occasion, start gate, kept, recorded playlist,
    listing, facts, tell, tells, telling, told, settled,
    onto, trouble, waves, places, site of, waiting room, not waited, nothing new,
    experience, furthest, traffic, encoder offsets, gallery, clipping, shut in, preview,
    standing, verdict, news, losses, shown, steady, figure, figures, rises, distribution,
    words, following, hurry, reloading, sending, wanted, complaints, typed, claim, misspelt, manage
"""
# Words that are right in a longer name, such as EventLoopLag, and say too little as the name of a class.
TOO_LITTLE = """
    link, retention, reload, measured, attributes, recorded, memory, tail, update, change, ready, beacon,
    body, packs, room, lag, owner, kept, written
"""
# Names of modules, classes and functions, and why each keeps such a word.
JUSTIFIED = {
    "_JournalFormatter": "of systemd's journal",
    "feed_watchdog": "the usual word for a watchdog",
    "look_up": "finds by a key",
}
JUSTIFIED_IN_PAGE: dict[str, str] = {}
# Names of classes that may stand twice, and why.
DOUBLED: dict[str, str] = {}


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Each module of the package, by its path."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text())


def page_names() -> Iterator[tuple[str, str]]:
    """The modules of the page and the dashboard, and what they declare at their top, each with its place."""
    for path in sorted([*VIEWER.glob("public/js/**/*.js"), *VIEWER.glob("dashboard/js/**/*.js")]):
        place = str(path.relative_to(VIEWER))
        yield place, path.stem
        for name in DECLARED.findall(path.read_text()):
            yield place, name


def words(name: str) -> str:
    """The words of a name, in lower case, each with a blank before and behind it."""
    return f" {' '.join(re.findall(r'[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+', name)).lower()} "


def names() -> Iterator[tuple[str, str, bool]]:
    """The modules, classes and public functions, each with its place, and whether it is a class."""
    for path, tree in trees():
        yield path, Path(path).parent.name if path.endswith("__init__.py") else Path(path).stem, False
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield f"{path}:{node.lineno}", node.name, True
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
                yield f"{path}:{node.lineno}", node.name, False


def replaced_words(name: str, *, is_class: bool) -> list[str]:
    """The words of a name that the glossary replaces."""
    found = [phrase for phrase in listed(REPLACED) if f" {phrase} " in words(name)]
    return found + [word for word in listed(TOO_LITTLE) if is_class and word == words(name).strip()]


def listed(text: str) -> list[str]:
    """The phrases of a list with commas."""
    return [" ".join(phrase.split()) for phrase in text.split(",")]


def lines_of(text: str) -> list[tuple[int, str]]:
    """The lines of a module that count for repetitions, with their numbers.

    Imports do not count, nor Protocols: these repeat the signatures of the class that they describe.
    """
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom | ast.ClassDef) and counts_for_nothing(node):
            left_out |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return [
        (number, line.strip())
        for number, line in enumerate(text.splitlines(), 1)
        if number not in left_out and re.search(r"\w", line) and not line.strip().startswith("#")
    ]


def counts_for_nothing(node: ast.Import | ast.ImportFrom | ast.ClassDef) -> bool:
    return not isinstance(node, ast.ClassDef) or any(
        isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases
    )


def repetitions() -> list[str]:
    """Places of runs of equal lines that stand twice in the package."""
    places: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        lines = lines_of(path.read_text())
        for start in range(len(lines) - RUN + 1):
            run = lines[start : start + RUN]
            places[tuple(line for _, line in run)].append(f"{path.relative_to(PACKAGE)}:{run[0][0]}")
    return [" and ".join(found) for found in places.values() if len(found) > 1]


def test_names_use_the_words_of_the_glossary() -> None:
    """No module, class or public function has a word that the glossary replaces."""
    found = {name: place for place, name, is_class in names() if replaced_words(name, is_class=is_class)}
    assert {name: place for name, place in found.items() if name not in JUSTIFIED} == {}
    assert set(JUSTIFIED) <= set(found), "an exception that is not needed any more"


def test_the_page_uses_the_words_of_the_glossary() -> None:
    """No module of the page or of the dashboard, and nothing that it declares, has a replaced word."""
    found = {name: place for place, name in page_names() if replaced_words(name, is_class=False)}
    assert {name: place for name, place in found.items() if name not in JUSTIFIED_IN_PAGE} == {}
    assert set(JUSTIFIED_IN_PAGE) <= set(found), "an exception that is not needed any more"


def test_no_two_classes_share_a_name() -> None:
    """A name of a class stands for one thing in the whole package."""
    classes: dict[str, list[str]] = defaultdict(list)
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                classes[node.name].append(f"{path}:{node.lineno}")
    doubled = {name: places for name, places in classes.items() if len(places) > 1}
    assert {name: places for name, places in doubled.items() if name not in DOUBLED} == {}
    assert set(DOUBLED) <= set(doubled), "an exception that is not needed any more"


def test_no_lines_stand_twice() -> None:
    """No run of six equal lines stands twice, apart from imports and comments."""
    assert repetitions() == []


def test_modules_are_neither_small_nor_large() -> None:
    """At most 120 modules, ``__init__`` apart, of 40 to 600 lines; ``__main__`` may be shorter."""
    modules = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    sizes = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in modules}
    least = {path: 1 if path.endswith("__main__.py") else SHORTEST for path in sizes}
    assert {path: size for path, size in sizes.items() if not least[path] <= size <= LONGEST} == {}
    assert len(modules) <= MODULES
