"""A disk that is full, as far as files of this process are concerned.

::

    with files_no_larger_than(1 << 20), pytest.raises(StorageError):
        write_two_mebibytes()
"""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator

__all__ = ["files_no_larger_than"]


@contextlib.contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Writing a file beyond ``size`` bytes fails in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
