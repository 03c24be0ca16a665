"""An edge for tests: the hub's half of the contract on a loopback port, with faults that a test can switch on."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PART = 64 * 1024


class Edge:
    """Inputs, uploads, events and results of every job, by job id."""

    def __init__(self) -> None:
        self.inputs: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.results: dict[str, list[dict[str, Any]]] = {}
        self.requests: Counter[str] = Counter()
        self.ranges: list[tuple[str, int]] = []
        self.tokens: set[str] = set()
        self.cancel: set[str] = set()
        self.ended: set[str] = set()
        self.break_first_download = False
        self.held: dict[tuple[str, int], threading.Event] = {}
        self.corrupted: set[tuple[str, int]] = set()
        self.unavailable = 0
        self.refuse_results = False
        self.hold_inputs = threading.Event()
        self.hold_inputs.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops serving."""
        self.hold_inputs.set()
        self._server.shutdown()
        self._server.server_close()

    def add_input(self, name: str, data: bytes) -> dict[str, Any]:
        """Publishes an input; its entry for a submission."""
        sha256 = hashlib.sha256(data).hexdigest()
        self.inputs[sha256] = data
        return {"name": name, "url": f"{self.url}/inputs/{sha256}", "sha256": sha256, "size": len(data)}


def _handler(edge: Edge) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Silence."""

        def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers["Content-Length"]))

        def do_GET(self) -> None:
            edge.requests["download"] += 1
            edge.hold_inputs.wait(60)
            if self.headers.get("Authorization", "").removeprefix("Bearer ") not in edge.tokens:
                return self.answer(401)
            data = edge.inputs[self.path.rpartition("/")[2]]
            start, end = (int(one) for one in self.headers["Range"].removeprefix("bytes=").split("-"))
            if start >= len(data):
                return self.answer(416, headers={"Content-Range": f"bytes */{len(data)}"})
            where = (self.path.rpartition("/")[2], start)
            edge.ranges.append(where)
            if where in edge.held:
                edge.held[where].wait(60)
            if edge.unavailable:
                edge.unavailable -= 1
                return self.answer(503)
            body = data[start : end + 1]
            if where in edge.corrupted:
                body = bytes([body[0] ^ 1]) + body[1:]
            span = {"Content-Range": f"bytes {start}-{start + len(body) - 1}/{len(data)}"}
            if edge.break_first_download and len(edge.ranges) == 1:
                self.send_response(206)
                self.send_header("Content-Range", span["Content-Range"])
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
                return None
            return self.answer(206, body, span)

        def do_PUT(self) -> None:
            data = self.body()
            if "Authorization" in self.headers:
                return self.answer(400)
            _, _, oid, number = self.path.split("/")
            edge.parts.setdefault(oid, {})[int(number)] = data
            etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
            return self.answer(200, headers={"ETag": f'"{etag}"'})

        def do_POST(self) -> None:
            payload = json.loads(self.body())
            if self.path.startswith("/complete/"):
                oid = payload["oid"]
                data = b"".join(part for _, part in sorted(edge.parts[oid].items()))
                assert hashlib.sha256(data).hexdigest() == oid
                edge.blobs[oid] = data
                return self.answer(200)
            if self.headers.get("Authorization", "").removeprefix("Bearer ") not in edge.tokens:
                return self.answer(401)
            _, job, route = self.path.split("/")
            edge.requests[route] += 1
            if job in edge.ended:
                return self.answer(409)
            if route == "uploads":
                return self.answer(200, json.dumps(self.announce(payload)).encode())
            if route == "progress":
                edge.events.setdefault(job, []).extend(payload["events"])
                return self.answer(200, json.dumps({"cancel": job in edge.cancel}).encode())
            if edge.refuse_results:
                return self.answer(503)
            edge.results.setdefault(job, []).append(payload)
            return self.answer(204)

        def announce(self, payload: dict[str, Any]) -> dict[str, Any]:
            oid, size = payload["sha256"], payload["size"]
            if oid in edge.blobs:
                return {"sha256": oid, "upload": None}
            parts = [
                {"url": f"{edge.url}/parts/{oid}/{i}", "offset": at, "size": min(PART, size - at)}
                for i, at in enumerate(range(0, size, PART))
            ]
            return {"sha256": oid, "upload": {"parts": parts, "complete_url": f"{edge.url}/complete/{oid}"}}

    return Handler
