"""The composition root: settings become a store, transports and credentials."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kstore import vouching
from kstore.reference import Named
from kstore.settings import Settings
from kstore.store import Store
from kstore.streams import Cancel
from kstore.values import dataclass
from kstore.vouching import SigningOptions, TrustOptions

if TYPE_CHECKING:
    from kstore.image import TrustPolicy
    from kstore.registry import AuthFiles, CredentialLookup, RegistryClient, RegistrySettings
    from kstore.registry.lookaside import Lookaside
    from kstore.registry.proxies import Proxies
    from kstore.registry.registriesconf import Peer, RegistriesConf
    from kstore.registry.registriesd import RegistriesD, Section
    from kstore.registry.shortnames import Chooser, ShortNames
    from kstore.signing.signer import Signer
    from kstore.store import RebuildReport
    from kstore.transports import Transports
    from kstore.transports.docker_endpoint import DockerDaemonSettings

__all__ = ["App", "RegistryOptions", "SigningOptions", "TrustOptions"]

_MIRROR_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """What a command line says about registries; None where it says nothing.

    ``creds`` is ``USER[:PASSWORD]``; in its place there may be a ``token`` to bear, or nothing at
    all (``anonymous``).  ``attachments``: whether registries themselves keep sigstore signatures of
    their images.  ``docker_authfile``: as ``authfile``, one that docker understands, too.
    ``registries_d``: the directory that says where signatures are, instead of the machine's.
    """

    tls_verify: bool | None = None
    cert_dir: Path | None = None
    creds: str | None = field(default=None, repr=False)
    authfile: Path | None = None
    docker_authfile: Path | None = None
    attachments: bool | None = None
    anonymous: bool = False
    token: str | None = field(default=None, repr=False)
    registries_d: Path | None = None


class App:
    """Makes the handles an operation needs.

    ``ask_secret`` asks the user for a password (the argument is the prompt), ``choose`` which of
    several things is meant; None where there is nobody to ask.  ``warn`` shows a warning.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        ask_secret: Callable[[str], str] | None = None,
        choose: Chooser | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self._ask_secret = ask_secret
        self._choose = choose
        self._warn = warn

    def open_store(self, command: str, *, read_only: bool = False, create: bool = True) -> Store:
        """The store; ``command`` is noted in the name log.  ``read_only`` changes nothing on disk
        and also works where the store does not exist yet (it is empty then); without ``create``
        that is a NotFoundError, unless there are additional stores: theirs can be used."""
        return Store.open(
            self.settings.root,
            command=command,
            create=create,
            read_only=read_only,
            warn=self._warn,
            additional=self.settings.additional_stores,
            network_ok=self.settings.network_ok,
            meanings=lambda short: self._short_names().meanings(short),
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
        kept = self._kept_credentials(options, stop)
        given = self._given_credentials(options)
        sections = self._sections(options)

        def connect(peer: Peer) -> RegistryClient:
            from kstore.registry import RegistryClient

            lookup = kept if given is None or peer.foreign else given
            settings = self._met(peer, options)
            return RegistryClient(peer.host, settings, lookup, cancel=stop, warn=self._warn)

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
                short_names=self._short_names,
                attachments=lambda named: (
                    bool(sections(named).attachments)
                    if options.attachments is None
                    else options.attachments
                ),
                lookaside=self._lookaside(options, stop, sections),
            )
        )

    def signers(self, options: SigningOptions) -> tuple[Signer, ...]:
        """The keys to sign with; see :func:`kstore.vouching.signers`."""
        return vouching.signers(self.settings, options, self._ask_secret)

    def trust_policy(self, options: TrustOptions) -> TrustPolicy:
        """Which images are trusted; see :func:`kstore.vouching.trust_policy`."""
        return vouching.trust_policy(self.settings, options)

    def policy_files(self, options: TrustOptions) -> tuple[Path, ...]:
        """The trust policies, of which the first that is there counts."""
        return vouching.policy_files(self.settings, options)

    def _sections(self, options: RegistryOptions) -> Callable[[Named], Section]:
        """Finds what registries.d says of an image; the files are read for the first one."""
        own = options.registries_d
        directories = self.settings.registries_d if own is None else (own,)

        @functools.cache
        def configuration() -> RegistriesD:
            from kstore.registry.registriesd import read_registries_d

            return read_registries_d(directories)

        def find(named: Named) -> Section:
            from kstore.transports.base import name_scopes

            return configuration().lookup((str(named), *name_scopes(named)))

        return find

    def _lookaside(
        self, options: RegistryOptions, cancel: Cancel, sections: Callable[[Named], Section]
    ) -> Callable[[Named], Lookaside] | None:
        """Finds the place of an image's signatures beside its registry."""
        usual = self.settings.lookaside_dir
        if usual is None:
            return None
        # The certificates that were given are for the registry, and not for others.
        settings = replace(self.registry_settings(options), cert_dir=None)
        warn = self._warn or (lambda _: None)

        def find(named: Named) -> Lookaside:
            from kstore.registry.lookaside import Lookaside

            return Lookaside(sections(named), usual, settings, cancel=cancel, warn=warn)

        return find

    def _docker_daemon(self) -> DockerDaemonSettings:
        from kstore.transports.docker_endpoint import DEFAULT_HOST, DockerDaemonSettings

        return DockerDaemonSettings(
            host=self.settings.docker_host or DEFAULT_HOST,
            cert_dir=self.settings.docker_cert_dir,
            tls_verify=self.settings.docker_tls_verify,
            offline=self.settings.offline,
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
            offline=self.settings.offline,
            proxies=self._proxies,
        )

    @functools.cached_property
    def _proxies(self) -> Proxies | None:
        if not self.settings.proxies:
            return None
        from kstore.registry.proxies import Proxies

        return Proxies.parse(dict(self.settings.proxies))

    def settings_at(self, name: str, options: RegistryOptions) -> RegistrySettings:
        """How the registry of ``name``, a ``host[:port][/path]``, is spoken to; PolicyRejectedError
        where it is blocked."""
        from kstore.registry.registriesconf import Peer

        found = self.registries.check_allowed(name)
        return self._met(Peer(name, insecure=found is not None and found.insecure), options)

    def _met(self, peer: Peer, options: RegistryOptions) -> RegistrySettings:
        settings = self.registry_settings(options)
        if options.tls_verify is None and peer.insecure:
            settings = replace(settings, tls_verify=False)
        if peer.mirror:  # somebody else has the same, so little patience is enough
            settings = replace(settings, attempts=min(settings.attempts, _MIRROR_ATTEMPTS))
        return settings

    @functools.cached_property
    def registries(self) -> RegistriesConf:
        """What registries.conf says; InvalidInputError, StorageError."""
        from kstore.registry.registriesfiles import RegistriesPaths, load_registries

        settings = self.settings
        conf = load_registries(
            RegistriesPaths(
                settings.registries_main,
                settings.registries_drop_ins,
                settings.registries_only,
                settings.registries_last,
                settings.registries_old_rules,
            )
        )
        if self._warn is not None:
            for warning in conf.warnings:
                self._warn(warning)
        return conf

    def _short_names(self) -> ShortNames:
        from kstore.registry.shortnames import ShortNames

        return ShortNames(self.registries, self.settings.short_names, self._choose)

    def auth_files(self, options: RegistryOptions, cancel: Cancel | None = None) -> AuthFiles:
        """The files credentials are read from and written to."""
        from kstore.registry import AuthFiles
        from kstore.registry.authfiles import FILES
        from kstore.registry.credential_programs import CredentialPrograms

        helpers = self.registries.helpers
        explicit = options.authfile or options.docker_authfile
        if explicit is None and self.settings.auth_file_is_explicit:
            explicit = self.settings.auth_files[0]
        return AuthFiles(
            () if explicit is not None else self.settings.auth_files,
            explicit=explicit,
            order=(FILES,) if helpers is None else helpers,
            programs=CredentialPrograms(self.settings.programs, cancel=cancel),
            whole_registries=options.docker_authfile is not None,
        )

    def _kept_credentials(self, options: RegistryOptions, cancel: Cancel) -> CredentialLookup:
        """What is kept on this machine, looked at when it is first needed."""
        if options.anonymous:
            return lambda host, path: None

        @functools.cache
        def lookup() -> CredentialLookup:
            from kstore.registry.credentials import first_of
            from kstore.registry.keychains import KeychainSettings, open_keychains

            files = self.auth_files(options, cancel)
            settings = KeychainSettings(
                programs=files.programs,
                pull_secrets=self.settings.pull_secrets,
                kubernetes=self.settings.kubernetes,
                registry=self.registry_settings(RegistryOptions()),
                cancel=cancel,
                warn=self._warn or (lambda _: None),
            )
            return first_of(files.lookup, *open_keychains(self.settings.keychains, settings))

        return lambda host, path: lookup()(host, path)

    def _given_credentials(self, options: RegistryOptions) -> CredentialLookup | None:
        """Those of the command line; None without any."""
        if options.creds is None and options.token is None:
            return None
        from kstore.registry.credentials import Credentials, parse_creds, parse_token

        if options.creds is None:
            given = parse_token(options.token or "")
        elif ":" not in options.creds and self._ask_secret is not None:
            user = options.creds
            given = Credentials(user, self._ask_secret(f"Password for {user}: "))
        else:
            given = parse_creds(options.creds)
        return lambda host, path: given
