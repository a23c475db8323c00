"""``python -m tests.conformance URL``: hold any HLS server's live playlist against the rules.

Name the server itself. A cache in front of it that ignores unknown parameters, as it may, hides the newest
version from some of the checks. The exit status is 1 when a check fails, and 2 when there is nothing to test.
"""

import argparse
import asyncio
import sys

from tests.conformance.checks import run_all
from tests.conformance.subject import State, Unusable, subject_at
from tests.conformance.verdicts import Outcome, Verdict


def main() -> int:
    """Print each check with its verdict."""
    parser = argparse.ArgumentParser(prog="tests.conformance", description=__doc__)
    parser.add_argument("url", help="of a multivariant or media playlist")
    parser.add_argument(
        "--state",
        type=State,
        choices=list(State),
        default=State.LIVE,
        help="what the stream is doing now; paused means that no new segment comes (default: live)",
    )
    arguments = parser.parse_args()
    try:
        verdicts = asyncio.run(_verdicts(arguments.url, arguments.state))
    except Unusable as reason:
        parser.error(str(reason))
    for verdict in verdicts:
        print(verdict)
    return any(verdict.outcome is Outcome.FAILED for verdict in verdicts)


async def _verdicts(url: str, state: State) -> list[Verdict]:
    async with subject_at(url, state) as subject:
        return await run_all(subject)


if __name__ == "__main__":
    sys.exit(main())
