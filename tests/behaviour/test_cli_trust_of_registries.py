"""The machine's registry configuration and credentials, as the command line honours them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.platforms import Platform
from kstore.store import Store
from tests.support.attachments import cosign_attachment, cosign_tag
from tests.support.cli import Result, run, run_on_terminal
from tests.support.credentialprogram import answer, install
from tests.support.faultserver import Basic, Bearer, Fault, FaultServer, make_certificate
from tests.support.images import TestImage, random_image
from tests.support.stores import put_image

IMAGE = random_image(1)
LARGE = random_image(3, layers=1, layer_size=3_000_000)
NAME = "registry.test/team/app:v1"

Configure = Callable[[str], Path]


def offer(server: FaultServer, image: TestImage, path: str = "team/app") -> None:
    for data in image.blobs.values():
        server.add_blob(data, path)
    server.add_manifest(image.raw.data, image.raw.media_type, path, "v1")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        offer(server, IMAGE)
        yield server


@pytest.fixture
def other() -> Iterator[FaultServer]:
    with FaultServer() as server:
        offer(server, IMAGE)
        yield server


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Write the registries.conf of this test."""

    def write(text: str) -> Path:
        file = tmp_path / "registries.conf"
        file.write_text(text)
        monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(file))
        return file

    return write


def registry(prefix: str, location: str, *mirrors: str, more: str = "") -> str:
    text = f'[[registry]]\nprefix = "{prefix}"\nlocation = "{location}"\n{more}\n'
    for mirror in mirrors:
        text += f'[[registry.mirror]]\nlocation = "{mirror}"\ninsecure = true\n'
    return text


def kstore(root: Path, *args: object) -> Result:
    return run("--root", root, *args)


def test_an_image_comes_from_a_mirror_under_its_own_name(
    root: Path, server: FaultServer, configure: Configure
) -> None:
    configure(registry("registry.test", "registry.test", server.host))
    result = kstore(root, "pull", "--quiet", NAME)
    assert (result.code, result.out.strip()) == (0, IMAGE.id), result.err
    with Store.open(root) as store:
        assert str(store.find_image(NAME).name) == NAME


def test_a_layer_is_finished_by_the_second_mirror_when_the_first_dies(
    root: Path, server: FaultServer, other: FaultServer, configure: Configure
) -> None:
    offer(server, LARGE)
    offer(other, LARGE)
    layer = str(LARGE.layers[0].digest)
    server.fault(Fault(reset_after=1_000_000), "GET", layer)
    server.fault(Fault(status=502), "GET", layer, times=99)
    configure(registry("registry.test", "registry.test", server.host, other.host))
    result = kstore(root, "pull", "--quiet", NAME)
    assert (result.code, result.out.strip()) == (0, LARGE.id), result.err
    (rest,) = other.seen("GET", layer)
    assert rest.headers["range"].startswith("bytes=")


def spoil(server: FaultServer, *digests: Digest) -> None:
    """Have the server send complete blobs of the right size and with wrong bytes."""
    blobs = server.blobs["team/app"]
    for digest in map(str, digests):
        blobs[digest] = blobs[digest][:-1] + bytes([blobs[digest][-1] ^ 1])


@pytest.mark.parametrize(
    "target",
    ["kstore:app", "dir:{}", "oci:{}", "oci-archive:{}", "docker-archive:{}", "docker://{host}/to"],
    ids=lambda target: target.partition(":")[0],
)
@pytest.mark.parametrize("what", ["layer", "config"])
def test_wrong_bytes_of_every_mirror_are_fetched_from_the_next_server(
    root: Path,
    tmp_path: Path,
    server: FaultServer,
    other: FaultServer,
    configure: Configure,
    target: str,
    what: str,
) -> None:
    blob = IMAGE.layers[0].digest if what == "layer" else Digest.of(IMAGE.config)
    with FaultServer() as origin:
        offer(origin, IMAGE)
        spoil(server, blob)
        spoil(other, blob)
        text = registry("registry.test", origin.host, server.host, other.host)
        configure(text.replace("location", "insecure = true\nlocation", 1))
        place = target.replace("{host}", origin.host).replace("{}", str(tmp_path / "copy"))
        result = kstore(root, "copy", "--dest-tls-verify=false", f"docker://{NAME}", place)
        assert result.code == 0, result.err
        for mirror in (server, other):
            assert len(mirror.seen("GET", str(blob))) == 1
            assert f"mirror {mirror.host}/team/app sent wrong bytes" in result.err
        fetched = [each for each in origin.seen("GET", str(blob)) if "/team/" in each.target]
        assert len(fetched) == 1
        first = IMAGE.layers[1] if what == "layer" else IMAGE.layers[0]
        assert len(server.seen("GET", str(first.digest))) == 1, "its other blobs are still wanted"


