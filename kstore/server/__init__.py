"""An OCI registry in front of the store, for other tools on this machine.

It speaks the OCI distribution specification 1.1 over plain HTTP/1.1: podman, skopeo, docker and
curl can pull what the store has and push into it.  It is meant for one user: whoever may connect
(and knows a password, where there is a password file) may read and change all of the store.

Names are mapped in :mod:`kstore.server.names`.
"""

from __future__ import annotations

from kstore.server.listener import RegistryServer
from kstore.server.settings import AccessLine, Limits, ServeSettings

__all__ = ["AccessLine", "Limits", "RegistryServer", "ServeSettings"]
