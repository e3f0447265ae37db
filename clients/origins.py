"""Which web pages may watch the stream."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ha2g_live.realtime.errors import ClientError

ANY_ORIGIN = "*"

_LOCAL = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?")
_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s]*")


def is_local_page(origin: str) -> bool:
    """Whether a page with this Origin header was served by this computer."""
    return _LOCAL.fullmatch(origin) is not None


class Origins:
    """Origins, in the sense of RFC 6454, of the pages that may connect.

    Pages of this computer may, and programs, which send no Origin. A page from elsewhere could
    otherwise watch, for browsers let any page open a local socket.

    Args:
        allowed: further origins, ``scheme://host[:port]`` or ``null``; ``*`` lets every page in.

    Raises:
        ClientError: one of them is not an origin.
    """

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        for origin in allowed:
            if _ORIGIN.fullmatch(origin) is None:
                raise ClientError(
                    f"{origin!r} is not an origin: write scheme://host[:port] without a path, "
                    "null, or *"
                )
        self._allowed = frozenset(allowed)

    def refused(self, origins: Sequence[str]) -> str | None:
        """The first of a request's Origin headers that may not connect; None if all may."""
        if ANY_ORIGIN in self._allowed:
            return None
        for origin in origins:
            if origin not in self._allowed and not is_local_page(origin):
                return origin
        return None
