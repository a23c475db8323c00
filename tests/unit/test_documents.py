"""README and docs/ against the code: settings, links, commands and figures."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from broadcaster.cli import parse
from broadcaster.config import Settings
from broadcaster.recordings.admin_api import NewClip
from broadcaster.tracker.tracker import Tracker
from tests import settings_page
from tests.conformance.test_faulty_server import FAULTS
from tests.support.documents import PAGES, ROOT, RUN, commands
from tests.support.fakes.viewer_app import ViewerApp

LONGEST = 12_000  # bytes of the README
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
NAME = re.compile(r"`((?:BROADCASTER|R2)_[A-Z0-9_]+)`")
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
PATHS = re.compile(r"`((?:deploy|tests|viewer/public|broadcaster)/[\w./@-]*\w/?|\.ci/run|cloudflared[\w.]+)`")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    slugs = (re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text))
    return set(slugs)


def test_the_readme_is_short() -> None:
    """README is for somebody who has never seen the project: 12 kB at most."""
    assert len((ROOT / "README.md").read_bytes()) <= LONGEST


def test_the_page_of_settings_is_current() -> None:
    """docs/settings.md and .env.example are what ``make docs`` writes."""
    assert settings_page.PAGE.read_text() == settings_page.render(), "run: make docs"
    assert settings_page.EXAMPLE.read_text() == settings_page.render_example(), "run: make docs"


def test_every_setting_is_described() -> None:
    """Each setting has a description of whole sentences, which names no setting that does not exist."""
    known = {field.alias for field in Settings.model_fields.values()}
    for field in Settings.model_fields.values():
        assert field.description, field.alias
        assert field.description.endswith("."), field.alias
        assert set(NAME.findall(field.description)) <= known, field.alias


def test_documents_name_settings_that_exist() -> None:
    """No page but the changelog names a setting that the code does not know."""
    known = {field.alias for field in Settings.model_fields.values()}
    for page in PAGES:
        if page.name != "CHANGELOG.md":
            assert set(NAME.findall(page.read_text())) <= known, name_of(page)


def test_the_defaults_in_the_readme_are_right() -> None:
    """Where README's table of settings gives a default, it is the code's."""
    defaults = {field.alias: settings_page.default(field) for field in Settings.model_fields.values()}
    rows = re.findall(r"^\| (`[A-Z0-9_]+`) \| (`[^|]*`) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert rows
    for name, default in rows:
        assert defaults[name.strip("`")] == default, name


def test_the_example_knows_every_setting() -> None:
    """``.env.example`` names them all, those that have defaults as comments."""
    named = set(re.findall(r"^#?([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert named == {field.alias for field in Settings.model_fields.values()}


def test_counts_are_right() -> None:
    """README counts the alerts, docs/development.md the faults that the conformance suite notices."""
    faults = sum(len(found) for found in FAULTS.values())
    assert f"wrong in {faults} ways" in (ROOT / "docs/development.md").read_text()
    alerts = (ROOT / "deploy/prometheus/rules.yml").read_text().count("- alert: ")
    assert f" {alerts} alerts " in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link names a file of the tree, and each anchor a heading of it."""
    for link in LINK.findall(CODE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_exist(page: Path) -> None:
    """Files and folders of the tree that README and docs/ name are there."""
    if page.name == "CHANGELOG.md":
        return
    for path in PATHS.findall(page.read_text()):
        assert (ROOT / path).exists(), path


def test_routes_of_viewers_are_documented(tmp_path: Path) -> None:
    """docs/http-api.md has each route of the viewers' listener that has a name of its own."""
    site = ViewerApp(tmp_path, tracker=Tracker())
    resources = {route.resource.canonical for route in site.app.router.routes() if route.resource}
    text = (ROOT / "docs/http-api.md").read_text()
    for path in resources - {"/{path}", "/live/{path}"}:
        assert f"`{path.replace('{', '<').replace('}', '>')}`" in text, path


def test_reasons_are_those_of_the_service() -> None:
    """The reasons in docs/troubleshooting.md are in the texts of ``/health``."""
    texts = (ROOT / "broadcaster/service/health.py").read_text()
    section = (ROOT / "docs/troubleshooting.md").read_text().partition("is 503")[2].partition("\n## ")[0]
    reasons = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    assert reasons
    for reason in reasons:
        assert all(part in texts for part in re.split(r" ?… ?|; ", reason)), (
            reason
        )  # a remedy is a text apart


def test_metrics_that_are_named_exist() -> None:
    """Each metric that a page names is one that the code makes."""
    code = "".join(path.read_text() for path in (ROOT / "broadcaster").rglob("*.py"))
    for page in PAGES:
        for name in re.findall(r"`broadcaster_([a-z_]+[a-z])`", page.read_text()):
            if page.name != "CHANGELOG.md":
                assert f'"{name.removesuffix("_total")}"' in code, name


@pytest.mark.parametrize("name", ["page.jpg", "dashboard.jpg"])
def test_pictures(name: str) -> None:
    """README shows the page and the dashboard, as ``make screenshots`` took them, below 150 kB."""
    picture = ROOT / "docs/images" / name
    assert f"](docs/images/{name})" in (ROOT / "README.md").read_text()
    assert picture.read_bytes()[:2] == b"\xff\xd8"  # JPEG
    assert 10_000 < picture.stat().st_size < 150_000


def test_every_page_is_linked() -> None:
    """Each page in docs/ can be reached from README, by links."""
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        for link in LINK.findall(CODE.sub("", page.read_text())):
            path = link.partition("#")[0]
            target = (page.parent / path).resolve()
            if not re.match(r"[a-z]+:", link) and target.suffix == ".md" and target.is_file():
                waiting.append(target)
    assert set(PAGES) - reached <= {ROOT / "deploy/cloudflare/README.md"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_within_sentences_exist(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A command of ours that a sentence names exists, and has the options that it is given there."""
    for text in re.findall(r"`(?:sudo )?broadcaster ([a-z][^`]*)`", page.read_text()):
        words = text.split()
        command = [word for word in words[:2] if re.fullmatch(r"[a-z]+", word)]
        if command in (["run", "demo"], ["run"]) or "|" in text:
            continue
        with pytest.raises(SystemExit, match=r"^0$"):
            parse([*command, "--help"])
        shown = capsys.readouterr().out
        assert all(word.split("=")[0] in shown for word in words if word.startswith("--")), text


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_commands_are_right(command: str) -> None:
    """Each is run by ``test_readme_commands``, or its options, targets, files and routes exist."""
    if command in RUN:
        return
    words = [word for word in shlex.split(command) if not re.fullmatch(r"sudo|[A-Z]+=\S+", word)]
    match words:
        case ["broadcaster" | ".venv/bin/broadcaster", *arguments]:
            parse(arguments)  # exits for an option that does not exist
        case ["make", target]:
            assert f"\n{target}:" in (ROOT / "Makefile").read_text()
        case [".venv/bin/python", "-m", module, *_]:
            assert (ROOT / module.replace(".", "/") / "__main__.py").is_file()
        case [".venv/bin/pytest", *arguments]:
            assert all((ROOT / argument).exists() for argument in arguments if argument.startswith("tests/"))
        case ["curl", *_, "http://127.0.0.1:3001/api/clips", "-d", body]:
            NewClip.model_validate_json(body)
        case [".venv/bin/pip", "install", "-c", "constraints.txt", "-e", extra]:
            assert f"\n{extra.strip('.[]')} = [" in (ROOT / "pyproject.toml").read_text()
        case _:
            pytest.fail(f"nothing runs or checks it: {command}")


def modules_imported_by(path: Path) -> set[str]:
    """The modules whose names a module imports, also by way of a package that names them."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("broadcaster"):
            folder = ROOT / (node.module or "").replace(".", "/")
            found |= {str(folder), *(str(folder / name.name) for name in node.names)}
            if folder.is_dir() and path.name != "__init__.py":
                found |= modules_imported_by(folder / "__init__.py")
    return found


@pytest.mark.parametrize("page", ["architecture.md", "glossary.md"])
def test_modules_that_are_named_exist(page: str) -> None:
    """Each Python file that the page names is in broadcaster/, or where its path says."""
    named = set(re.findall(r"`([a-z_/]+\.py)`", (ROOT / "docs" / page).read_text()))
    assert len(named) > 40
    for path in named:
        assert (ROOT / "broadcaster" / path).exists() or (ROOT / path).exists(), path


def test_the_way_of_a_segment_is_as_described() -> None:
    """At most 15 modules lie between folder and list, and each is imported by one that is named before it."""
    text = (ROOT / "docs/architecture.md").read_text()
    walk = [
        ROOT / "broadcaster" / path
        for path in re.findall(r"^\d+\. `([a-z_]+/[a-z_]+\.py)` ", text, re.MULTILINE)
    ]
    assert 10 <= len(walk) <= 15
    imported = {str(ROOT / f"broadcaster/{module}") for module in ("source/watcher", "upload/pipeline")}
    for path in walk:
        assert str(path.with_suffix("")) in imported, f"{path} is imported by none before it"
        imported |= modules_imported_by(path)