def test_a_changed_layer_is_made_of_what_the_next_server_sends(
    root: Path, tmp_path: Path, server: FaultServer, other: FaultServer, configure: Configure
) -> None:
    spoil(server, *(layer.digest for layer in IMAGE.layers))
    configure(registry("registry.test", "registry.test", server.host, other.host))
    target = f"oci:{tmp_path}/copy:v1"
    result = kstore(root, "copy", "--compress=none", f"docker://{NAME}", target)
    assert result.code == 0, result.err
    for layer in IMAGE.layers:
        assert len(other.seen("GET", str(layer.digest))) == 1


def test_a_config_that_is_only_looked_at_comes_from_the_next_server_too(
    root: Path, server: FaultServer, other: FaultServer, configure: Configure
) -> None:
    spoil(server, Digest.of(IMAGE.config))
    configure(registry("registry.test", "registry.test", server.host, other.host))
    result = kstore(root, "inspect", "--config", f"docker://{NAME}")
    assert result.code == 0, result.err
    assert json.loads(result.out) == json.loads(IMAGE.config)


def test_wrong_bytes_everywhere_are_refused_and_nothing_stays(
    root: Path, server: FaultServer, other: FaultServer, configure: Configure
) -> None:
    spoil(server, IMAGE.layers[0].digest)
    spoil(other, IMAGE.layers[0].digest)
    configure(registry("registry.test", other.host, server.host, more="insecure = true"))
    result = kstore(root, "pull", NAME)
    assert result.code == 5
    assert f"bytes sent as {IMAGE.layers[0].digest} hash to" in result.err
    assert [len(each.seen("GET", str(IMAGE.layers[0].digest))) for each in (server, other)] == [
        1,
        1,
    ]
    assert kstore(root, "images", "-q").out == ""


def test_a_pull_that_no_server_can_serve_names_every_reason(
    root: Path, server: FaultServer, other: FaultServer, configure: Configure
) -> None:
    server.manifests.clear()
    other.auth = Basic(("ann", "secret"))
    configure(
        registry("registry.test", server.host, other.host, "127.0.0.1:1", more="insecure = true")
    )
    result = kstore(root, "pull", NAME)
    assert result.code == 3
    assert f"{server.host} has no manifest team/app:v1" in result.err
    assert f"mirror {other.host}/team/app: {other.host} refuses anonymous access" in result.err
    assert "mirror 127.0.0.1:1/team/app: 127.0.0.1:1 cannot be reached" in result.err


def test_credentials_for_a_name_are_not_shown_to_its_mirror(
    root: Path, server: FaultServer, configure: Configure, tmp_path: Path
) -> None:
    server.auth = Basic(("ann", "secret"))
    configure(registry("registry.test", "127.0.0.1:1", server.host))
    given = kstore(root, "pull", "--creds", "ann:secret", NAME)
    assert given.code != 0
    entry = base64.b64encode(b"ann:secret").decode()
    kept = tmp_path / "auth.json"
    kept.write_text(json.dumps({"auths": {"registry.test": {"auth": entry}}}))
    assert kstore(root, "pull", "--authfile", kept, NAME).code != 0
    assert all("authorization" not in request.headers for request in server.requests)
    kept.write_text(json.dumps({"auths": {server.host: {"auth": entry}}}))
    assert kstore(root, "pull", "--authfile", kept, NAME).code == 0


