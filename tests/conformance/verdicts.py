"""What a check may find."""

from dataclasses import dataclass
from enum import StrEnum


class Violation(Exception):  # noqa: N818 - the field's word for it
    """The server breaks a rule; says what was expected and what was seen."""


class NotApplicable(Exception):  # noqa: N818 - no error: an answer
    """The server does not claim to do what the rule is about, or it cannot be seen; says why."""


class Outcome(StrEnum):
    """What became of a check."""

    OK = "ok"
    FAILED = "FAILED"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One check's outcome, and why it is not ok."""

    check: str
    outcome: Outcome
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.check}: {self.outcome}" + (f": {self.reason}" if self.reason else "")


def require(condition: object, complaint: str) -> None:
    """Raise Violation with this complaint unless the condition holds."""
    if not condition:
        raise Violation(complaint)
