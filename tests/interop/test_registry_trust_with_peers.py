"""One machine's configuration, read by kstore and by skopeo: certificates, logins, mirrors, blocks.

The registry is Debian's docker-registry, with passwords and a certificate of a private authority.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kstore.reference import Named
from kstore.registry.registriesfiles import RegistriesPaths, load_registries
from kstore.registry.shortnames import ShortNames
from tests.support.cli import Result, run
from tests.support.dockerregistry import DockerRegistry
from tests.support.faultserver import FaultServer, make_authority
from tests.support.images import TestImage, random_image, write_oci_layout
from tests.support.programs import require_program

pytestmark = pytest.mark.peer

# The bcrypt hash of "s3cret-word", cost 5.
HTPASSWD = "ann:$2y$05$abcdefghijklmnopqrstuuEpHRRKIlpAGo.iP7Bpa.htQEJMAAnRe\n"
PASSWORD = b"s3cret-word\n"
IMAGE = random_image(1)
OTHER = random_image(2)


@dataclass
class Machine:
    """A user's home, and the two programs run in it."""

    home: Path
    config: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.config or self.home / ".config"),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            "XDG_DATA_HOME": str(self.home / "data"),
        }

    @property
    def configuration(self) -> Path:
        return self.home / ".config/containers/registries.conf"

    @property
    def root(self) -> Path:
        return self.home / "store"

    def kstore(self, *arguments: object, stdin: bytes | None = None) -> Result:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            return run("--root", self.root, *arguments, stdin=stdin)

    def skopeo(self, *arguments: object, stdin: bytes = b"") -> Result:
        done = subprocess.run(
            [require_program("skopeo"), *map(str, arguments)],
            env={"PATH": "/usr/bin:/bin", **self.environment},
            input=stdin,
            capture_output=True,
            timeout=60,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path / "home")
    (machine.home / "run").mkdir(parents=True)
    machine.configuration.parent.mkdir(parents=True)
    return machine


@pytest.fixture
def secured(tmp_path: Path, machine: Machine) -> Iterator[DockerRegistry]:
    """A registry that takes ann only, with a certificate this machine trusts for it."""
    authority, pair = make_authority(tmp_path)
    with DockerRegistry(tmp_path, auth=HTPASSWD, tls=pair) as registry:
        place = machine.home / ".config/containers/certs.d" / registry.host
        place.mkdir(parents=True)
        (place / "ca.crt").write_bytes(authority.read_bytes())
        yield registry


def test_a_private_authority_is_trusted_for_its_registry_alone(
    machine: Machine, secured: DockerRegistry
) -> None:
    arguments = ("login", "-u", "ann", "--password-stdin", secured.host)
    assert machine.kstore(*arguments, stdin=PASSWORD).code == 0
    (machine.home / ".config/containers/certs.d" / secured.host).rename(machine.home / "certs")
    refused = machine.kstore(*arguments, stdin=PASSWORD)
    assert refused.code == 8
    assert "is not trusted" in refused.err
    given = machine.kstore(*arguments, "--cert-dir", machine.home / "certs", stdin=PASSWORD)
    assert given.code == 0, given.err


def test_a_login_is_checked_and_wrong_ones_are_kept_nowhere(
    machine: Machine, secured: DockerRegistry
) -> None:
    wrong = machine.kstore(
        "login", "-u", "ann", "--password-stdin", secured.host, stdin=b"wrong-guess\n"
    )
    assert wrong.code == 9
    assert "wrong-guess" not in wrong.err
    assert list((machine.home / "run").iterdir()) == []


@pytest.mark.parametrize("first", ["kstore", "skopeo"])
def test_a_login_of_one_program_serves_the_other(
    machine: Machine, secured: DockerRegistry, tmp_path: Path, first: str
) -> None:
    layout = tmp_path / "layout"
    write_oci_layout(layout, {"v1": IMAGE})
    log_in = ("login", "-u", "ann", "--password-stdin", secured.host)
    name = f"docker://{secured.host}/team/app:v1"
    one, two = machine.kstore, machine.skopeo
    if first == "skopeo":
        one, two = two, one
    done = one(*log_in, stdin=PASSWORD)
    assert done.code == 0, done.err
    assert (machine.home / "run/containers/auth.json").stat().st_mode & 0o777 == 0o600
    for attempt in (
        two("copy", f"oci:{layout}:v1", name),
        one("inspect", name),
        two("inspect", name),
    ):
        assert attempt.code == 0, attempt.err
    assert two("login", "--get-login", secured.host).out == one(
        "login", "--get-login", secured.host
    ).out  # fmt: skip
    assert two("logout", secured.host).code == 0
    assert one("inspect", name).code != 0
    assert one("login", "--get-login", secured.host).code != 0


