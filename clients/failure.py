"""The error of a client's own thread, on its way to the client's owner."""

from __future__ import annotations

from ha2g_live.realtime.errors import ClientError


class Failure:
    """Keeps the error that ended a client's thread, and raises it where the owner will see it.

    Threads: ``keep`` is for the client's thread, the rest for its owner's.
    """

    def __init__(self) -> None:
        self._raised = False
        self.error: Exception | None = None

    def keep(self, error: Exception) -> None:
        """Keep the error; the first one stays, for later ones follow from it."""
        self.error = self.error or error

    def check(self, what: str) -> None:
        """For ``send``: raise the error, each time.

        Args:
            what: what has stopped; the message begins with it.

        Raises:
            ClientError: there is an error.
        """
        if self.error is not None:
            self._raised = True
            raise ClientError(
                f"{what} has stopped ({self.error!r}): start the stream again"
            ) from self.error

    def check_unless_raised(self, what: str) -> None:
        """For ``close``: raise the error if it was not raised before.

        Args:
            what: as for ``check``.

        Raises:
            ClientError: there is an error that the owner has not seen.
        """
        if not self._raised:
            self.check(what)
