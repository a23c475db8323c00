"""The pure machine by its rules, whatever happens in whatever order, and that a missing rule is noticed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from broadcaster.catalog.records import Segment
from broadcaster.hls.manifest import ManifestGenerator
from broadcaster.stream import machine, model, playlists, rollover
from broadcaster.stream.playlists import Timeline
from broadcaster.stream.state import Progress
from tests.support.length import SOAK, seconds
from tests.unit.stream.stream_machine import Broadcast

TestBroadcast = Broadcast.TestCase
TestBroadcast.settings = settings(
    max_examples=seconds(2000, 100),
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow],
    deadline=None,
)


@dataclass(frozen=True)
class Defect:
    """A rule of the machine that is taken away."""

    owner: Any
    name: str
    without: Callable[..., Any]


def shown_first(self: machine.StreamMachine, *effects: model.Effect) -> None:
    """A view goes before what was to be written for it."""
    for effect in effects:
        before = self._effects[-1:]
        swap = isinstance(effect, model.ShowView) and before and isinstance(before[0], model.WritePlaylists)
        self._effects.insert(len(self._effects) - bool(swap), effect)


def out_of_turn(self: machine.StreamMachine, segment: Segment) -> None:
    """Whatever the bucket has first is listed first."""
    tracked = self._segments[segment.key]
    tracked.move(Progress.LOST if segment.gap else Progress.CONFIRMED)
    tracked.segment = segment
    self._do(model.WriteStored(segment))
    self._queues[segment.variant].remove(tracked)
    self._take_turn(tracked)
    self._begin_uploads(segment.variant)


def numbers_from_one(self: playlists.Playlists, target_duration: int, *_: int) -> playlists.VariantPlaylist:
    """New playlists do not go on with the numbers of those before."""
    return NEW_PLAYLIST(self, target_duration, 1, 0)


NEW_PLAYLIST = playlists.Playlists._new_playlist  # noqa: SLF001 - the rule itself
DEFECTS = {
    "written before shown": Defect(machine.StreamMachine, "_do", shown_first),
    "listed in order": Defect(machine.StreamMachine, "_finish_upload", out_of_turn),
    "numbers never fall": Defect(playlists.Playlists, "_new_playlist", numbers_from_one),
    "TARGETDURATION is constant": Defect(rollover, "is_too_long", lambda *_: False),
    "a stream begins with all variants": Defect(rollover.StartupBarrier, "opens", lambda *_: True),
    "times never go back": Defect(Timeline, "place", lambda _, segment, *__: segment),
    "an end is listed": Defect(ManifestGenerator, "end", lambda _: None),
}


SAME = settings(
    TestBroadcast.settings,
    max_examples=200,  # which these are depends on the constants in the code
    phases=[Phase.generate],
    derandomize=True,
    report_multiple_bugs=False,
)


LATE = "listed in order"  # 6 s until an example notices that it is missing
DEFECTIVE = [
    pytest.param(rule, marks=pytest.mark.skipif(rule == LATE and not SOAK, reason="make soak runs it"))
    for rule in DEFECTS
]


@pytest.mark.parametrize("rule", DEFECTIVE)
def test_a_missing_rule_is_noticed(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any one of its rules, the machine fails the examples that it else passes."""
    defect = DEFECTS[rule]
    monkeypatch.setattr(defect.owner, defect.name, defect.without)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Broadcast, settings=SAME)


@pytest.mark.skipif(not SOAK, reason="make soak runs it: TestBroadcast has other examples with all rules")
def test_no_missing_rule_is_noticed_where_none_is_missing() -> None:
    """The same examples pass where all rules are there."""
    run_state_machine_as_test(Broadcast, settings=SAME)
