"""When to try again, and how long to wait before."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from kstore.errors import RemoteError
from kstore.registry.settings import RegistrySettings
from kstore.streams import Cancel

__all__ = ["WORTH_TELLING", "Backoff", "retry_after"]

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
        """Sleep before the next attempt: ``wait`` seconds if the server said so.

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
        if wait is None:
            grown = min(cap, self._settings.backoff_base * 2.0 ** (self._failures - 1))
            wait = grown * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
        wait = min(wait, cap)
        if tell is not None:
            tell(wait)
        elif wait >= WORTH_TELLING:
            self._warn(f"{failure.message}; trying again in {wait:.0f} s")
        self._cancel.wait(wait)

    def reset(self) -> None:
        """Forget the failures: there was progress."""
        self._failures = 0


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
