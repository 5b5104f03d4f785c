"""Which rule is an image's, and whether the image meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kstore.copier import CopyOptions, copy_image
from kstore.errors import InvalidInputError, PolicyRejectedError, StorageError
from kstore.image import UnparsedImage
from kstore.interfaces import ImageReference
from kstore.reference import Named
from kstore.signature import SIGNATURE_KINDS
from kstore.signing.policy import FilePolicy
from kstore.signing.policyfile import parse_policy
from kstore.signing.rules import TrustRules, signed_by_keys
from kstore.signing.simple import make_payload
from kstore.store import Store
from kstore.transports.dir import DirTransport
from kstore.transports.docker import DockerTransport
from kstore.transports.oci import OciTransport
from kstore.transports.storage import StorageTransport
from tests.support.images import TestImage, index_of, random_image
from tests.support.memory import Memory
from tests.unit.signing.conftest import Keys

ACCEPT = [{"type": "insecureAcceptAnything"}]
REJECT = [{"type": "reject"}]
D = "sha256:" + "a" * 64


def rules(document: dict[str, Any], *, required: bool = False) -> TrustRules:
    parsed = parse_policy(json.dumps(document).encode(), "policy.json")
    return TrustRules(parsed, Path("policy.json"), required=required)


def docker(name: str) -> ImageReference:
    return DockerTransport(lambda host: pytest.fail(host)).reference(Named.parse(name))


# ---- which rule


@pytest.mark.parametrize(
    ("name", "order"),
    [
        (
            "a.b.c:5000/x/y/z:1",
            [
                *("a.b.c:5000/x/y/z:1", "a.b.c:5000/x/y/z", "a.b.c:5000/x/y", "a.b.c:5000/x"),
                *("a.b.c:5000", "*.b.c", "*.c", ""),
            ],
        ),
        ("busybox", ["docker.io/library/busybox:latest", "docker.io/library/busybox"]),
        (f"a.org/x@{D}", [f"a.org/x@{D}", "a.org/x", "a.org", "*.org", ""]),
        ("localhost/x:1", ["localhost/x:1", "localhost/x", "localhost", ""]),
    ],
)
def test_the_most_specific_scope_counts(name: str, order: list[str]) -> None:
    for number, scope in enumerate(order):
        left = dict.fromkeys(order[number:], ACCEPT)
        found = rules({"default": REJECT, "transports": {"docker": left}}).rule(docker(name))
        assert (found.section, found.scope) == ("transport", scope)


@pytest.mark.parametrize(
    "scope",
    ["a.org/xy", "a.org/x/y:2", "org", "*.a.org", "b.org", "a.org/x/y:1@", "A.org", "docker.io"],
)
def test_a_scope_of_something_else_does_not_count(scope: str) -> None:
    document = {"default": REJECT, "transports": {"docker": {scope: ACCEPT}}}
    assert rules(document).rule(docker("a.org/x/y:1")).section == "default"


def test_another_transports_rules_do_not_count() -> None:
    document = {"default": REJECT, "transports": {"atomic": {"": ACCEPT}, "oci": {"": ACCEPT}}}
    assert rules(document).rule(docker("a.org/x")).section == "default"


@pytest.mark.parametrize("transport", [DirTransport, OciTransport])
def test_a_path_goes_by_its_parents_without_links(tmp_path: Path, transport: Any) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    reference = transport().parse_reference(str(tmp_path / "link" / "app"))
    for scope in (tmp_path / "real" / "app", tmp_path / "real", tmp_path.resolve().parent, ""):
        document = {"default": REJECT, "transports": {transport().name: {str(scope): ACCEPT}}}
        assert rules(document).rule(reference).scope == str(scope)
    document = {
        "default": REJECT,
        "transports": {transport().name: {str(tmp_path / "link"): ACCEPT}},
    }
    assert rules(document).rule(reference).section == "default"


def test_images_of_the_store_were_admitted_when_they_came_in(tmp_path: Path) -> None:
    with Store.open(tmp_path / "root") as store:
        reference = StorageTransport(store).parse_reference("a.org/x:1")
        found = rules({"default": REJECT}).rule(reference)
        assert (found.section, str(found)) == ("built-in", "the rule for the store")
        for scope in (f"[{tmp_path}/root]a.org/x:1", f"[{tmp_path}/root]a.org", ""):
            document = {"default": REJECT, "transports": {"kstore": {scope: REJECT}}}
            assert rules(document).rule(reference).scope == scope


def test_without_a_policy_everything_is_accepted() -> None:
    assert FilePolicy([Path("/nowhere/policy.json")]).rules.rule(docker("x")).section == "built-in"


def test_the_first_file_that_is_there_counts(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    two.write_text(json.dumps({"default": REJECT}))
    assert FilePolicy([one, two]).rules.rule(docker("x")).file == two
    one.write_text(json.dumps({"default": ACCEPT}))
    assert FilePolicy([one, two]).rules.rule(docker("x")).file == one


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="there is no policy file"):
        _ = FilePolicy([tmp_path / "gone"], explicit=True).rules
    with pytest.raises(StorageError, match="cannot read the trust policy"):
        _ = FilePolicy([tmp_path]).rules


# ---- whether an image meets it


class Place:
    """An image in memory, with signatures; what was asked of it is noted."""

    def __init__(self, image: TestImage | None = None) -> None:
        self.image = image or random_image(1)
        self.memory = Memory({"a.org/app:1": self.image})

    def unparsed(self) -> UnparsedImage:
        return UnparsedImage(self.memory.reference("a.org/app:1").open_source())


def only(*requirements: dict[str, Any]) -> dict[str, Any]:
    return {"default": REJECT, "transports": {"memory": {"": list(requirements)}}}


def by(path: Path, **more: Any) -> dict[str, Any]:
    return {"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(path), **more}


@pytest.fixture
def public(keys: Keys, tmp_path: Path) -> Path:
    file = tmp_path / "alice.gpg"
    file.write_bytes(keys.home.export(keys.alice, armor=True))
    return file


def signature(keys: Keys, image: TestImage, reference: str = "a.org/app:1", key: str = "") -> bytes:
    payload = make_payload(image.raw.digest, reference, creator="test", timestamp=1)
    return keys.home.sign(payload, key or keys.alice)


def test_reject_rejects_and_says_which_rule() -> None:
    place = Place()
    with pytest.raises(PolicyRejectedError) as raised:
        rules({"default": REJECT}).check(place.unparsed())
    assert raised.value.message == (
        "memory:a.org/app:1 is not trusted by the default in policy.json, because such images are"
        " rejected"
    )
    assert raised.value.hint == "kstore policy show memory:a.org/app:1"
    assert raised.value.exit_code == 7


@pytest.mark.peer
def test_an_image_with_a_good_signature_is_admitted(keys: Keys, public: Path) -> None:
    place = Place()
    place.memory.signatures["a.org/app:1"] = [signature(keys, place.image)]
    said = rules(only(by(public))).check(place.unparsed())
    assert "by a key of" in said
    assert signed_by_keys([public]).check(place.unparsed())


@pytest.mark.peer
def test_one_good_signature_among_bad_ones_is_enough(keys: Keys, public: Path) -> None:
    place = Place()
    good = signature(keys, place.image)
    bad = [b"nonsense", signature(keys, place.image, key=keys.bob), good[:-1]]
    place.memory.signatures["a.org/app:1"] = [*bad, good]
    assert rules(only(by(public))).check(place.unparsed())
    place.memory.signatures["a.org/app:1"] = bad
    with pytest.raises(PolicyRejectedError, match="signature 1 is neither.*signature 2 is by key"):
        rules(only(by(public))).check(place.unparsed())


@pytest.mark.peer
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda k, i: None, "a signature is required, and there is none"),
        (lambda k, i: signature(k, i, "a.org/other:1"), "vouches for 'a.org/other:1'"),
        (lambda k, i: signature(k, random_image(9)), "vouches for manifest sha256:"),
        (lambda k, i: signature(k, i, key=k.bob), "not an accepted one"),
        (lambda k, i: k.home.sign(b"{}", k.alice), "no 'critical' in the payload"),
        (lambda k, i: signature(k, i) + b"\0", "bytes"),
        (lambda k, i: b"\0sigstore-json\n{}", "mimeType"),
    ],
)
def test_an_image_without_a_good_signature_is_rejected(
    keys: Keys, public: Path, make: Any, reason: str
) -> None:
    place = Place()
    made = make(keys, place.image)
    place.memory.signatures["a.org/app:1"] = [] if made is None else [made]
    with pytest.raises(PolicyRejectedError, match=reason):
        rules(only(by(public))).check(place.unparsed())


@pytest.mark.peer
def test_every_requirement_must_be_met(keys: Keys, public: Path, tmp_path: Path) -> None:
    bobs = tmp_path / "bob.gpg"
    bobs.write_bytes(keys.home.export(keys.bob))
    place = Place()
    policy = rules(only(by(public), by(bobs)))
    place.memory.signatures["a.org/app:1"] = [signature(keys, place.image)]
    with pytest.raises(PolicyRejectedError):
        policy.check(place.unparsed())
    place.memory.signatures["a.org/app:1"] = [
        signature(keys, place.image),
        signature(keys, place.image, key=keys.bob),
    ]
    assert policy.check(place.unparsed())


@pytest.mark.peer
def test_nothing_of_a_payload_is_looked_at_before_its_signature_is_good(
    keys: Keys, public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kstore.signing import simple

    place = Place()
    place.memory.signatures["a.org/app:1"] = [
        signature(keys, place.image, key=keys.bob),
        signature(keys, place.image) + b"x",
    ]
    monkeypatch.setattr(simple, "parse_payload", lambda data: pytest.fail("it was looked at"))
    with pytest.raises(PolicyRejectedError):
        rules(only(by(public))).check(place.unparsed())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "no public key"),
        (b"nonsense", "no public key"),
        (b"\x99\xff\xff", "middle of a packet"),
        (b"\0" * ((4 << 20) + 1), "more than"),
    ],
)
def test_a_key_that_cannot_be_used_admits_nothing(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    place = Place()
    place.memory.signatures["a.org/app:1"] = [b"\xa3\x01"]
    with pytest.raises(PolicyRejectedError, match=reason):
        rules(only(by(file))).check(place.unparsed())


@pytest.mark.unprivileged
def test_a_key_that_must_not_be_read_admits_nothing(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"x")
    file.chmod(0)
    with pytest.raises(PolicyRejectedError, match="Permission denied"):
        rules(only(by(file))).check(Place().unparsed())


@pytest.mark.parametrize(
    "requirement",
    [
        by(Path("/key"), keyType="X509Certificates"),
        {"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchExact"}},
        {"type": "sigstoreSigned", "pki": {"caRootsPath": "/ca"}},
        {"type": "sigstoreSigned", "keyPath": "/key", "rekorPublicKeyPath": "/key"},
    ],
)
def test_what_kstore_cannot_check_is_never_met(requirement: dict[str, Any]) -> None:
    with pytest.raises(PolicyRejectedError):
        rules(only(requirement)).check(Place().unparsed())


def test_require_signed_wants_a_rule_that_looks_at_signatures() -> None:
    place = Place()
    with pytest.raises(PolicyRejectedError, match="looks at no signature"):
        rules(only({"type": "insecureAcceptAnything"}), required=True).check(place.unparsed())
    with pytest.raises(PolicyRejectedError, match="looks at no signature"):
        FilePolicy([], required=True).check(place.unparsed())


@pytest.mark.peer
def test_one_rule_that_looks_at_signatures_is_enough_for_require_signed(
    keys: Keys, public: Path
) -> None:
    place = Place()
    policy = rules(only({"type": "insecureAcceptAnything"}, by(public)), required=True)
    with pytest.raises(PolicyRejectedError, match="a signature is required, and there is none"):
        policy.check(place.unparsed())
    place.memory.signatures["a.org/app:1"] = [signature(keys, place.image)]
    assert policy.check(place.unparsed())


@pytest.mark.peer
def test_a_good_signature_is_not_one_by_a_key_of_another_type(keys: Keys, public: Path) -> None:
    place = Place()
    place.memory.signatures["a.org/app:1"] = [signature(keys, place.image)]
    for kind in ("signedByGPGKeys", "X509Certificates", "signedByX509CAs"):
        with pytest.raises(PolicyRejectedError, match=f"keys of type {kind} cannot be checked"):
            rules(only(by(public, keyType=kind))).check(place.unparsed())


# ---- indexes


def pair() -> tuple[Memory, list[TestImage]]:
    from kstore.platforms import Platform

    images = [
        random_image(1, platform=Platform("linux", "amd64")),
        random_image(2, platform=Platform("linux", "arm64")),
    ]
    return Memory({"a.org/app:1": (index_of(images), images)}), images


def copy(memory: Memory, policy: TrustRules, **options: Any) -> None:
    from kstore.interfaces import DestinationTraits
    from kstore.platforms import Platform

    if options.get("instances") != "all":
        options.setdefault("platform", Platform("linux", "amd64"))
    copy_image(
        memory.reference("a.org/app:1"),
        memory.reference("copy", traits=DestinationTraits(signatures=SIGNATURE_KINDS)),
        policy,
        CopyOptions(**options),
    )


@pytest.mark.peer
def test_every_member_of_an_index_is_checked(keys: Keys, public: Path) -> None:
    memory, images = pair()
    policy = rules(only(by(public)))
    one, other = (f"a.org/app:1@{image.raw.digest}" for image in images)
    memory.signatures[one] = [signature(keys, images[0])]
    copy(memory, policy)  # the one that is wanted is signed, and the index need not be
    with pytest.raises(PolicyRejectedError):
        copy(memory, policy, instances="all")
    memory.signatures[other] = [signature(keys, images[0])]  # of the other one
    with pytest.raises(PolicyRejectedError):
        copy(memory, policy, instances="all")
    memory.signatures[other] = [signature(keys, images[1])]
    copy(memory, policy, instances="all")


def test_an_index_that_is_rejected_is_not_opened() -> None:
    memory, _ = pair()
    with pytest.raises(PolicyRejectedError):
        copy(memory, rules({"default": REJECT}))
    assert memory.asked("open_destination") == []


@pytest.mark.peer
def test_an_index_alone_must_be_signed_itself(keys: Keys, public: Path) -> None:
    memory, images = pair()
    policy = rules(only(by(public)))
    for image in images:
        memory.signatures[f"a.org/app:1@{image.raw.digest}"] = [signature(keys, image)]
    with pytest.raises(PolicyRejectedError):
        copy(memory, policy, instances="index-only")


def test_an_index_without_members_answers_for_itself(tmp_path: Path) -> None:
    memory = Memory({"a.org/app:1": (index_of([]), [])})
    with pytest.raises(PolicyRejectedError, match="a signature is required"):
        copy(memory, rules(only(by(_some_key(tmp_path)))), instances="all")


def _some_key(tmp_path: Path) -> Path:
    file = tmp_path / "some.gpg"
    file.write_bytes(b"\xc6\x04\x04abc")
    return file
