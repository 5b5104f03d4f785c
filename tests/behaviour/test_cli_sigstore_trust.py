"""Sigstore signatures under a trust policy, on a machine set up as for podman."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kstore.registry import RegistryClient, RegistrySettings
from kstore.signing.sigstore import sign
from kstore.store import Store
from kstore.transports.attachments import attach_signatures
from tests.support.cli import Result, run
from tests.support.images import ARM64, index_of, random_image
from tests.support.localregistry import LocalRegistry, serve
from tests.support.sigstorekeys import key_pair
from tests.support.stores import put_image, put_index

IMAGE, ARM = random_image(1), random_image(2, platform=ARM64)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose registries.d says that registries keep sigstore signatures."""
    home = tmp_path / "home"
    config = home / ".config/containers"
    (config / "registries.d").mkdir(parents=True)
    place = (tmp_path / "lookaside").as_uri()
    (config / "registries.d/all.yaml").write_text(
        f"default-docker:\n  lookaside: '{place}'\n  use-sigstore-attachments: true\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (tmp_path / "me.private").write_bytes(key_pair("ec")[0])
    for kind in ("ec", "other"):
        (tmp_path / f"{kind}.pub").write_bytes(key_pair(kind)[1])
    return home


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LocalRegistry]:
    with serve(tmp_path / "registry") as registry:
        yield registry


@pytest.fixture
def app(registry: LocalRegistry) -> str:
    return f"{registry.host}/team/app:1"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "root", command="test") as store:
        put_image(store, IMAGE, "app:1")
        put_index(store, index_of([IMAGE, ARM]), [IMAGE, ARM], "both:1")
    return tmp_path / "root"


def demand(home: Path, key: Path, **more: Any) -> None:
    """Let the machine trust only what is signed by ``key``."""
    rule = {"type": "sigstoreSigned", "keyPath": str(key), **more}
    policy = {
        "default": [{"type": "reject"}],
        "transports": {
            "docker": {"": [rule]},
            "kstore": {"": [{"type": "insecureAcceptAnything"}]},
            "dir": {"": [{"type": "insecureAcceptAnything"}]},
        },
    }
    (home / ".config/containers/policy.json").write_text(json.dumps(policy))


def push(root: Path, tmp_path: Path, image: str, name: str) -> None:
    key = ("--sign-by-sigstore-private-key", tmp_path / "me.private")
    pushed = run("--root", root, "push", "--tls-verify=false", "-q", *key, image, name)
    assert pushed.code == 0, pushed.err


def pull(tmp_path: Path, name: str, *args: object) -> Result:
    return run("--root", tmp_path / "other", "pull", "--tls-verify=false", "-q", *args, name)


def test_what_a_trusted_key_signed_is_pulled_and_its_signature_with_it(
    tmp_path: Path, home: Path, root: Path, app: str
) -> None:
    push(root, tmp_path, "app:1", app)
    demand(home, tmp_path / "ec.pub")
    pulled = pull(tmp_path, app)
    assert (pulled.code, pulled.out) == (0, f"{IMAGE.id}\n"), pulled.err
    with Store.open(tmp_path / "other") as store:
        assert len(store.signatures(IMAGE.raw.digest)) == 1


def test_a_file_of_parameters_names_the_key_to_sign_with(
    tmp_path: Path, home: Path, root: Path, app: str
) -> None:
    """As podman and skopeo take it: the signature goes into the registry, registries.d or not."""
    (home / ".config/containers/registries.d/all.yaml").unlink()
    made = run("generate-key", tmp_path / "locked", "--passphrase-file", _secret(tmp_path))
    assert made.code == 0, made
    parameters = tmp_path / "sign.yaml"
    parameters.write_text(
        f"privateKeyFile: {tmp_path}/locked.private\nprivateKeyPassphraseFile: {tmp_path}/secret\n"
    )
    words = ("push", "--tls-verify=false", "-q", "--sign-by-sigstore", parameters)
    assert run("--root", root, *words, "app:1", app).code == 0
    demand(home, tmp_path / "locked.pub")
    assert pull(tmp_path, app, "--sigstore-attachments").code == 0
    parameters.write_text("rekorURL: https://rekor.test\n")
    refused = run("--root", root, *words, "app:1", app)
    assert (refused.code, "log of rekor" in refused.err) == (6, True)


