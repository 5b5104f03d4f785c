"""Where things are on this machine, read from the environment once.

Only :func:`load` looks at the environment, and only the command line calls it; everything below
gets values.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path

from kstore.errors import StorageError
from kstore.values import dataclass

__all__ = ["SYSTEM_ROOT", "Settings", "load"]

#: The store of the root user.
SYSTEM_ROOT = Path("/var/lib/kstore")

_SPOOL = Path("/var/tmp")  # noqa: S108 - files there have no names
_NOWHERE = Path("/")  # the home of who has none: nothing of theirs is there
_CONTAINERS = "containers"
_ETC = (Path("/etc/containers"), Path("/usr/share/containers"))
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")
_OUTSIDE = "_CONTAINERS_ROOTLESS_UID"  # podman and buildah set it
_NUMBER = re.compile(r"[0-9]{1,10}")
_SYSTEM_CERTS = (Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))


@dataclass(frozen=True, slots=True)
class Settings:
    """``root``: the store; ``auth_files``: credential files in the order they are read, the first
    being the one ``login`` writes; ``auth_file_is_explicit``: the user named that one, so no
    other counts; ``cert_search``: directories that may hold ``HOST[:PORT]/`` with certificates;
    ``spool_dir``: where large temporary files go; ``docker_host``, ``docker_cert_dir``,
    ``docker_tls_verify``: how a Docker daemon is reached, None and False for its usual socket;
    ``additional_stores``: read-only stores and OCI layouts in which images are found as well;
    ``network_ok``: the store may be on a network file system;
    ``policy_files``: trust policies, of which the first that is there counts; ``registries_d``:
    directories that say where signatures are, likewise; ``lookaside_dir``: where they are if none
    says so; ``gnupg_home``: GnuPG's directory, None for its usual one.

    ``registries_main``, ``registries_drop_ins``, ``registries_only``, ``registries_last``,
    ``registries_old_rules``: the registry configuration (see
    ``registry.registriesfiles.RegistriesPaths``); ``short_names``: the
    file of choices among registries; ``programs``: directories of helper programs; ``keychains``:
    names of further sources of credentials; ``pull_secrets``: files with those of Kubernetes;
    ``kubernetes``: ``host:port`` of the cluster this runs in; ``proxies``: what the environment
    says of proxies, by its variables' names in lower case; ``offline``: no network is used."""

    root: Path
    auth_files: tuple[Path, ...]
    auth_file_is_explicit: bool
    cert_search: tuple[Path, ...]
    spool_dir: Path = _SPOOL
    docker_host: str | None = None
    docker_cert_dir: Path | None = None
    docker_tls_verify: bool = False
    additional_stores: tuple[Path, ...] = ()
    network_ok: bool = False
    registries_main: tuple[Path, ...] = ()
    registries_drop_ins: tuple[Path, ...] = ()
    registries_only: Path | None = None
    registries_last: Path | None = None
    registries_old_rules: bool = False
    short_names: Path | None = None
    programs: tuple[Path, ...] = ()
    keychains: tuple[str, ...] = ("cloud",)
    pull_secrets: tuple[Path, ...] = ()
    kubernetes: str | None = None
    proxies: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    offline: bool = False
    policy_files: tuple[Path, ...] = ()
    registries_d: tuple[Path, ...] = ()
    lookaside_dir: Path | None = None
    gnupg_home: Path | None = None


def load(
    environ: Mapping[str, str],
    *,
    root: Path | None = None,
    additional: Sequence[Path] = (),
    network_ok: bool = False,
    offline: bool = False,
) -> Settings:
    """Settings of this user and machine.  ``offline`` is also on with KSTORE_OFFLINE.

    ``additional`` (the --additional-store options) come before KSTORE_ADDITIONAL_STORES, which
    names directories with colons between.

    ``root`` (the --root option) beats KSTORE_ROOT, which beats the default: /var/lib/kstore for
    root, the user data directory (XDG) for everybody else.  Raises StorageError for a user without
    a home, if nothing says where the store is.
    """
    own_home = _home(environ)
    home = own_home or _NOWHERE
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    # Up to version 5, podman has all but credentials in ~/.config, whatever the variable says.
    own = tuple(dict.fromkeys(place / _CONTAINERS for place in (home / ".config", config)))
    explicit = environ.get("REGISTRY_AUTH_FILE")
    return Settings(
        root=(root or _root(environ, own_home)).absolute(),
        auth_files=(Path(explicit),) if explicit else _auth_files(environ, home, config),
        auth_file_is_explicit=bool(explicit),
        cert_search=(*(place / "certs.d" for place in own), *_SYSTEM_CERTS),
        spool_dir=Path(environ.get("TMPDIR") or _SPOOL),
        docker_host=environ.get("DOCKER_HOST") or None,
        docker_cert_dir=_path(environ.get("DOCKER_CERT_PATH")),
        docker_tls_verify=bool(environ.get("DOCKER_TLS_VERIFY")),
        additional_stores=(*additional, *_additional(environ)),
        network_ok=network_ok,
        registries_main=tuple(place / "registries.conf" for place in (*own, *_ETC)),
        registries_drop_ins=_drop_ins(own, _user(environ)),
        registries_only=_path(
            environ.get("CONTAINERS_REGISTRIES_CONF") or environ.get("REGISTRIES_CONFIG_PATH")
        ),
        registries_last=_path(environ.get("CONTAINERS_REGISTRIES_CONF_OVERRIDE")),
        registries_old_rules=_is_on(environ, "KSTORE_REGISTRIES_OLD_RULES"),
        short_names=_cache(environ, home) / "short-name-aliases.conf",
        programs=_directories(environ.get("PATH") or ""),
        keychains=_words(environ.get("KSTORE_KEYCHAINS", "cloud")),
        pull_secrets=tuple(map(Path, _words(environ.get("KSTORE_PULL_SECRETS", ""), os.pathsep))),
        kubernetes=_kubernetes(environ),
        proxies=_proxies(environ),
        offline=offline or _is_on(environ, "KSTORE_OFFLINE"),
        policy_files=(own[0] / "policy.json", _ETC[0] / "policy.json"),  # no version asks XDG
        registries_d=tuple(place / "registries.d" for place in (*own, _ETC[0])),
        lookaside_dir=_lookaside(environ, home),
        gnupg_home=_path(environ.get("GNUPGHOME")),
    )