def test_a_registry_is_insecure_if_the_file_says_so_and_the_user_does_not_mind(
    root: Path, server: FaultServer, configure: Configure
) -> None:
    name = f"{server.host}/team/app:v1"
    assert kstore(root, "pull", name).code == 8
    configure(registry(server.host, server.host, more="insecure = true"))
    assert kstore(root, "pull", "--tls-verify", name).code == 8
    assert kstore(root, "pull", name).code == 0
    assert kstore(root, "push", name, f"{server.host}/team/copy:v1").code == 0
    assert kstore(root, "list-tags", f"docker://{server.host}/team/app").code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["pull", "{}/team/app:v1"],
        ["push", "local", "{}/team/app:v1"],
        ["copy", "docker://{}/team/app:v1", "dir:{}"],
        ["inspect", "docker://{}/team/app:v1"],
        ["list-tags", "docker://{}/team/app"],
        ["delete", "docker://{}/team/app:v1"],
        ["search", "{}/app"],
        ["login", "-u", "ann", "-p", "secret", "{}"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_blocked_registry_is_not_asked_by_anybody(
    root: Path, server: FaultServer, configure: Configure, arguments: list[str], tmp_path: Path
) -> None:
    with Store.open(root) as store:
        put_image(store, IMAGE, "localhost/local:latest")
    file = configure(registry(server.host, server.host, more="blocked = true\ninsecure = true"))
    result = kstore(root, *(text.replace("{}", server.host) for text in arguments))
    assert result.code == 7, result.err
    assert f"is blocked: {file} blocks the registry {server.host}" in result.err
    assert server.connections == 0


def test_mirrors_of_a_blocked_registry_serve_and_it_is_not_asked(
    root: Path, server: FaultServer, other: FaultServer, configure: Configure
) -> None:
    text = registry(
        "registry.test", server.host, other.host, more="insecure = true\nblocked = true"
    )
    file = configure(text)
    result = kstore(root, "pull", "--quiet", NAME)
    assert (result.code, result.out.strip()) == (0, IMAGE.id), result.err
    other.manifests.clear()
    result = kstore(root, "pull", NAME)
    assert result.code == 3
    assert f"{other.host} has no manifest team/app:v1 (registry.test/team/app " in result.err
    assert f"is blocked: {file} blocks the registry registry.test" in result.err
    blocked = registry(server.host, server.host, more="insecure = true\nblocked = true")
    configure(registry("registry.test", f"{server.host}/x", more="insecure = true") + blocked)
    result = kstore(root, "pull", NAME)
    assert (result.code, f"{server.host}/x/team/app is blocked" in result.err) == (7, True)
    assert server.connections == 0


@pytest.mark.parametrize("blocked", [False, True])
def test_whatever_reads_an_image_goes_where_its_table_says(
    root: Path, server: FaultServer, configure: Configure, tmp_path: Path, blocked: bool
) -> None:
    """The registry itself is not there, or must not be asked."""
    note, tag = cosign_attachment(b"note"), cosign_tag(IMAGE.raw.digest, "att")
    for path in ("other/app", "team/app"):
        offer(server, IMAGE, path)
        for data in note.blobs.values():
            server.add_blob(data, path)
        server.add_manifest(note.raw.data, note.raw.media_type, path, tag)
    rewritten = registry("registry.test/team", f"{server.host}/other", more="insecure = true")
    mirrored = registry("registry.test", "registry.test", server.host, more="blocked = true")
    configure(mirrored if blocked else rewritten)
    there = f"docker://{NAME}"
    for words in (
        ("inspect", there),
        ("pull", "--with-referrers", NAME),
        ("copy", "--with-referrers", there, f"oci:{tmp_path}/copied:v1"),
        ("sync", "--src", "docker", "--dest", "dir", NAME, tmp_path / "synced"),
    ):
        result = kstore(root, *words)
        assert result.code == 0, (words, result.err)
    listed = kstore(root, "referrers", "-q", "--no-trunc", there)
    assert (listed.code, listed.out.split()) == (0, [str(note.raw.digest)]), listed.err


def test_a_users_own_configuration_is_read_and_what_is_odd_is_told(
    root: Path, server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / ".config/containers/registries.conf.d"
    place.mkdir(parents=True)
    (place.parent / "registries.conf").write_text(
        'flavour = "x"\n' + registry("registry.test", "127.0.0.1:1")
    )
    (place / "mine.conf").write_text(registry("registry.test", "registry.test", server.host))
    result = kstore(root, "pull", "--quiet", NAME)
    assert result.code == 0, result.err
    assert result.err.count("the key 'flavour' is unknown") == 1
    (place / "broken.conf").write_text('\n\nx = "\n')
    result = kstore(root, "pull", NAME)
    assert result.code == 2
    assert f"{place}/broken.conf is not valid TOML" in result.err
    assert "line 3" in result.err


# ---- short names


def test_a_short_name_means_what_its_alias_says(
    root: Path, server: FaultServer, configure: Configure
) -> None:
    configure(
        f'[aliases]\n"my-app" = "{server.host}/team/app"\n'
        + registry(server.host, server.host, more="insecure = true")
    )
    result = kstore(root, "pull", "my-app:v1")
    assert result.code == 0, result.err
    with Store.open(root) as store:
        assert str(store.find_image(IMAGE.id).image.names[0].name) == f"{server.host}/team/app:v1"


@pytest.mark.parametrize("how", ["alias", "search"])
def test_what_was_pulled_by_a_short_name_is_found_by_it(
    root: Path, server: FaultServer, configure: Configure, how: str
) -> None:
    said = {
        "alias": f'[aliases]\n"team/app" = "{server.host}/team/app"\n',
        "search": f'unqualified-search-registries = ["elsewhere.test", "{server.host}"]\n',
    }
    file = configure(said[how] + registry(server.host, server.host, more="insecure = true"))
    assert kstore(root, "pull", "team/app:v1").code == 0
    shown = kstore(root, "images", "-q", "--no-trunc")
    for command in (["inspect", "--format", "{{.Id}}"], ["history", "-q"], ["tag"], ["rmi"]):
        result = kstore(root, *command, "team/app:v1", *(["x:1"] if command == ["tag"] else []))
        assert result.code == 0, (command, result.err)
    assert IMAGE.id[:12] in shown.out
    result = kstore(root, "inspect", "team/app:v1")
    assert (result.code, "no image" in result.err) == (3, True)
    file.write_text("broken [")
    assert kstore(root, "inspect", "localhost/x:1").code == 0, "it is not read for a full name"
    assert kstore(root, "inspect", "x:1").code == 0, "nor for a name that is here"
    result = kstore(root, "inspect", "team/app:v1")
    assert (result.code, "is not valid TOML" in result.err) == (2, True)


def test_registries_are_searched_in_order_and_their_reasons_told(
    root: Path, server: FaultServer, other: FaultServer, configure: Configure
) -> None:
    search = f'unqualified-search-registries = ["{other.host}", "{server.host}"]\n'
    tables = registry(server.host, server.host, more="insecure = true")
    tables += registry(other.host, other.host, more="insecure = true")
    other.manifests.clear()
    configure(search + tables)
    assert kstore(root, "pull", "team/app:v1").code == 0
    server.manifests.clear()
    result = kstore(root, "pull", "team/app:v1")
    assert result.code == 3
    assert f"{server.host} has no manifest" in result.err
    assert f"before that, {other.host}: {other.host} has no manifest" in result.err
    configure('short-name-mode = "enforcing"\n' + search + tables)
    asked = len(server.requests) + len(other.requests)
    result = kstore(root, "pull", "team/app:v1")
    assert result.code == 2
    assert "enforcing wants one to be chosen" in result.err
    assert len(server.requests) + len(other.requests) == asked


def test_a_search_without_a_registry_asks_all_that_short_names_may_mean(
    root: Path, server: FaultServer, other: FaultServer, configure: Configure
) -> None:
    offer(other, IMAGE, "other/app")
    hosts = [server.host, "127.0.0.1:1", other.host]
    configure(
        f"unqualified-search-registries = {json.dumps(hosts)}\n"
        + registry(server.host, server.host, more="insecure = true")
        + registry(other.host, other.host, more="insecure = true")
    )
    result = kstore(root, "search", "--format", "{{.Name}}", "app")
    assert result.code == 0, result.err
    assert result.out.splitlines() == [
        f"{server.host}/team/app",
        f"{other.host}/other/app",
        f"{other.host}/team/app",
    ]
    assert "127.0.0.1:1 was not searched: 127.0.0.1:1 cannot be reached" in result.err
    limited = kstore(root, "search", "--limit", "1", "--format", "{{.Name}}", "app")
    assert len(limited.out.splitlines()) == 2
    alone = kstore(root, "search", f"{other.host}/other")
    assert alone.out.count(other.host) == 1
    configure('unqualified-search-registries = ["127.0.0.1:1"]\n')
    assert kstore(root, "search", "app").code == 8


def test_a_mirror_needs_a_trusted_certificate_unless_its_own_table_says_otherwise(
    root: Path, server: FaultServer, configure: Configure, tmp_path: Path
) -> None:
    """What is allowed for the registry is not allowed for its mirror."""
    with FaultServer(tls=make_certificate(tmp_path)) as mirror:
        offer(mirror, IMAGE)
        text = registry("registry.test", server.host, more="insecure = true")
        strict = f'[[registry.mirror]]\nlocation = "{mirror.host}"\n'
        configure(text + strict)
        result = kstore(root, "pull", NAME)
        assert result.code == 0, result.err
        assert (mirror.requests, len(server.requests) > 0) == ([], True)
        server.manifests.clear()
        result = kstore(root, "pull", NAME)
        assert result.code == 3
        assert "is not trusted" in result.err
        configure(text + strict + "insecure = true\n")
        assert kstore(root, "pull", NAME).code == 0


def test_on_a_terminal_the_user_chooses_and_the_choice_is_kept(
    root: Path, server: FaultServer, configure: Configure, tmp_path: Path
) -> None:
    configure(
        f'unqualified-search-registries = ["elsewhere.test", "{server.host}"]\n'
        + registry(server.host, server.host, more="insecure = true")
    )
    pull = ("--root", root, "pull", "--quiet", "team/app:v1")
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    code, screen = run_on_terminal(*pull, env=env, answers=[("Which one (1): ", "7")])
    assert code == 2
    assert "'7' is not a number from 1 to 2" in screen
    code, screen = run_on_terminal(*pull, env=env, answers=[("Which one (1): ", "2")])
    assert (code, IMAGE.id in screen) == (0, True), screen
    assert f"2  {server.host}/team/app:v1" in screen
    code, screen = run_on_terminal(*pull, env=env)
    assert (code, "Which one" in screen) == (0, False), screen


@pytest.mark.parametrize("name", [NAME, f"registry.test/team/app@{IMAGE.raw.digest}", "short:v1"])
def test_an_image_that_is_in_the_store_needs_no_registry_where_only_a_missing_one_is_wanted(
    root: Path, server: FaultServer, configure: Configure, name: str
) -> None:
    aliases = '[aliases]\n"short" = "registry.test/team/app"\n'
    configure(registry("registry.test", server.host, more="insecure = true") + aliases)
    missing = kstore(root, "pull", "--if-missing", name)
    assert (missing.code, missing.out.strip()) == (0, IMAGE.id), missing.err
    before = server.connections
    offline = run("--offline", "--root", root, "pull", name)
    assert offline.code == 8
    assert "or with --if-missing, as " in offline.err
    for words in (["--offline"], []):
        result = run(*words, "--root", root, "pull", "--if-missing", name)
        assert (result.code, result.out.strip()) == (0, IMAGE.id), result.err
        assert "is in the store already" in result.err
    assert server.connections == before


def test_an_image_for_another_platform_is_missing_where_one_is_asked_for(
    root: Path, server: FaultServer, configure: Configure
) -> None:
    configure(registry("registry.test", server.host, more="insecure = true"))
    assert kstore(root, "pull", "-q", NAME).code == 0
    other = random_image(9, platform=Platform("linux", "riscv64"))
    offer(server, other)
    assert kstore(root, "pull", "-q", "--if-missing", NAME).out.strip() == IMAGE.id
    result = kstore(root, "pull", "-q", "--if-missing", "--platform=linux/riscv64", NAME)
    assert (result.code, result.out.strip()) == (0, other.id), result.err


def test_of_many_tags_only_the_missing_ones_are_fetched(
    root: Path, server: FaultServer, configure: Configure
) -> None:
    configure(registry(server.host, server.host, more="insecure = true"))
    name = f"{server.host}/team/app"
    assert kstore(root, "pull", "-q", f"{name}:v1").code == 0
    second = random_image(9)
    for data in second.blobs.values():
        server.add_blob(data)
    server.add_manifest(second.raw.data, second.raw.media_type, "team/app", "v2")
    asked = len(server.seen("GET", "/manifests/v1"))
    result = kstore(root, "pull", "--all-tags", "--if-missing", name)
    assert (result.code, result.out.split()) == (0, [IMAGE.id, second.id]), result.err
    assert len(server.seen("GET", "/manifests/v1")) == asked
    assert kstore(root, "pull", "--if-missing", "--with-referrers", name).code == 2


# ---- credentials


def test_a_helper_of_dockers_configuration_is_asked(
    root: Path, server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.auth = Bearer(user=("ann", "secret"))
    entries = install(tmp_path / "bin", "tests")
    (entries / server.host).write_text(answer("ann", "secret"))
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/config.json").write_text(
        json.dumps({"credHelpers": {server.host: "tests"}})
    )
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    name = f"{server.host}/team/app:v1"
    result = kstore(root, "pull", "--tls-verify=false", name)
    assert result.code == 0, result.err
    assert (entries / "runs").read_text().count("get") == 1
    assert kstore(root, "login", "--get-login", server.host).out == "ann\n"
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    asked = len(server.requests)
    result = kstore(root, "pull", "--tls-verify=false", name)
    assert result.code == 9
    assert "docker-credential-tests is not installed" in result.err
    assert all("authorization" not in r.headers for r in server.requests[asked:])


def test_login_and_logout_use_the_helper_a_file_names(
    root: Path, server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.auth = Basic(("ann", "secret"))
    entries = install(tmp_path / "bin", "tests")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"credHelpers": {server.host: "tests"}}))
    options = ["--authfile", file, "--tls-verify=false"]
    stdin = b"secret\n"
    result = run("login", *options, "-u", "ann", "--password-stdin", server.host, stdin=stdin)
    assert (result.code, result.out) == (0, "Login Succeeded!\n"), result.err
    assert "docker-credential-tests" in result.err
    assert "secret" not in file.read_text() + result.err
    assert json.loads((entries / server.host).read_text())["Secret"] == "secret"
    assert run("logout", "--authfile", file, server.host).code == 0
    assert not (entries / server.host).exists()


