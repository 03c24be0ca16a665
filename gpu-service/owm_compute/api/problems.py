"""Errors on the wire: RFC 9457 problem documents with a stable code."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from owm_compute.errors import ComputeError

_log = logging.getLogger("owm_compute.api")
RETRY_AFTER_S = 5


class Problem(BaseModel):
    """The body of every error."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    retryable: bool
    field: str | None = None
    fix: str | None = None


def problem(error: ComputeError) -> Response:
    """The answer to a request that failed."""
    body = Problem(
        type=f"urn:owm:error:{error.code}",
        title=HTTPStatus(error.status).phrase,
        status=error.status,
        code=error.code,
        detail=error.message,
        retryable=error.retryable,
        field=error.field,
        fix=error.fix,
    )
    headers = {}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="owm-compute"'
    if error.status in (429, 503):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return Response(
        json.dumps(body.model_dump(exclude_none=True)),
        status_code=error.status,
        media_type="application/problem+json",
        headers=headers,
    )


def install(app: FastAPI) -> None:
    """Renders every failure of `app` as a problem."""

    @app.exception_handler(ComputeError)
    async def known(_: Request, error: ComputeError) -> Response:
        return problem(error)

    @app.exception_handler(RequestValidationError)
    async def parameters(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return problem(ComputeError("invalid_parameter", first["msg"], field=str(first["loc"][-1])))

    @app.exception_handler(HTTPException)
    async def routing(_: Request, error: HTTPException) -> Response:
        code = "not_found" if error.status_code == 404 else "method_not_allowed"
        return problem(ComputeError(code, str(error.detail), status=error.status_code))

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> Response:
        _log.error("a request failed", exc_info=error, extra={"data": {"path": request.url.path}})
        return problem(ComputeError("internal_error", "the service failed", retryable=True, status=500))