def _is_on(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "") not in ("", "0", "false")


def _additional(environ: Mapping[str, str]) -> list[Path]:
    text = environ.get("KSTORE_ADDITIONAL_STORES") or ""
    return [Path(part) for part in text.split(os.pathsep) if part]


def _user(environ: Mapping[str, str]) -> int:
    """The ID of the user whose files count: under 'podman unshare' and the like, which make
    everybody root in a name space of their own, it is the one outside."""
    outside = environ.get(_OUTSIDE, "")
    return int(outside) if _NUMBER.fullmatch(outside) else os.geteuid()


def _drop_ins(own: Sequence[Path], user: int) -> tuple[Path, ...]:
    """The directories of configuration drop-ins, in the order of containers-config(5)."""
    name = "registries"
    by_user = [f"{name}.conf.d"]
    if user == 0:
        by_user += [f"{name}.rootful.conf.d"]
    else:
        by_user += [f"{name}.rootless.conf.d", f"{name}.rootless.conf.d/{user}"]
    system = [place / directory for place in reversed(_ETC) for directory in by_user]
    return (*system, *(place / f"{name}.conf.d" for place in reversed(own)))


def _cache(environ: Mapping[str, str], home: Path) -> Path:
    if environ.get("XDG_CACHE_HOME"):
        return Path(environ["XDG_CACHE_HOME"]) / _CONTAINERS
    return (Path("/var/cache") if _user(environ) == 0 else home / ".cache") / _CONTAINERS


def _directories(path: str) -> tuple[Path, ...]:
    """The absolute directories of PATH: a program of the current directory is never run."""
    return tuple(Path(text) for text in path.split(os.pathsep) if text.startswith("/"))


def _words(text: str, separator: str = ",") -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(separator) if word.strip())


def _kubernetes(environ: Mapping[str, str]) -> str | None:
    host = environ.get("KUBERNETES_SERVICE_HOST")
    if not host:
        return None
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{environ.get('KUBERNETES_SERVICE_PORT') or 443}"


def _proxies(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What is said of proxies; the lower-case spelling of a variable counts first."""
    said = {name: environ.get(name) or environ.get(name.upper()) for name in _PROXIES}
    return tuple((name, value) for name, value in said.items() if value)


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _home(environ: Mapping[str, str]) -> Path | None:
    """The user's directory; None for a user who has none, as in some containers."""
    try:
        return Path(environ.get("HOME") or "~").expanduser()
    except RuntimeError:  # HOME is not set, and the user is not in /etc/passwd
        return None


def _root(environ: Mapping[str, str], home: Path | None) -> Path:
    if environ.get("KSTORE_ROOT"):
        return Path(environ["KSTORE_ROOT"])
    if _user(environ) == 0:
        return SYSTEM_ROOT
    if environ.get("XDG_DATA_HOME"):
        return Path(environ["XDG_DATA_HOME"]) / "kstore"
    if home is None:
        raise StorageError(
            f"user {_user(environ)} has no home directory to keep images in",
            hint="choose a directory with --root or KSTORE_ROOT",
        )
    import platformdirs

    return platformdirs.user_data_path("kstore", appauthor=False)


def _lookaside(environ: Mapping[str, str], home: Path) -> Path:
    """Where podman and skopeo keep signatures about which nothing is said."""
    if _user(environ) == 0:
        return Path("/var/lib/containers/sigstore")
    return home / ".local/share/containers/sigstore"  # also where XDG_DATA_HOME says otherwise


def _auth_files(environ: Mapping[str, str], home: Path, config: Path) -> tuple[Path, ...]:
    """The files podman and docker keep credentials in, in podman's order."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    first = Path(runtime) if runtime else Path("/run/containers") / str(_user(environ))
    docker = Path(environ.get("DOCKER_CONFIG") or home / ".docker")
    return (
        first / ("containers/auth.json" if runtime else "auth.json"),
        config / "containers/auth.json",
        docker / "config.json",
        home / ".dockercfg",
    )