def test_a_file_that_is_dockers_too_is_kept_as_docker_reads_it(
    server: FaultServer, tmp_path: Path
) -> None:
    server.auth = Basic(("ann", "secret"))
    file = tmp_path / "docker/config.json"
    file.parent.mkdir()
    file.write_text('{"psFormat": "x", "auths": {}}')
    there = ("--compat-auth-file", file)
    log_in = ("login", *there, "--tls-verify=false", "-u", "ann", "--password-stdin")
    asked = server.connections
    refused = run(*log_in, f"{server.host}/team", stdin=b"secret\n")
    assert (refused.code, "whole registries" in refused.err) == (2, True)
    assert server.connections == asked
    assert run(*log_in, server.host, stdin=b"secret\n").code == 0
    entry = {"auth": base64.b64encode(b"ann:secret").decode()}
    assert json.loads(file.read_text()) == {"psFormat": "x", "auths": {server.host: entry}}
    assert run("login", *there, "--get-login", server.host).out == "ann\n"
    for command in (("login", "--get-login"), ("logout",)):
        both = run(*command, *there, "--authfile", file, server.host)
        assert (both.code, "only one of --authfile and" in both.err) == (2, True)
    assert run("logout", *there, server.host).code == 0
    assert json.loads(file.read_text()) == {"psFormat": "x", "auths": {}}