# ---- registries.conf


def offer(server: FaultServer, image: TestImage, *paths: str) -> None:
    for path in paths:
        for data in image.blobs.values():
            server.add_blob(data, path)
        server.add_manifest(image.raw.data, image.raw.media_type, path, "v1")


@pytest.fixture
def servers() -> Iterator[tuple[FaultServer, FaultServer]]:
    """A registry, and a mirror whose tag means another image."""
    with FaultServer() as primary, FaultServer() as mirror:
        offer(primary, IMAGE, "team/app", "only/here", "deep/team/app")
        offer(primary, IMAGE, "shut/team/app", "shut/only/here")
        offer(mirror, OTHER, "team/app", "mirrored/app", "shut/only/here")
        for data in IMAGE.blobs.values():
            mirror.add_blob(data, "team/app")
        yield primary, mirror


TABLES = """
[[registry]]
prefix = "plain.test"
location = "{primary}"
insecure = true

[[registry]]
prefix = "moved.test/old"
location = "{primary}/team"
insecure = true

[[registry]]
prefix = "moved.test/old/secret"
location = "{primary}/team"
insecure = true
blocked = false

[[registry]]
prefix = "moved.test/old/closed"
location = "elsewhere.test"
blocked = true

[[registry]]
prefix = "*.wild.test"
location = "{primary}/deep"
insecure = true

[[registry]]
prefix = "mirrored.test"
location = "{primary}"
insecure = true
[[registry.mirror]]
location = "{mirror}"
insecure = true

[[registry]]
prefix = "digests.test"
location = "{primary}"
insecure = true
mirror-by-digest-only = true
[[registry.mirror]]
location = "{mirror}"
insecure = true

[[registry]]
prefix = "tags.test"
location = "{primary}"
insecure = true
[[registry.mirror]]
location = "{mirror}"
insecure = true
pull-from-mirror = "tag-only"

[[registry]]
prefix = "closed.test"
location = "closed.test"
blocked = true
[[registry.mirror]]
location = "{mirror}"
insecure = true

[[registry]]
prefix = "indirect.test"
location = "{primary}/shut"
insecure = true
[[registry.mirror]]
location = "{mirror}/shut"
insecure = true

[[registry]]
prefix = "{primary}/shut/team"
location = "{primary}/shut/team"
insecure = true
blocked = true

[[registry]]
prefix = "{mirror}/shut/only"
location = "{mirror}/shut/only"
insecure = true
blocked = true

[[registry]]
prefix = "dead.test"
location = "{primary}"
insecure = true
[[registry.mirror]]
location = "127.0.0.1:1"
insecure = true
[[registry.mirror]]
location = "{mirror}/nothing"
insecure = true
"""

BY_DIGEST = f"@{IMAGE.raw.digest}"

#: A name, and the image both programs must find; None where both must fail.
CASES: dict[str, TestImage | None] = {
    "plain.test/team/app:v1": IMAGE,
    "plain.test/team/absent:v1": None,
    "plain.test/team/app:absent": None,
    "plain.test.evil.test/team/app:v1": None,
    "moved.test/old/app:v1": IMAGE,
    "moved.test/older/app:v1": None,
    "moved.test/old/closed:v1": None,
    "moved.test/old/closed/app:v1": None,
    "a.wild.test/team/app:v1": IMAGE,
    "a.b.wild.test/team/app:v1": IMAGE,
    "wild.test/team/app:v1": None,
    "mirrored.test/team/app:v1": OTHER,
    f"mirrored.test/team/app{BY_DIGEST}": IMAGE,
    "mirrored.test/only/here:v1": IMAGE,
    "digests.test/team/app:v1": IMAGE,
    f"digests.test/team/app{BY_DIGEST}": IMAGE,
    "tags.test/team/app:v1": OTHER,
    f"tags.test/team/app{BY_DIGEST}": IMAGE,
    "tags.test/mirrored/app:v1": OTHER,
    "digests.test/mirrored/app:v1": None,
    "dead.test/team/app:v1": IMAGE,
    "closed.test/team/app:v1": OTHER,
    "closed.test/only/here:v1": None,
    "indirect.test/team/app:v1": None,
    "indirect.test/only/here:v1": IMAGE,
}


