"""The service's OpenAPI document; `python -m owm_compute.openapi > openapi.json` writes the committed copy."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from fastapi.openapi.utils import get_openapi

from owm_compute import __version__
from owm_compute.api.app import create_app
from owm_compute.service import Service
from owm_compute.settings import Settings
from owm_compute.specs import SUBMISSION


def document() -> dict[str, Any]:
    """The document, built from the routes and the models themselves."""
    with tempfile.TemporaryDirectory() as directory:
        service = Service(Settings(secret="-" * 32, state_dir=Path(directory), device="cpu"))
        routes = create_app(service).routes
        described = get_openapi(title="owm-compute", version=__version__, routes=routes)
        service.journal.close()
    components = described.setdefault("components", {})
    components["securitySchemes"] = {"edge": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    schema = SUBMISSION.json_schema(ref_template="#/components/schemas/{model}")
    components["schemas"].update(schema.pop("$defs"))
    components["schemas"]["Submission"] = schema
    return described


def render() -> str:
    """The text of the committed file."""
    return json.dumps(document(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    print(render(), end="")
