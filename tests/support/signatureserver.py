"""A registry that keeps signatures by the extension of its API, and a web server of lookasides.

::

    with SignatureServer(extension=True) as server:
        server.kept["team/app", digest]                # what was put there
        server.files["/sigs/team/app@sha256=.../signature-1"] = b"..."
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from tests.support.faultserver import FaultServer
from tests.support.memoryregistry import Answer, Recorded

__all__ = ["SignatureServer"]


class SignatureServer(FaultServer):
    """See the module's text; ``extension``: it says that it keeps signatures, and does."""

    def __init__(self, *, extension: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.extension = extension
        self.kept: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.files: dict[str, bytes] = {}

    def keep(self, path: str, digest: object, data: bytes, **more: Any) -> None:
        """Keep a signature, as OpenShift would."""
        entry = {"schemaVersion": 2, "name": "x@y", "type": "atomic", **more}
        entry.setdefault("content", base64.b64encode(data).decode())
        self.kept.setdefault((path, str(digest)), []).append(entry)

    def answer(self, record: Recorded) -> Answer:
        if record.target in self.files:
            return 200, {"Content-Type": "application/octet-stream"}, self.files[record.target]
        match = re.fullmatch(r"/extensions/v2/(.+)/signatures/(.+)", record.target)
        if match is None or not self.extension:
            status, headers, body = super().answer(record)
        elif record.method == "PUT":
            self.kept.setdefault((match[1], match[2]), []).append(json.loads(record.body))
            status, headers, body = 201, {}, b""
        else:
            entries = self.kept.get((match[1], match[2]), [])
            status, headers, body = 200, {}, json.dumps({"signatures": entries}).encode()
        if self.extension:
            headers = {**headers, "X-Registry-Supports-Signatures": "1"}
        return status, headers, body