def test_logout_tells_of_credentials_that_are_left_in_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for file, user in (("run/containers/auth.json", "ann"), ("docker/config.json", "bob")):
        (tmp_path / file).parent.mkdir(parents=True)
        entry = {"auth": base64.b64encode(f"{user}:secret".encode()).decode()}
        (tmp_path / file).write_text(json.dumps({"auths": {"registry.test": entry}}))
    first, second = (run("logout", "registry.test") for _ in range(2))
    assert (first.code, second.code) == (0, 0)
    assert "registry.test still has credentials, of bob, in another place" in first.err
    assert second.err == ""
    assert run("logout", "registry.test").code == 3
    (tmp_path / "run/containers/auth.json").write_text(
        json.dumps({"auths": {"registry.test": entry}})
    )
    (tmp_path / "docker/config.json").write_text("{")
    damaged = run("logout", "registry.test")
    assert (damaged.code, "whether there are more: credential file" in damaged.err) == (0, True)


def test_login_and_logout_without_a_registry_mean_the_first_that_short_names_are_searched_in(
    server: FaultServer, other: FaultServer, configure: Configure, tmp_path: Path
) -> None:
    server.auth = Basic(("ann", "secret"))
    configure(f'unqualified-search-registries = ["{server.host}", "{other.host}"]\n')
    file = ("--authfile", tmp_path / "auth.json")
    options = (*file, "--tls-verify=false", "-u", "ann", "--password-stdin")
    result = run("login", *options, stdin=b"secret\n")
    assert result.code == 0, result.err
    assert f"the registry is {server.host}" in result.err
    assert run("login", "--get-login", *file).out == "ann\n"
    assert run("login", "--get-login", *file, server.host).out == "ann\n"
    assert run("logout", *file).out == f"Removed login credentials for {server.host}\n"
    assert run("login", "--get-login", *file).code == 9
    assert other.requests == []


