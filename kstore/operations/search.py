"""Find repositories at a registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from kstore.errors import AuthError, InvalidInputError, KstoreError, NotFoundError, RemoteError
from kstore.reference import DEFAULT_DOMAIN, Named, has_domain
from kstore.transports import Transports
from kstore.values import dataclass

if TYPE_CHECKING:
    from kstore.registry import RegistryClient
    from kstore.registry.search import SearchHit

__all__ = ["Repository", "search_images"]

#: Names of a catalog that are looked through; beyond it, the search says so.
MAX_CATALOG = 200_000
_INDEX = "index.docker.io"  # where Docker Hub searches, and keeps no images
_OFFICIAL = "library/"
_MOST = 2000
_LONGEST_TERM = 255
_NO_CATALOG = frozenset({400, 404, 405, 501})


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository at ``registry``; ``name`` is what a pull takes.  What the registry does not
    tell is None."""

    registry: str
    name: str
    description: str | None = None
    stars: int | None = None
    official: bool | None = None
    automated: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """The repository with the keys podman uses."""
        return {
            "Index": self.registry,
            "Name": self.name,
            "Description": self.description,
            "Stars": self.stars,
            "Official": self.official,
            "Automated": self.automated,
        }


def search_images(
    transports: Transports,
    text: str,
    *,
    registry: str | None = None,
    limit: int = 25,
    filters: Sequence[str] = (),
    warn: Callable[[str], None] = lambda _: None,
) -> tuple[Repository, ...]:
    """At most ``limit`` repositories of each registry, whose name has ``text`` in it.

    ``text`` may begin with a registry (``quay.io/podman``), or ``registry`` names it; otherwise it
    is each of the configuration's ``unqualified-search-registries``, or Docker Hub without any; of
    several one that fails is warned of, unless all do.  At Docker Hub, and where a registry does
    not tell its catalog, its own word search answers.

    ``filters``: ``stars=N`` (at least), ``is-official[=false]``,
    ``is-automated[=false]``, all of which must hold; who does not tell does not meet them.
    ``warn`` hears of a search that was given up early.

    Raises InvalidInputError, AuthError, RemoteError, PolicyRejectedError.
    """
    if not 1 <= limit <= _MOST:
        raise InvalidInputError(f"the limit of a search is 1 to {_MOST}, not {limit}")
    tests = [_filter(expression) for expression in filters]
    if registry is None and has_domain(text):
        registry, _, text = text.partition("/")
    registries = transports.docker.short_names.conf.search or (DEFAULT_DOMAIN,)
    if registry is not None:
        registries = (_host(registry),)
    if len(text) > _LONGEST_TERM or not text.isprintable():
        raise InvalidInputError(f"{text[:100]!r} is not something to search for")
    found: list[Repository] = []
    failures = []
    for registry in registries:
        try:
            hits = _ask(transports, registry, text, _MOST if tests else limit, warn)
        except (NotFoundError, AuthError, RemoteError) as error:
            failures.append((registry, error))
            continue
        found += islice((hit for hit in hits if all(test(hit) for test in tests)), limit)
    if len(failures) == len(registries):
        raise failures[-1][1]
    for host, failure in failures:
        warn(f"{host} was not searched: {failure}")
    return tuple(found)


def _host(registry: str) -> str:
    if not has_domain(f"{registry}/x"):
        raise InvalidInputError(f"{registry[:200]!r} is not a registry, HOST.DOMAIN or HOST:PORT")
    return Named.parse(f"{registry}/x").domain


def _ask(
    transports: Transports, registry: str, term: str, count: int, warn: Callable[[str], None]
) -> Iterable[Repository]:
    if registry == DEFAULT_DOMAIN:
        if not term:
            raise InvalidInputError(f"say what to search for at {registry}")
        transports.docker.short_names.conf.check_allowed(registry)
        hits = transports.docker.client(_INDEX).search(term, count)
        return (_hit(registry, hit) for hit in hits)
    client = transports.docker.client(registry)
    refused: KstoreError | None = None
    try:
        found = list(islice(_in_catalog(client, registry, term, warn), count))
    except (NotFoundError, AuthError, RemoteError) as exc:
        if isinstance(exc, RemoteError) and exc.status not in _NO_CATALOG:
            raise
        found, refused = [], exc
    if not found and term:
        # Registries of many users do not tell all their names, and have a search instead.
        try:
            found = [_hit(registry, hit) for hit in client.search(term, count)]
            refused = None
        except (AuthError, RemoteError) as exc:
            # A plain refusal means no such search; what the catalog said stands then.
            if isinstance(exc, RemoteError) and exc.status is None:
                raise
    if refused is not None:
        raise refused
    return found


def _in_catalog(
    client: RegistryClient, registry: str, term: str, warn: Callable[[str], None]
) -> Iterable[Repository]:
    wanted = term.lower()
    for number, path in enumerate(client.catalog()):
        if number >= MAX_CATALOG:
            warn(f"only the first {MAX_CATALOG} repositories of {registry} were looked through")
            return
        if wanted in path:
            yield Repository(registry, f"{registry}/{path}")


def _hit(registry: str, hit: SearchHit) -> Repository:
    path = hit.name.removeprefix(f"{registry}/")
    if registry == DEFAULT_DOMAIN and "/" not in path:
        path = _OFFICIAL + path
    return Repository(
        registry, f"{registry}/{path}", hit.description, hit.stars, hit.official, hit.automated
    )


# ---- filters


def _filter(expression: str) -> Callable[[Repository], bool]:
    key, equals, value = expression.partition("=")
    make = _FILTERS.get(key)
    if make is None:
        known = ", ".join(_FILTERS)
        raise InvalidInputError(f"unknown filter {key[:100]!r} (known: {known})")
    return make(value if equals else "true")


def _stars(value: str) -> Callable[[Repository], bool]:
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise InvalidInputError(f"filter stars= takes a number, not {value[:100]!r}")
    least = int(value)
    return lambda found: found.stars is not None and found.stars >= least


def _is(
    key: str, fact: Callable[[Repository], bool | None]
) -> Callable[[str], Callable[[Repository], bool]]:
    def make(value: str) -> Callable[[Repository], bool]:
        if value not in ("true", "false"):
            raise InvalidInputError(f"filter {key}= takes true or false, not {value[:100]!r}")
        return lambda found: fact(found) is (value == "true")

    return make


_FILTERS: Mapping[str, Callable[[str], Callable[[Repository], bool]]] = {
    "stars": _stars,
    "is-official": _is("is-official", lambda found: found.official),
    "is-automated": _is("is-automated", lambda found: found.automated),
}