def _secret(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("a word\n")
    return tmp_path / "secret"


@pytest.mark.parametrize(
    ("image", "key"), [("app:1", "other"), ("unsigned", "ec")], ids=["another-key", "no-signature"]
)
def test_what_no_trusted_key_signed_is_refused(
    tmp_path: Path, home: Path, root: Path, registry: LocalRegistry, app: str, image: str, key: str
) -> None:
    if image == "unsigned":
        registry.push("team/app", "1", IMAGE)
    else:
        push(root, tmp_path, image, app)
    demand(home, tmp_path / f"{key}.pub")
    refused = pull(tmp_path, app)
    assert refused.code == 7, refused
    assert run("--root", tmp_path / "other", "images", "-q").out == ""


def test_a_signature_of_another_name_does_not_count(
    tmp_path: Path, home: Path, root: Path, registry: LocalRegistry, app: str
) -> None:
    push(root, tmp_path, "app:1", app)
    there = f"{registry.host}/team/renamed:1"
    copied = run(
        *("--root", root, "copy", "-q", "--tls-verify=false", f"docker://{app}"),
        f"docker://{there}",
    )
    assert copied.code == 0, copied.err
    demand(home, tmp_path / "ec.pub")
    assert pull(tmp_path, there).code == 7
    demand(
        home,
        tmp_path / "ec.pub",
        signedIdentity={"type": "exactReference", "dockerReference": app},
    )
    assert pull(tmp_path, there).code == 0


def test_a_signature_of_another_image_does_not_count(
    tmp_path: Path, home: Path, registry: LocalRegistry, app: str
) -> None:
    registry.push("team/app", "1", IMAGE)
    stolen = sign(key_pair("ec")[0], None, ARM.raw.digest, app)
    with RegistryClient(registry.host, RegistrySettings(tls_verify=False)) as client:
        attach_signatures(client, "team/app", IMAGE.raw.digest, [stolen.to_bytes()])
    demand(home, tmp_path / "ec.pub")
    assert pull(tmp_path, app).code == 7


def test_signatures_are_not_looked_for_where_they_are_switched_off(
    tmp_path: Path, home: Path, root: Path, app: str
) -> None:
    push(root, tmp_path, "app:1", app)
    demand(home, tmp_path / "ec.pub")
    assert pull(tmp_path, app, "--no-sigstore-attachments").code == 7


def test_a_member_of_a_signed_index_is_trusted_and_goes_on_signed(
    tmp_path: Path, home: Path, root: Path, registry: LocalRegistry, app: str
) -> None:
    push(root, tmp_path, "both:1", app)
    demand(home, tmp_path / "ec.pub")
    assert pull(tmp_path, app, "--platform", "linux/arm64").code == 0
    sent = run(
        *("--root", tmp_path / "other", "push", "--tls-verify=false", "-q", app),
        f"{registry.host}/mirror/app:1",
    )
    assert sent.code == 0, sent.err
    demand(
        home, tmp_path / "ec.pub", signedIdentity={"type": "exactReference", "dockerReference": app}
    )
    assert pull(tmp_path, f"{registry.host}/mirror/app:1").code == 0


def test_an_image_is_signed_where_it_is(
    tmp_path: Path, home: Path, root: Path, registry: LocalRegistry, app: str
) -> None:
    registry.push("team/app", "1", IMAGE)
    signed = run(
        *("--root", root, "sign", "--tls-verify=false"),
        *("--sign-by-sigstore-private-key", tmp_path / "me.private", f"docker://{app}"),
    )
    assert (signed.code, signed.out) == (0, f"{IMAGE.raw.digest}\n"), signed.err
    demand(home, tmp_path / "ec.pub")
    assert pull(tmp_path, app).code == 0
    verified = run("--root", root, "verify", "--tls-verify=false", f"docker://{app}")
    assert verified.code == 0, verified.err


def test_verify_takes_a_sigstore_key_in_place_of_a_policy(
    tmp_path: Path, home: Path, root: Path, app: str
) -> None:
    (home / ".config/containers/registries.d/all.yaml").unlink()  # nor need that say anything
    push(root, tmp_path, "app:1", app)
    verify = ("--root", root, "verify", "--tls-verify=false")
    other, right = (("--key", tmp_path / f"{kind}.pub") for kind in ("other", "ec"))
    verified = run(*verify, *other, *right, f"docker://{app}")
    assert (verified.code, verified.out) == (0, f"{IMAGE.raw.digest}\n"), verified.err
    refused = run(*verify, *other, f"docker://{app}")
    assert (refused.code, refused.out) == (7, "")
    assert "not made with the accepted key" in refused.err
    absent = run(*verify, "--key", tmp_path / "absent", f"docker://{app}")
    assert (absent.code, absent.out) == (3, "")
    assert f"key file {tmp_path}/absent does not exist" in absent.err


def test_what_is_signed_in_the_store_by_a_short_name_has_its_local_name(
    tmp_path: Path, root: Path
) -> None:
    with Store.open(root, command="test") as store:
        put_image(store, random_image(3), "localhost/tools:1")
    key = ("--sign-by-sigstore-private-key", tmp_path / "me.private")
    assert run("--root", root, "sign", *key, "tools:1").code == 0
    for name in ("tools:1", "localhost/tools:1"):
        verified = run("--root", root, "verify", "--key", tmp_path / "ec.pub", name)
        assert verified.out == f"{random_image(3).raw.digest}\n", verified.err
    by_id = run("--root", root, "sign", *key, random_image(3).id[:12])
    assert by_id.code == 2
    assert "--sign-identity" in by_id.err


def test_referrers_come_along_under_a_policy_for_images(
    tmp_path: Path, home: Path, root: Path, app: str
) -> None:
    push(root, tmp_path, "app:1", app)
    demand(home, tmp_path / "ec.pub")
    assert pull(tmp_path, app, "--with-referrers").code == 0
    listed = run("--root", tmp_path / "other", "referrers", "--format", "{{.tag}}", app)
    assert listed.out == "", "the signature came with the image, and not a second time"
