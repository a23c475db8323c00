"""What the operator is told to do: plain words first, and names of settings in parentheses."""

import ast
import errno
import re
from collections.abc import Iterator

import aiohttp
import pytest
from botocore.exceptions import ClientError, ParamValidationError
from multidict import CIMultiDict, CIMultiDictProxy

from broadcaster.aio import USUAL
from broadcaster.bucket.client import REFUSALS, classify_error
from broadcaster.edge.publisher import REFUSED
from broadcaster.errors import Problem
from broadcaster.guest import (
    SIGNED,
    BrowserResponse,
    why_no_answer,
    why_not_allowed,
    why_not_public,
    why_not_read,
)
from broadcaster.service.health import evaluate_health
from broadcaster.service.standby import SAME
from broadcaster.upload.pipeline import FASTER
from tests.support.documents import ROOT
from tests.unit.service.test_health import TABLE
from tests.unit.service.test_health_checklist import TABLE as CHECKLIST

URL = "https://media.example/a.ts"
SETTING = re.compile(r"\b(BROADCASTER|R2|EDGE)_[A-Z_]*|\{\}_[A-Z]+")
IN_PARENTHESES = re.compile(r"\([^()]*\)")


def viewer_faults() -> Iterator[str]:
    """The remedies of each fault that a viewer's browser can meet."""
    refused, other = ConnectionRefusedError(errno.ECONNREFUSED, ""), OSError(errno.EHOSTUNREACH, "")
    tls = aiohttp.ClientSSLError(None, other)  # type: ignore[arg-type]
    name = aiohttp.ClientConnectorDNSError(None, other)  # type: ignore[arg-type]
    for error in (TimeoutError(), name, tls, refused, other):
        yield why_no_answer(error, URL, "R2_PUBLIC_URL").remedy
    twice = CIMultiDict([("Access-Control-Allow-Origin", "*")] * 2)
    for status, headers in ((404, {}), (403, {}), (200, {}), (200, twice)):
        answer = BrowserResponse(status, CIMultiDictProxy(CIMultiDict(headers)), b"", 0)
        fault = why_not_read(answer, same=True) or why_not_allowed(answer, "https://event.example")
        assert fault
        yield fault.remedy
    for host in ("event.r2.dev", "account.r2.cloudflarestorage.com"):
        public = why_not_public(f"https://{host}/")
        assert public
        yield public.remedy


def bucket_errors() -> Iterator[str]:
    """The remedies of each error of the bucket that has one."""
    for code, status in (*((code, 403) for code in REFUSALS), ("Other", 401), ("SlowDown", 503)):
        answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
        error = ClientError(answer, "PutObject")  # type: ignore[arg-type]
        yield classify_error("PUT", error, 1).problem.remedy
    yield classify_error("PUT", ParamValidationError(report=""), 1).problem.remedy


def remedies() -> Iterator[str]:
    """Everything that health, the checklist, and what they show tell the operator to do."""
    for inputs, *_ in TABLE:
        for fault in evaluate_health(inputs).faults:
            yield fault.remedy
    yield from (finding.remedy for finding, *_ in CHECKLIST)
    yield from (problem.remedy for problem in REFUSED.values())
    yield from viewer_faults()
    yield from bucket_errors()
    yield from (USUAL, SIGNED, SAME, FASTER)


def texts_of(node: ast.AST) -> Iterator[str]:
    """The sentences in a module's code, with ``{}`` for values; no docstrings, no names of settings alone."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, (ast.Constant, ast.JoinedStr)):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
        if re.search("[a-z]{3}", SETTING.sub("", text)):
            yield text
        return
    for child in ast.iter_child_nodes(node):
        yield from texts_of(child)


def doctor_texts() -> Iterator[str]:
    """Everything that ``broadcaster check`` can say of settings."""
    package = ROOT / "broadcaster"
    for file in (*package.glob("doctor/*.py"), package / "mediamtx.py", package / "owncast.py"):
        yield from filter(SETTING.search, texts_of(ast.parse(file.read_text())))


@pytest.mark.parametrize("remedy", sorted({*remedies(), *doctor_texts()} - {""}))
def test_plain_words_come_first(remedy: str) -> None:
    """Who does not know the settings knows what to do; who looks for the setting finds its name."""
    assert not SETTING.search(IN_PARENTHESES.sub("", remedy))
    assert not remedy.startswith("(")


def test_a_problem_is_one_sentence() -> None:
    """Where there is one line only, what to do follows what is wrong."""
    assert str(Problem("no answer", "wait")) == "no answer; wait"
    assert str(Problem("no answer")) == "no answer"
