"""The composition root: settings become a store, transports and credentials."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kstore.settings import Settings
from kstore.store import Store
from kstore.streams import Cancel

if TYPE_CHECKING:
    from kstore.registry import AuthFiles, Credentials, RegistryClient, RegistrySettings
    from kstore.store import RebuildReport
    from kstore.transports import Transports
    from kstore.transports.docker_endpoint import DockerDaemonSettings

__all__ = ["App", "RegistryOptions"]


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """What a command line says about registries; None where it says nothing.

    ``creds`` is ``USER[:PASSWORD]``.
    """

    tls_verify: bool | None = None
    cert_dir: Path | None = None
    creds: str | None = None
    authfile: Path | None = None


class App:
    """Makes the handles an operation needs.

    ``ask_secret`` asks the user for a password (the argument is the prompt), ``warn`` shows a
    warning.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        ask_secret: Callable[[str], str] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self._ask_secret = ask_secret
        self._warn = warn

    def open_store(self, command: str, *, read_only: bool = False, create: bool = True) -> Store:
        """The store; ``command`` is noted in the name log.  ``read_only`` changes nothing on disk
        and also works where the store does not exist yet (it is empty then); without ``create``
        that is a StorageError."""
        return Store.open(
            self.settings.root,
            command=command,
            create=create,
            read_only=read_only,
            warn=self._warn,
            additional=self.settings.additional_stores,
            network_ok=self.settings.network_ok,
        )

    def rebuild_store(
        self, command: str, *, progress: Callable[[int], None], cancel: Cancel
    ) -> RebuildReport:
        """Make the store's database anew; see :func:`kstore.store.rebuild.rebuild`."""
        from kstore.store.rebuild import rebuild

        return rebuild(
            self.settings.root,
            command=command,
            warn=self._warn,
            progress=progress,
            cancel=cancel,
            network_ok=self.settings.network_ok,
        )

    def transports(
        self,
        store: Store | Callable[[], Store],
        options: RegistryOptions | None = None,
        cancel: Cancel | None = None,
        *,
        stdin: BinaryIO | None = None,
        stdout: BinaryIO | None = None,
    ) -> Transports:
        """The transports of one command; a function as ``store`` opens it when it is needed.

        ``stdin`` and ``stdout`` are what ``-`` means as the file of an archive.
        """
        from kstore.transports import Transports, TransportSettings

        options = options or RegistryOptions()
        stop = cancel or Cancel()
        registry = self.registry_settings(options)
        lookup = self._credential_lookup(options)

        def connect(host: str) -> RegistryClient:
            from kstore.registry import RegistryClient

            return RegistryClient(host, registry, lookup, cancel=stop, warn=self._warn)

        def opened() -> Store:
            return store if isinstance(store, Store) else store()

        return Transports(
            TransportSettings(
                opened,
                connect,
                stop,
                spool_dir=self.settings.spool_dir,
                stdin=stdin,
                stdout=stdout,
                docker_daemon=self._docker_daemon(),
            )
        )

    def _docker_daemon(self) -> DockerDaemonSettings:
        from kstore.transports.docker_endpoint import DEFAULT_HOST, DockerDaemonSettings

        return DockerDaemonSettings(
            host=self.settings.docker_host or DEFAULT_HOST,
            cert_dir=self.settings.docker_cert_dir,
            tls_verify=self.settings.docker_tls_verify,
        )

    def registry_settings(self, options: RegistryOptions) -> RegistrySettings:
        """How registries are spoken to."""
        from kstore import __version__
        from kstore.registry import RegistrySettings

        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        return RegistrySettings(
            tls_verify=options.tls_verify is not False,
            cert_dir=options.cert_dir,
            cert_search=self.settings.cert_search,
            user_agent=f"kstore/{__version__} python/{python}",
        )

    def auth_files(self, options: RegistryOptions) -> AuthFiles:
        """The files credentials are read from and written to."""
        from kstore.registry import AuthFiles

        if options.authfile is not None:
            return AuthFiles((), explicit=options.authfile)
        files = self.settings.auth_files
        if self.settings.auth_file_is_explicit:
            return AuthFiles((), explicit=files[0])
        return AuthFiles(files)

    def _credential_lookup(
        self, options: RegistryOptions
    ) -> Callable[[str, str], Credentials | None]:
        if options.creds is None:
            return self.auth_files(options).lookup
        given = self._given_credentials(options.creds)
        return lambda host, path: given

    def _given_credentials(self, text: str) -> Credentials:
        from kstore.registry import Credentials, parse_creds

        if ":" not in text and self._ask_secret is not None:
            return Credentials(text, self._ask_secret(f"Password for {text}: "))
        return parse_creds(text)
