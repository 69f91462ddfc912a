"""Which requests to audit, by the hash of their id: a random share that nobody can steer."""

from __future__ import annotations

import hashlib

from vlm_bridge.errors import BridgeError, shown

#: Bytes of a digest that decide, and that a monitor keeps of an id.
_BYTES = 12


def request_digest(request_id: object, salt: object = "") -> str:
    """Start of the SHA-256 of salt, a NUL and the id, in hexadecimal: 96 bits.

    Raises:
        BridgeError: the id or the salt is no text, or the id is empty.

    Example:
        >>> request_digest("request-17")
        '779371f084ed0130af418d1a'
    """
    if not isinstance(request_id, str) or not request_id:
        raise BridgeError(f"the id of a request must be text, got {shown(request_id)}")
    if not isinstance(salt, str):
        raise BridgeError(f"salt must be text, got {shown(salt)}")
    text = f"{salt}\0{request_id}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).digest()[:_BYTES].hex()


def audited(request_id: str, share: float, *, salt: str = "") -> bool:
    """Whether a request is among the `share` to audit: digest / 2^96 < share.

    The same id is always decided alike, in every process and language, and whatever its answer:
    so the audited requests are a random sample, if ids do not depend on answers. Whoever may choose
    ids must not know the salt. A larger share contains a smaller one.

    Args:
        request_id: of a served request, unique.
        share: of all requests, in (0, 1]; 1 audits all.
        salt: any text, the same for all requests; another one gives another sample.

    Raises:
        BridgeError: share outside (0, 1], an id or salt that is no text, an empty id.

    Example:
        >>> sum(audited(f"request-{n}", 0.01) for n in range(10_000))
        121
    """
    check_share(share)
    return int(request_digest(request_id, salt), 16) < share * 2.0 ** (8 * _BYTES)


def check_share(share: object) -> float:
    """Raise a `BridgeError` unless a share of requests lies in (0, 1]."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0.0 < share <= 1.0:
        raise BridgeError(f"share must lie in (0, 1], got {shown(share)}")
    return float(share)
