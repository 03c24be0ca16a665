"""Who may call: the edge, with a short-lived token bound to exactly the body it sends."""

from __future__ import annotations

import hashlib
import hmac
import time

import jwt

from owm_compute.errors import ComputeError

MAX_LIFETIME_S = 300
# Clocks of two machines differ a little; only a token from the future is forgiven that much.
_CLOCK_SKEW_S = 60


def _refuse(message: str) -> ComputeError:
    return ComputeError(
        "unauthorized",
        message,
        fix="sign the request with OWM_COMPUTE_SECRET as the contract says",
        status=401,
    )


def require_edge(authorization: str | None, body: bytes, secret: str) -> None:
    """Raises `ComputeError` (401) unless the header holds a valid token for this body."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise _refuse("a bearer token is needed")
    try:
        claims = jwt.decode(
            token,
            secret,
            algorithms=["HS256"],
            audience="owm-compute",
            issuer="owm-hub",
            options={
                "require": ["iss", "aud", "iat", "exp", "sha256"],
                "verify_iat": False,
                "strict_aud": True,
            },
        )
    except jwt.InvalidTokenError as error:
        raise _refuse(f"the token is not valid: {error}") from None
    issued, expires = claims["iat"], claims["exp"]
    if not isinstance(issued, int | float) or not isinstance(expires, int | float):
        raise _refuse("iat and exp must be numbers")
    if expires - issued > MAX_LIFETIME_S or issued > time.time() + _CLOCK_SKEW_S:
        raise _refuse(f"the token lives longer than {MAX_LIFETIME_S} s or comes from the future")
    digest = claims["sha256"]
    if not isinstance(digest, str) or not hmac.compare_digest(
        digest.encode(), hashlib.sha256(body).hexdigest().encode()
    ):
        raise _refuse("the token was made for another body")
