"""What a command line says about signatures: with which keys to sign, which images to trust."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kstore.blobs import read_file
from kstore.reference import Named
from kstore.settings import Settings
from kstore.values import dataclass

if TYPE_CHECKING:
    from kstore.image import TrustPolicy
    from kstore.signing.signer import Signer

__all__ = [
    "SigningOptions",
    "TrustOptions",
    "key_policy",
    "passphrase_of",
    "policy_files",
    "signers",
    "trust_policy",
]

_MAX_PASSPHRASE_FILE = 64 * 1024

#: Asks the user for a password; the argument is the prompt.
Ask = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class SigningOptions:
    """What a command line says about signing: with which keys of GnuPG, with which sigstore key
    file, the file whose first line is their passphrase, and as what image (None: as what is
    written).  ``sigstore_parameters``: a file that says with which sigstore key, too."""

    gpg_keys: tuple[str, ...] = ()
    sigstore_key: Path | None = None
    passphrase_file: Path | None = None
    identity: str | None = None
    sigstore_parameters: Path | None = None

    @property
    def by_sigstore(self) -> bool:
        """Whether there is to be a sigstore signature."""
        return self.sigstore_key is not None or self.sigstore_parameters is not None

    @property
    def given(self) -> bool:
        """Whether there is to be any signature."""
        return bool(self.gpg_keys) or self.by_sigstore

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


def signers(settings: Settings, options: SigningOptions, ask: Ask | None) -> tuple[Signer, ...]:
    """The keys to sign with, ready to use.

    Raises NotFoundError for a key or a file that is missing, AuthError for a passphrase that
    is, and what is wrong with a key.
    """
    if not options.given:
        return ()
    passphrase = passphrase_of(options.passphrase_file)
    ready = [_gpg_signer(settings, ask, key, passphrase) for key in options.gpg_keys]
    if options.sigstore_key is not None:
        ready.append(_sigstore_signer(ask, options.sigstore_key, passphrase))
    if options.sigstore_parameters is not None:
        from kstore.signing.parameters import read_parameters

        said = read_parameters(options.sigstore_parameters)
        own = passphrase_of(said.passphrase_file)
        ready.append(_sigstore_signer(ask, said.key_file, own))
    return tuple(ready)


def _gpg_signer(settings: Settings, ask: Ask | None, key: str, passphrase: bytes | None) -> Signer:
    from kstore import __version__
    from kstore.signing.gpgsigner import GpgSigner

    return GpgSigner(
        key,
        creator=f"kstore {__version__}",
        home=settings.gnupg_home,
        passphrase=None if passphrase is None else passphrase.decode("latin-1"),
        ask=ask,
    )


def _sigstore_signer(ask: Ask | None, file: Path, passphrase: bytes | None) -> Signer:
    from kstore.signing.keyfile import MAX_KEY_FILE, is_encrypted
    from kstore.signing.sigstore import SigstoreSigner

    what = f"key file {file}"
    key = read_file(file, MAX_KEY_FILE, what)
    if passphrase is None and is_encrypted(key) and ask is not None:
        passphrase = ask(f"Passphrase of {file}: ").encode()
    return SigstoreSigner(key, passphrase, what)


def passphrase_of(file: Path | None) -> bytes | None:
    """The first line of ``file``, None without a file; NotFoundError, InvalidInputError."""
    if file is None:
        return None
    data = read_file(file, _MAX_PASSPHRASE_FILE, f"passphrase file {file}")
    return data.partition(b"\n")[0].removesuffix(b"\r")


def trust_policy(settings: Settings, options: TrustOptions) -> TrustPolicy:
    """Which images are trusted: by the policy file of this user or machine, if there is one.

    The file is read when the first image is checked.
    """
    from kstore.signing.policy import AcceptAnything, FilePolicy

    if options.insecure:
        return AcceptAnything()
    return FilePolicy(
        policy_files(settings, options),
        explicit=options.policy is not None,
        required=options.require_signed,
        check_scope=_check_scope,
    )


def key_policy(files: Sequence[Path]) -> TrustPolicy:
    """The policy that every image is signed by one of the public keys in ``files``, of GnuPG or
    of sigstore; NotFoundError for a file that is missing."""
    from kstore.signing.keyfile import is_public_key
    from kstore.signing.requirements import MAX_KEY_FILE
    from kstore.signing.rules import signed_by_keys

    gpg: list[Path] = []
    sigstore: list[Path] = []
    for file in files:
        data = read_file(file, MAX_KEY_FILE, f"key file {file}")
        (sigstore if is_public_key(data) else gpg).append(file)
    return signed_by_keys(gpg, sigstore)


def policy_files(settings: Settings, options: TrustOptions) -> tuple[Path, ...]:
    """The trust policies, of which the first that is there counts."""
    return settings.policy_files if options.policy is None else (options.policy,)


def _check_scope(transport: str, scope: str) -> None:
    if transport == "docker":
        return  # podman takes any, and one that matches nothing does no harm
    from kstore.transports import validate_policy_scope

    validate_policy_scope(transport, scope)
