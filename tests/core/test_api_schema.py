"""The OpenAPI document: complete, without warnings, and it says what every operation has."""

from io import StringIO

import yaml
from django.core.management import call_command

#: Usage has ids of its own; a quote stores nothing.
NO_KEY = ("/v1/events", "/v1/quotes")


def document() -> dict:
    out = StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=out)
    return yaml.safe_load(out.getvalue())


def test_every_write_takes_a_key_and_every_list_pages():
    schema = document()
    writes = pages = 0
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            names = {parameter["name"] for parameter in operation.get("parameters", [])}
            assert "4XX" in operation["responses"], (method, path)
            if method in ("post", "patch", "delete") and operation.get("security") and path not in NO_KEY:
                writes += 1
                assert "Idempotency-Key" in names, (method, path)
            if operation["operationId"].endswith("_list"):
                pages += 1
                assert {"cursor", "limit"} <= names, path
    assert writes and pages
