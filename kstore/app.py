"""The composition root: settings become a store, transports and credentials."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kstore.errors import InvalidInputError, NotFoundError, StorageError
from kstore.reference import Named
from kstore.settings import Settings
from kstore.store import Store
from kstore.streams import Cancel

if TYPE_CHECKING:
    from kstore.image import TrustPolicy
    from kstore.registry import AuthFiles, Credentials, RegistryClient, RegistrySettings
    from kstore.registry.lookaside import Lookaside
    from kstore.registry.registriesd import RegistriesD
    from kstore.signing.signer import Signer
    from kstore.store import RebuildReport
    from kstore.transports import Transports
    from kstore.transports.docker_endpoint import DockerDaemonSettings

__all__ = ["App", "RegistryOptions", "SigningOptions", "TrustOptions"]

_MAX_PASSPHRASE_FILE = 64 * 1024


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """What a command line says about registries; None where it says nothing.

    ``creds`` is ``USER[:PASSWORD]``.
    """

    tls_verify: bool | None = None
    cert_dir: Path | None = None
    creds: str | None = None
    authfile: Path | None = None


@dataclass(frozen=True, slots=True)
class SigningOptions:
    """What a command line says about signing: with which keys of GnuPG, the file whose first line
    is their passphrase, and as what image (None: as what is written)."""

    gpg_keys: tuple[str, ...] = ()
    passphrase_file: Path | None = None
    identity: str | None = None

    @property
    def image_name(self) -> Named | None:
        """``identity``, parsed; InvalidReferenceError."""
        return Named.parse(self.identity) if self.identity is not None else None


@dataclass(frozen=True, slots=True)
class TrustOptions:
    """What a command line says about trust: ``policy`` is a file that counts instead of the
    machine's, ``insecure`` accepts everything, ``require_signed`` nothing without a signature that
    the policy checks."""

    policy: Path | None = None
    insecure: bool = False
    require_signed: bool = False


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
                lookaside=self._lookaside(options, stop),
            )
        )

    def signers(self, options: SigningOptions) -> tuple[Signer, ...]:
        """The keys to sign with, ready to use.

        Raises NotFoundError for a key or a file that is missing, and what is wrong with a key.
        """
        if not options.gpg_keys:
            return ()
        from kstore import __version__
        from kstore.signing.gpgsigner import GpgSigner

        passphrase = self.passphrase(options.passphrase_file)
        return tuple(
            GpgSigner(
                key,
                creator=f"kstore {__version__}",
                home=self.settings.gnupg_home,
                passphrase=None if passphrase is None else passphrase.decode("latin-1"),
                ask=self._ask_secret,
            )
            for key in options.gpg_keys
        )

    def passphrase(self, file: Path | None) -> bytes | None:
        """The first line of ``file``, None without a file; NotFoundError, InvalidInputError."""
        if file is None:
            return None
        data = _read_user_file(file, _MAX_PASSPHRASE_FILE, f"passphrase file {file}")
        return data.partition(b"\n")[0].removesuffix(b"\r")

    def trust_policy(self, options: TrustOptions) -> TrustPolicy:
        """Which images are trusted: by the policy file of this user or machine, if there is one.

        The file is read when the first image is checked.
        """
        from kstore.signing.policy import AcceptAnything, FilePolicy

        if options.insecure:
            return AcceptAnything()
        return FilePolicy(
            self.policy_files(options),
            explicit=options.policy is not None,
            required=options.require_signed,
            check_scope=_check_scope,
        )

    def policy_files(self, options: TrustOptions) -> tuple[Path, ...]:
        """The trust policies, of which the first that is there counts."""
        return self.settings.policy_files if options.policy is None else (options.policy,)

    def _lookaside(
        self, options: RegistryOptions, cancel: Cancel
    ) -> Callable[[Named], Lookaside] | None:
        """Finds the place of an image's signatures; the files are read for the first image."""
        usual = self.settings.lookaside_dir
        if usual is None:
            return None
        directories = self.settings.registries_d
        settings = self.registry_settings(options)
        warn = self._warn or (lambda _: None)

        @cache
        def configuration() -> RegistriesD:
            from kstore.registry.registriesd import read_registries_d

            return read_registries_d(directories)

        def find(named: Named) -> Lookaside:
            from kstore.registry.lookaside import Lookaside
            from kstore.transports.base import name_scopes

            section = configuration().lookup((str(named), *name_scopes(named)))
            return Lookaside(section, usual, settings, cancel=cancel, warn=warn)

        return find

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


def _check_scope(transport: str, scope: str) -> None:
    if transport == "docker":
        return  # podman takes any, and one that matches nothing does no harm
    from kstore.transports import validate_policy_scope

    validate_policy_scope(transport, scope)


def _read_user_file(path: Path, cap: int, what: str) -> bytes:
    from kstore.blobs import storage_errors

    try:
        with storage_errors(f"read {what}"), path.open("rb") as file:
            data = file.read(cap + 1)
    except StorageError as exc:
        if isinstance(exc.__cause__, FileNotFoundError):
            raise NotFoundError(f"{what} does not exist") from exc
        raise
    if len(data) > cap:
        raise InvalidInputError(f"{what} is larger than {cap} bytes")
    return data
