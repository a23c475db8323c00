"""The suite against a small server: it accepts the right one, and each seeded fault fails its check."""

import asyncio
import sys

import pytest

from tests.conformance.checks import CHECKS, run_all, run_check
from tests.conformance.faults_of_answers import CACHING, TRANSPORT, VALIDATORS
from tests.conformance.faults_of_delivery import BLOCKING, DELTA
from tests.conformance.faults_of_playlists import RULES
from tests.conformance.faulty_server import RIGHT, Behaviour, faulty_server
from tests.conformance.seeds import Fault, rewritten
from tests.conformance.subject import State, subject_at
from tests.conformance.verdicts import Outcome

AT_A_TIME = 6  # servers, which this process can serve in time
TRIES = 10  # on a busy machine, a segment between two requests may hide a fault
FAULTS = {
    "blocking": BLOCKING,
    "delta": DELTA,
    "caching": CACHING,
    "validators": VALIDATORS,
    "transport": TRANSPORT,
    "rules": RULES,
}


@pytest.mark.parametrize("state", list(State))
async def test_a_right_server_passes(state: State) -> None:
    """Without a fault every check is ok in every state, and none is left out."""
    async with faulty_server(RIGHT, state) as url, subject_at(url, state, delay=30) as subject:
        verdicts = await run_all(subject)
    assert [str(verdict) for verdict in verdicts if verdict.outcome is not Outcome.OK] == []
    assert len(verdicts) == len(CHECKS[state])


@pytest.mark.parametrize("theme", FAULTS)
async def test_faults_are_noticed(theme: str) -> None:
    """Each server that is wrong in one respect fails the check that is meant for it, for that reason."""
    room = asyncio.Semaphore(AT_A_TIME)
    reasons = await asyncio.gather(*(_unnoticed(fault, room) for fault in FAULTS[theme]))
    unnoticed = {fault.name: why for fault, why in zip(FAULTS[theme], reasons, strict=True) if why}
    assert unnoticed == {}


def test_every_check_can_fail() -> None:
    """There is a fault for every check, in a state in which that check is made."""
    faults = [fault for theme in FAULTS.values() for fault in theme]
    assert {fault.caught_by for fault in faults} == {check for some in CHECKS.values() for check in some}
    assert [fault.name for fault in faults if fault.caught_by not in CHECKS[fault.state]] == []


@pytest.mark.parametrize(
    ("behaviour", "state", "status", "says"),
    [
        (RIGHT, "ended", 0, "transport: gzip is answered: ok\n"),
        (rewritten("HOLD-BACK=3", "HOLD-BACK=2"), "ended", 1, "generous enough: FAILED: HOLD-BACK 2.0 s"),
        (
            rewritten("#EXT-X-SERVER-CONTROL.*\n", ""),
            "ended",
            0,
            "generous enough: not applicable: no EXT-X-",
        ),
        (RIGHT, "live", 2, "ENDLIST"),
    ],
    ids=["right", "wrong", "modest", "unusable"],
)
async def test_command_line(behaviour: Behaviour, state: str, status: int, says: str) -> None:
    """``python -m tests.conformance URL`` prints each verdict; its exit status says how it went."""
    async with faulty_server(behaviour, State.ENDED) as url:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.conformance", url, "--state", state),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    assert says in output.decode()
    assert process.returncode == status, output.decode()


async def _unnoticed(fault: Fault, room: asyncio.Semaphore) -> str:
    """The verdict that missed the fault; empty when one did not."""
    for _ in range(TRIES):
        async with (
            room,
            faulty_server(fault.behaviour, fault.state) as url,
            subject_at(url, fault.state) as subject,
        ):
            verdict = await run_check(fault.caught_by, subject)
        if verdict.outcome is Outcome.FAILED and fault.says in verdict.reason:
            return ""
    return str(verdict)
