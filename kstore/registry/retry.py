"""When to try again, and how long to wait before."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from kstore.errors import RemoteError
from kstore.registry.settings import RegistrySettings
from kstore.streams import Cancel

__all__ = ["PROGRESS", "WORTH_TELLING", "Backoff", "retry_after", "teller"]

#: Bytes after which all attempts are available again.  Few, for networks that cut every connection
#: soon; not so few that a server which sends a little and then stalls would be asked for ever.
PROGRESS = 32 * 1024
#: Seconds of waiting that a user should know of.
WORTH_TELLING = 2.0


class Backoff:
    """Counts the failures of one piece of work and sleeps between attempts."""

    def __init__(
        self, settings: RegistrySettings, cancel: Cancel, warn: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._cancel = cancel
        self._warn = warn
        self._failures = 0

    def pause(
        self,
        failure: RemoteError,
        wait: float | None = None,
        tell: Callable[[float], None] | None = None,
    ) -> None:
        """Sleep before the next attempt: ``wait`` seconds and a little more if the server said so.

        ``tell`` hears how long, every time; without it, only long waits are worth a warning.
        Raises ``failure`` if it was the last attempt, CancelledError on a cancel.
        """
        self._failures += 1
        if self._failures >= self._settings.attempts:
            raise type(failure)(
                f"{failure.message} ({self._failures} attempts)",
                hint=failure.hint,
                status=failure.status,
                retryable=failure.retryable,
            ) from failure
        cap = self._settings.backoff_cap
        # Everybody was told the same moment; nobody should come before it, nor all at it.
        low, high = 1.0, 1.1
        if wait is None:
            wait, low, high = self._settings.backoff_base * 2.0 ** (self._failures - 1), 0.5, 1.0
        wait = min(wait, cap)
        if tell is not None:
            tell(wait)
        elif wait >= WORTH_TELLING:
            self._warn(f"{failure.message}; trying again in {wait:.0f} s")
        self._cancel.wait(wait * random.uniform(low, high))  # noqa: S311 - guards nothing

    def reset(self) -> None:
        """Forget the failures: there was progress."""
        self._failures = 0


def teller(
    failure: RemoteError, on_retry: Callable[[str], None] | None
) -> Callable[[float], None] | None:
    """What :meth:`Backoff.pause` calls, so that ``on_retry`` hears why, and how long it takes."""
    if on_retry is None:
        return None

    def tell(seconds: float) -> None:
        rest = f"; waiting {seconds:.0f} s" if seconds >= WORTH_TELLING else ""
        on_retry(f"{failure.message}{rest}")

    return tell


def retry_after(value: str | None) -> float | None:
    """The seconds a Retry-After header asks for; None without one that makes sense.

    Source: RFC 9110 section 10.2.3 (seconds, or an HTTP date).
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    if not text:
        return None
    import email.utils  # slow to load, and hardly ever needed

    try:
        moment = email.utils.parsedate_to_datetime(text)
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
