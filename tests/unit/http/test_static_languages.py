"""The words of pages: which language a reader gets, and pages in it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from broadcaster.http.static import TEXTS, choose_language, date_of, day_of, text_of, translated
from broadcaster.viewer_server.pages import PageTexts


@pytest.mark.parametrize(
    ("accepted", "own", "language"),
    [
        ("", None, "en"),
        ("de-CH, en", None, "de"),
        ("fr;q=0.2, de-CH, en;q=0.9", None, "de"),
        ("nl, pt-BR;q=0.8, en;q=0.5", None, "pt"),
        ("xx", None, "en"),
        ("de;q=1.1.1, fr", None, "de"),
        ("de", "JA", "ja"),
        ("de", "pt-BR", "pt"),
        ("de", "xx", "de"),
        ("de", 7, "de"),
    ],
)
def test_the_language_of_a_reader(accepted: str, own: object, language: str) -> None:
    """The operator's, else the reader's first that there is, else English."""
    assert choose_language(accepted, own) == language


def test_a_date_in_words() -> None:
    """Each language writes it in its own order."""
    found = {language: date_of(language, date(2026, 11, 2)) for language in TEXTS}
    assert found == {
        "en": "2 November 2026",
        "de": "2. November 2026",
        "es": "2 de noviembre de 2026",
        "fr": "2 novembre 2026",
        "ja": "2026年11月2日",
        "pt": "2 de novembro de 2026",
    }
    assert text_of("de", "previewClip", date="heute") == "Clip vom heute"
    assert day_of("fr", date(2026, 11, 2)) == "lundi 2 novembre 2026"
    assert day_of("pt", date(2026, 11, 8)) == "domingo, 8 de novembro de 2026"


def test_a_page_in_a_language() -> None:
    """Its elements get the words that they name, and the page says which language that is."""
    html = '<html lang="en"><p class="x" data-text="lostWay">To the live stream</p><i>as it was</i>'
    assert translated(html, "de") == (
        '<html lang="de" dir="ltr"><p class="x" data-text="lostWay">Zum Livestream</p><i>as it was</i>'
    )


async def test_the_edge_asks_in_all_languages_or_the_operators(tmp_path: Path) -> None:
    """What the edge is given for strangers has English first, for those whose language is not there."""
    (tmp_path / "access.html").write_text("<p>$invited</p>")
    pages = (await PageTexts({}, tmp_path).asking())["pages"]
    assert isinstance(pages, dict)
    assert list(pages) == ["en", "de", "es", "fr", "ja", "pt"]
    (tmp_path / "config.json").write_text('{"language": "fr"}')
    assert list((await PageTexts({}, tmp_path).asking())["pages"]) == ["fr"]  # type: ignore[call-overload]