@pytest.mark.parametrize("name", CASES, ids=range(len(CASES)))
def test_both_programs_find_the_same_image_by_one_configuration(
    machine: Machine, servers: tuple[FaultServer, FaultServer], name: str
) -> None:
    primary, mirror = servers
    machine.configuration.write_text(TABLES.format(primary=primary.host, mirror=mirror.host))
    expected = CASES[name]
    theirs = machine.skopeo("inspect", "--raw", f"docker://{name}")
    ours = machine.kstore("inspect", "--raw", f"docker://{name}")
    if expected is None:
        assert (theirs.code != 0, ours.code != 0) == (True, True), (theirs.out, ours.out)
        return
    assert theirs.out == expected.raw.data.decode(), theirs.err
    assert ours.out == expected.raw.data.decode(), ours.err
    pulled = machine.kstore("pull", "--quiet", name)
    assert pulled.out.strip() == expected.id, pulled.err


MISTAKES = [
    "[[registry]]\n",
    '[[registry]]\nprefix = "r.test"\n',
    '[[registry]]\nprefix = "*.r.test/x"\n',
    '[[registry]]\nlocation = "https://r.test"\n',
    '[[registry]]\nlocation = "r.test"\n[[registry.mirror]]\n',
    '[[registry]]\nlocation = "r.test"\npull-from-mirror = "all"\n',
    '[[registry]]\nlocation = "r.test"\nmirror-by-digest-only = true\n'
    '[[registry.mirror]]\nlocation = "m.test"\npull-from-mirror = "all"\n',
    '[[registry]]\nprefix = "a.test"\nlocation = "r.test"\n'
    '[[registry]]\nprefix = "b.test"\nlocation = "r.test"\nblocked = true\n',
    'unqualified-search-registries = ["https://r.test"]\n',
    'short-name-mode = "maybe"\n',
    '[registries.search]\nregistries = ["s.test"]\n[[registry]]\nlocation = "r.test"\n',
    "unqualified-search-registries = [\n",
]


@pytest.mark.parametrize("text", MISTAKES, ids=range(len(MISTAKES)))
def test_what_skopeo_refuses_in_a_configuration_kstore_refuses_too(
    machine: Machine, servers: tuple[FaultServer, FaultServer], text: str
) -> None:
    machine.configuration.write_text(text)
    name = f"docker://{servers[0].host}/team/app:v1"
    ours = machine.kstore("inspect", "--raw", "--tls-verify=false", name)
    assert ours.code == 2, ours.out
    assert str(machine.configuration) in ours.err
    theirs = machine.skopeo("inspect", "--raw", "--tls-verify=false", name)
    assert theirs.code != 0, theirs.out


@pytest.mark.parametrize("name", ["registries.conf", "registries.conf.d/x.conf", "policy.json"])
def test_a_users_files_count_for_both_where_xdg_has_another_place_for_them(
    machine: Machine, tmp_path: Path, name: str
) -> None:
    """Debian's programs look below ~/.config whatever XDG_CONFIG_HOME says."""
    write_oci_layout(tmp_path / "layout", {"v1": IMAGE})
    machine.config = machine.home / "xdg"
    file = machine.home / ".config/containers" / name
    file.parent.mkdir(exist_ok=True)
    words, reason = ["inspect", "docker://127.0.0.1:1/app:v1"], "blocked"
    if name == "policy.json":
        file.write_text('{"default": [{"type": "reject"}]}')
        words, reason = ["copy", f"oci:{tmp_path}/layout:v1", f"dir:{tmp_path}/to"], "rejected"
    else:
        file.write_text('[[registry]]\nlocation = "127.0.0.1:1"\nblocked = true\n')
    for result in (machine.kstore(*words), machine.skopeo(*words)):
        assert result.code != 0
        assert reason in result.err


def test_the_aliases_the_distribution_ships_are_understood() -> None:
    shipped = Path("/etc/containers/registries.conf.d/shortnames.conf")
    require_program("podman")
    if not shipped.exists():
        pytest.skip("this distribution ships no short names")
    conf = load_registries(RegistriesPaths(drop_ins=(shipped.parent,)))
    assert conf.warnings == ()
    names = ShortNames(conf)
    assert len(conf.aliases) > 50
    for alias, repository in conf.aliases.items():
        resolved = names.resolve(f"{alias}:1")
        assert resolved is not None
        assert [str(named) for named in resolved.candidates] == [f"{Named.parse(repository)}:1"]


def test_a_credential_helper_of_the_configuration_is_asked_by_both(
    machine: Machine, secured: DockerRegistry
) -> None:
    """Both read credHelpers of docker's file; skopeo's own helper protocol is ours."""
    place = machine.home / ".docker"
    place.mkdir()
    (place / "config.json").write_text(json.dumps({"credHelpers": {secured.host: "gone"}}))
    name = f"docker://{secured.host}/team/app:v1"
    ours, theirs = machine.kstore("inspect", name), machine.skopeo("inspect", name)
    assert (ours.code, theirs.code != 0) == (9, True)
    assert "docker-credential-gone" in ours.err
    assert "docker-credential-gone" in theirs.err
