"""Requests that schemathesis makes up from the server's own description of itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from segscape.studio.engine import load_engine
from segscape.studio.guard import Access
from segscape.studio.server import create_studio
from tests.studio.studio_requests import save_models

EXAMPLES = 15
schemathesis = pytest.importorskip("schemathesis", reason="makes up requests: pip install schemathesis")


CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
"""Not that valid forms are accepted: most bytes are no image."""


OPERATIONS = (
    "GET /api/models",
    "POST /api/generate",
    "POST /api/layout",
    "POST /api/segment",
    "GET /api/examples",
    "GET /api/examples/{name}.png",
)


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the description says that can be asked, by method and address."""
    paths: list[str] = save_models(tmp_path_factory.mktemp("models"))
    app = create_studio(load_engine(paths[:2], "cpu"), access=Access(None, None))
    found = [one.ok() for one in schemathesis.openapi.from_asgi("/api/openapi.json", app).get_all_operations()]
    return {one.label: one for one in found}


def test_everything_is_described(operations: dict[str, Any]) -> None:
    assert set(operations) == set(OPERATIONS)


CASES = [(label, "positive") for label in OPERATIONS] + [(label, "negative") for label in OPERATIONS[1:5]]
"""The list of models takes nothing that could be wrong, and any text can be the name of an example."""


@pytest.mark.parametrize(("label", "kind"), CASES)
def test_answers_are_as_described(operations: dict[str, Any], label: str, kind: str) -> None:
    """For requests that the description allows, and for some that it forbids."""
    mode = schemathesis.GenerationMode(kind)

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operations[label].as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        case.call_and_validate(checks=[getattr(schemathesis.checks, name) for name in CHECKS])

    ask()
