"""Why goals are missed: what was profiled and tried.  Shown under the goals while they are."""

from __future__ import annotations

__all__ = ["REASONS"]

_START = """\
Start-up of the interpreter. CPU time, the smallest of 21 runs on a busy machine: Python alone 7 \
ms; with click, sqlite3, json, hashlib and dataclasses 35 ms; with urllib3 and ssl 77 ms; all of \
`kstore tag` 48 ms. Done: lazy commands and imports (pinned by tests/architecture), values that \
are declared at a tenth of the standard decorator's cost (28 ms less for push, 6 ms for tag), \
rare garbage collection, an exit that does not take the interpreter apart. Tried: http.client in \
place of urllib3, which gives 13 ms; that meets no goal, and a well-kept library is worth them. \
What it would take to reach podman: a program that is not interpreted, or one that stays \
running."""

_REGISTRY = """\
The registry: kstore is idle for most of the time (wall clock less user and system in the table) \
while docker-registry hashes and writes the body of one PATCH, which no client can split: 0.18 s \
of it for the 60 MB of debian."""

#: Start of a goal's text -> why it is missed.
REASONS = {
    "pull tiny60": """\
60 requests for blobs of 400 bytes. A bare loop of http.client fetches them in 0.10 to 0.13 s, the \
interpreter starts in 0.07 s (see below), and each blob is made durable before it gets its row, \
which skopeo does not do.""",
    "push debian, empty registry": f"{_REGISTRY} Beside it, the start-up explained below.",
    "push tiny60, empty registry": """\
Each layer costs the registry a POST, a PATCH and a PUT, whoever sends them: of its 0.75 s kstore \
is busy for 0.21 s. podman sends the same requests in 0.95 s, so 0.15 of that is out of reach.""",
    "push random2g, empty registry": _REGISTRY,
    "what 1,000 registries and scopes of a policy add to pull": """\
CPU time in one process: registries.conf takes 5 ms (reading its lines 2.3, making the registries \
2.3), policy.json 2.4 ms (strict JSON 1.3, checking all scopes 0.9). 12 ms more were one pass of \
the garbage collector, which these objects set off; it waits longer now. Commands that need \
neither file (images, inspect) do not read them.""",
    "push": _START,
    "tag": _START,
    "untag": _START,
    "images": _START,
    "gzip": """\
skopeo compresses on both cores, too. In CPU time kstore needs a third (isal); hashing what is \
read and what is written, syncing the result and starting Python are the rest of the wall clock.""",
}
