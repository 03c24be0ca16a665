"""The HTTP routes of the service: one resource, jobs, and what an operator asks."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from owm_compute import __version__
from owm_compute.api import problems
from owm_compute.api.auth import require_edge
from owm_compute.api.capabilities import MAX_BODY_BYTES, Capabilities, capabilities
from owm_compute.api.stream import event_stream
from owm_compute.errors import ComputeError
from owm_compute.jobs.records import TERMINAL, Job, JobList, State
from owm_compute.service import Service
from owm_compute.specs import Kind, parse_submission

_BEARER: dict[str, Any] = {"security": [{"edge": []}]}
_PROBLEM: dict[int | str, dict[str, Any]] = {"4XX": {"model": problems.Problem, "description": "a problem"}}
_SUBMISSION_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Submission"}}},
    }
}


def create_app(service: Service) -> FastAPI:
    """The application over a service, which it starts and stops with itself."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.changes.bind(asyncio.get_running_loop())
        service.start()
        yield
        await asyncio.to_thread(service.stop)

    app = FastAPI(title="owm-compute", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    problems.install(app)
    _operator_routes(app, service)
    _job_routes(app, service)
    return app


async def read_body(request: Request) -> bytes:
    """The body of a request, never more than `MAX_BODY_BYTES` of it."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise ComputeError("body_too_large", f"the body is over {MAX_BODY_BYTES} bytes", status=413)
    return bytes(body)


def _operator_routes(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Whether the process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Whether a job would start at once", responses={503: {"model": problems.Problem}})
    async def readyz() -> dict[str, str]:
        if not service.ready:
            raise ComputeError("not_ready", "the workers are warming up", retryable=True, status=503)
        return {"status": "ready"}

    @app.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics() -> Response:
        return Response(service.telemetry.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _job_routes(app: FastAPI, service: Service) -> None:
    journal, changes, settings = service.journal, service.changes, service.settings

    async def edge_body(request: Request, authorization: Annotated[str | None, Header()] = None) -> bytes:
        body = await read_body(request)
        require_edge(authorization, body, settings.secret)
        return body

    Body = Annotated[bytes, Depends(edge_body)]
    guard = [Depends(edge_body)]

    @app.get("/v1/capabilities", dependencies=guard, responses=_PROBLEM, openapi_extra=_BEARER)
    async def get_capabilities() -> Capabilities:
        """What this service can do."""
        return capabilities(service)

    @app.post(
        "/v1/jobs",
        status_code=202,
        responses={200: {"model": Job, "description": "the same submission came before"}, **_PROBLEM},
        openapi_extra={**_BEARER, **_SUBMISSION_BODY},
    )
    async def submit(
        response: Response, body: Body, idempotency_key: Annotated[str | None, Header(max_length=255)] = None
    ) -> Job:
        """Accepts a job."""
        if not idempotency_key:
            raise ComputeError(
                "idempotency_key_missing",
                "the header Idempotency-Key is needed",
                field="Idempotency-Key",
                fix="send {id}.{attempt}",
                status=400,
            )
        submission = parse_submission(
            body, max_timeout_s=settings.max_timeout_s, max_memory_bytes=settings.max_memory_bytes
        )
        digest = hashlib.sha256(body).hexdigest()
        job, new = journal.submit(submission, idempotency_key, digest, settings.max_queue)
        if new:
            service.runner.submitted(job)
        response.status_code = 202 if new else 200
        response.headers["Location"] = f"/v1/jobs/{job.id}"
        return job

    @app.get("/v1/jobs", dependencies=guard, responses=_PROBLEM, openapi_extra=_BEARER)
    async def list_jobs(
        state: State | None = None,
        kind: Kind | None = None,
        cursor: Annotated[int | None, Query(ge=1)] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> JobList:
        """Jobs, newest first."""
        jobs, following = journal.jobs(state, kind, cursor, limit)
        return JobList(jobs=jobs, next=None if following is None else str(following))

    @app.get("/v1/jobs/{job_id}", dependencies=guard, responses=_PROBLEM, openapi_extra=_BEARER)
    async def get_job(
        job_id: str,
        wait: Annotated[float, Query(ge=0, le=60)] = 0,
        since: Annotated[int | None, Query(ge=0)] = None,
    ) -> Job:
        """The job; with `wait`, as soon as it has an event after `since` (or has ended), or after that many seconds."""
        deadline = time.monotonic() + wait
        with changes.watch(job_id) as changed:
            job = journal.get(job_id)
            seen = job.seq if since is None else since
            while job.state not in TERMINAL and job.seq <= seen and not changes.stopping:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                try:
                    await asyncio.wait_for(changed.wait(), left)
                except TimeoutError:
                    break
                changed.clear()
                job = journal.get(job_id)
            return job

    @app.post("/v1/jobs/{job_id}/cancel", dependencies=guard, responses=_PROBLEM, openapi_extra=_BEARER)
    async def cancel(job_id: str) -> Job:
        """Asks a job to stop; one that has ended stays as it is."""
        return service.runner.cancel(job_id)

    @app.get(
        "/v1/jobs/{job_id}/events",
        dependencies=guard,
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}, "description": "events"}, **_PROBLEM},
        openapi_extra=_BEARER,
    )
    async def events(job_id: str, last_event_id: Annotated[str | None, Header()] = None) -> StreamingResponse:
        """The job's events, live, until it ends."""
        job = journal.get(job_id)
        after = int(last_event_id) if last_event_id and last_event_id.isascii() and last_event_id.isdigit() else 0
        stream = event_stream(journal, changes, job_id, job.attempt, after)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