@pytest.mark.parametrize(
    "words", [["login", "-u", "ann", "-p", "secret"], ["login", "--get-login"], ["logout"]]
)
def test_without_registries_to_search_in_no_password_goes_anywhere(
    configure: Configure, words: list[str]
) -> None:
    configure("")
    result = run(*words)
    assert result.code == 2
    assert "no registry was named" in result.err
    assert "docker.io" in result.err


def test_pull_secrets_of_kubernetes_are_used_where_that_is_wanted(
    root: Path, server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.auth = Basic(("ann", "secret"))
    entry = base64.b64encode(b"ann:secret").decode()
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"auths": {f"{server.host}/team": {"auth": entry}}}))
    monkeypatch.setenv("KSTORE_PULL_SECRETS", str(secret))
    name = f"{server.host}/team/app:v1"
    assert kstore(root, "pull", "--tls-verify=false", name).code == 9
    monkeypatch.setenv("KSTORE_KEYCHAINS", "cloud,kubernetes")
    assert kstore(root, "pull", "--tls-verify=false", name).code == 0


# ---- offline


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["pull", "{}/team/app:v1"], "get manifest v1 of {}/team/app"),
        (["push", "local", "{}/team/app:v1"], "reach {}/team/app"),
        (["copy", "docker://{}/team/app:v1", "dir:{}"], "get manifest v1 of {}/team/app"),
        (["inspect", "docker://{}/team/app:v1"], "get manifest v1 of {}/team/app"),
        (["list-tags", "docker://{}/team/app"], "get the tag list of {}/team/app"),
        (["search", "{}/app"], "get the catalog of {}"),
        (["login", "-u", "ann", "-p", "secret", "{}"], "reach {}"),
        (["import", "http://{}/layer.tar"], "fetch http://{}/layer.tar"),
        (["inspect", "docker-daemon:team/app:v1"], "reach the docker daemon at tcp://{}"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_offline_nobody_is_asked_and_what_is_missing_is_told(
    root: Path,
    server: FaultServer,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    missing: str,
) -> None:
    with Store.open(root) as store:
        put_image(store, IMAGE, "localhost/local:latest")
    configure(registry(server.host, server.host, more="insecure = true"))
    monkeypatch.setenv("DOCKER_HOST", f"tcp://{server.host}")
    words = [text.replace("{}", server.host) for text in arguments]
    said = missing.replace("{}", server.host)
    by_option = run("--offline", "--root", root, *words)
    monkeypatch.setenv("KSTORE_OFFLINE", "1")
    for result in (by_option, kstore(root, *words)):
        assert result.code == 8, result.err
        sentence = f"kstore: cannot {said}: no server is asked because of --offline\n"
        assert sentence in result.err
        assert "hint: run it again without --offline and KSTORE_OFFLINE" in result.err
    assert server.connections == 0
    assert run("--root", root, "images", "-q").code == 0
