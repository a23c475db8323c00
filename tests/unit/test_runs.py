"""One identity of the encoder's runs for all variants, and for nobody else."""

from datetime import UTC, datetime

from broadcaster.ingest.runs import RunBook

NOW = datetime(2026, 11, 22, 10, 10, 10, tzinfo=UTC)


def test_two_broadcasters_share_no_run() -> None:
    """Started at one moment on one folder, they still give other ids, because a part is left to chance."""
    letters = iter(["k3f9", "a001"])
    first, second = (RunBook(lambda: NOW, (), lambda: next(letters)).assign("abc#0") for _ in range(2))
    assert first.id == "20261122T101010Z-0-k3f9-abc"
    assert second.id == "20261122T101010Z-0-a001-abc"
    assert RunBook(lambda: NOW, ()).assign("#0").id != RunBook(lambda: NOW, ()).assign("#0").id
