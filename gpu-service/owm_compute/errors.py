"""The one error type of the service, carried from a job's child to the edge without losing its code."""

from __future__ import annotations

import errno
from typing import Any


class ComputeError(Exception):
    """A failure with a stable code.

    `field` names the place in the caller's input, `fix` what the caller can do about it, `retryable` whether the
    same input may succeed later. `status` is the HTTP status when the error answers a request.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        field: str | None = None,
        fix: str | None = None,
        retryable: bool = False,
        status: int = 422,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.field = field
        self.fix = fix
        self.retryable = retryable
        self.status = status

    def as_json(self) -> dict[str, Any]:
        """The error as the job resource carries it: absent fields are left out."""
        body: dict[str, Any] = {"code": self.code, "message": self.message, "retryable": self.retryable}
        if self.field is not None:
            body["field"] = self.field
        if self.fix is not None:
            body["fix"] = self.fix
        return body


class JobCancelled(Exception):
    """Raised inside a job at the next safe point after somebody asked it to stop."""


def is_disk_full(error: OSError) -> bool:
    """Whether a write failed because nothing more fits."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_full() -> ComputeError:
    """The error of a job whose files do not fit; room may be made."""
    return ComputeError("resource_exhausted", "the disk of the compute service is full", retryable=True)


def internal_error() -> ComputeError:
    """The error of a job that the service itself failed, after it has logged why."""
    return ComputeError("internal_error", "the service failed; its log says why", retryable=True)
