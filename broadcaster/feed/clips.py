"""What a viewer's wish for a clip is told as, on its way to ingest and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

# It is not there, or not any more; there are as many as there may be; nobody can make one at the moment.
Refusal = Literal["gone", "full", "away"]


@dataclass(frozen=True, slots=True)
class ClipWish:
    """Somebody wants to keep what lies between these times, as viewers were told them."""

    id: Annotated[str, Field(max_length=64)]  # that the answer has, and nobody's after a restart
    begin: AwareDatetime
    end: AwareDatetime


@dataclass(frozen=True, slots=True)
class ClipAnswer:
    """What has become of a wish: the clip that there is now, or why there is none."""

    wish: str  # its id
    clip: str | None = None  # its id
    refusal: Refusal | None = None
    kind: Literal["clip_answer"] = "clip_answer"
