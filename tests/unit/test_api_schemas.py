"""The descriptions of the operator's API and of the events are current, and describe what there is.

``test_manage`` and ``test_event_stream`` hold each answer that they get against them;
``tests/integration/test_api.py`` does so with a running service.
"""

import json
import re
from pathlib import Path

import pytest
from jsonschema import ValidationError
from openapi_spec_validator import validate

from tests import api_schemas
from tests.support.documents import ROOT
from tests.unit.test_admin_client import AdminRig


def test_the_files_are_current() -> None:
    """docs/openapi.json and docs/events.schema.json are what ``make docs`` writes."""
    assert api_schemas.OPENAPI.read_text() == api_schemas.render(api_schemas.openapi()), "run: make docs"
    assert api_schemas.EVENTS.read_text() == api_schemas.render(api_schemas.events()), "run: make docs"


def test_the_description_is_openapi() -> None:
    """A validator of OpenAPI 3.1 has nothing against it."""
    validate(json.loads(api_schemas.OPENAPI.read_text()))


async def test_each_route_is_described(tmp_path: Path) -> None:
    """The described operations are the routes of the operator's listener, and those of docs/http-api.md."""
    rig = AdminRig(tmp_path)
    rig.stream.catalog.close()
    routes = {
        (route.method.lower(), route.resource.canonical)
        for route in rig.app.router.routes()
        if route.resource and route.resource.canonical.startswith("/api/")
    }
    described = json.loads(api_schemas.OPENAPI.read_text())["paths"]
    assert {(method, path) for path, name in described.items() for method in name} == routes
    text = (ROOT / "docs/http-api.md").read_text()
    table = re.findall(r"^\| `([A-Z]+) (/api/\S+)` ", text, re.MULTILINE)
    assert {(method.lower(), path) for method, path in table} == routes


@pytest.mark.parametrize(
    ("name", "data"),
    [("time", {}), ("time", {"now": "x"}), ("trouble", {"now": 1, "trouble": "x"}), ("x", {"now": 1})],
)
def test_wrong_events_are_noticed(name: str, data: object) -> None:
    """An event with another name, or with a field that is missing or wrong, does not fit the schema."""
    with pytest.raises(ValidationError):
        api_schemas.check_event(name, data)


def test_wrong_answers_are_noticed() -> None:
    """An answer with a further field, or with a status that is not described, does not fit."""
    api_schemas.check_answer("GET", "/api/clips", 200, {"clips": []})
    with pytest.raises(ValidationError):
        api_schemas.check_answer("GET", "/api/clips", 200, {"clips": [], "x": 1})
    with pytest.raises(AssertionError):
        api_schemas.check_answer("GET", "/api/clips", 418, {"clips": []})
