"""Runs one step of a script: its arguments come as JSON on stdin, what the stock client answered goes out as JSON."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import HfApi
from huggingface_hub.utils import _http

Arguments = dict[str, Any]
Step = Callable[[HfApi, Arguments], object]


def run(steps: Mapping[str, Step]) -> None:
    """Runs the step that the command line names; endpoint and token are the client's own business (its environment)."""
    answer = steps[sys.argv[1]](HfApi(), json.load(sys.stdin))
    json.dump({"version": huggingface_hub.__version__, "answer": answer}, sys.stdout)


def digest(path: str | Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(folder: str | Path) -> dict[str, str]:
    """Relative path → SHA-256 of every file below a folder, the client's own bookkeeping left out."""
    root = Path(folder)
    files = [
        path for path in sorted(root.rglob("*")) if path.is_file() and ".cache" not in path.relative_to(root).parts
    ]
    return {path.relative_to(root).as_posix(): digest(path) for path in files}


def requests_made() -> list[str]:
    """A list to which every request of the client is added from now on, as `METHOD path`."""
    made: list[str] = []

    def note(request: Any) -> None:
        made.append(f"{request.method} {request.url.path}")

    def factory() -> Any:
        client = _http.default_client_factory()
        client.event_hooks["request"].append(note)
        return client

    huggingface_hub.set_client_factory(factory)
    return made


def failure(call: Callable[[], object]) -> dict[str, Any]:
    """The exception that a call ends with: the names of its classes, and what it says."""
    try:
        call()
    except Exception as error:  # whatever it is, it is the answer
        names = [kind.__name__ for kind in type(error).__mro__]
        return {"kinds": names, "message": str(error)}
    return {"kinds": [], "message": "nothing was raised"}
