from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore.digest import Digest
from kstore.errors import InvalidReferenceError
from kstore.reference import (
    DEFAULT_DOMAIN,
    LOCAL_DOMAIN,
    MAX_NAME_LENGTH,
    Named,
    has_domain,
    is_tag,
)
from tests.support.strategies import digests, steady

HEX = "0123456789abcdef" * 4
D = f"sha256:{HEX}"

NORMAL_FORMS = [
    # written, normal form, with the default tag
    ("busybox", "docker.io/library/busybox", "docker.io/library/busybox:latest"),
    ("busybox:1", "docker.io/library/busybox:1", "docker.io/library/busybox:1"),
    ("library/busybox", "docker.io/library/busybox", "docker.io/library/busybox:latest"),
    ("docker.io/busybox", "docker.io/library/busybox", "docker.io/library/busybox:latest"),
    ("docker.io/library/busybox:2", "docker.io/library/busybox:2", "docker.io/library/busybox:2"),
    (
        "index.docker.io/library/busybox",
        "docker.io/library/busybox",
        "docker.io/library/busybox:latest",
    ),
    ("index.docker.io/busybox", "docker.io/library/busybox", "docker.io/library/busybox:latest"),
    (
        "umohnani/get-started",
        "docker.io/umohnani/get-started",
        "docker.io/umohnani/get-started:latest",
    ),
    ("localhost/foo", "localhost/foo", "localhost/foo:latest"),
    ("localhost:5000/foo", "localhost:5000/foo", "localhost:5000/foo:latest"),
    ("localhost:5000/foo:v1", "localhost:5000/foo:v1", "localhost:5000/foo:v1"),
    (
        "registry.example.com/a/b:v2",
        "registry.example.com/a/b:v2",
        "registry.example.com/a/b:v2",
    ),
    (f"busybox@{D}", f"docker.io/library/busybox@{D}", f"docker.io/library/busybox@{D}"),
    (f"busybox:1@{D}", f"docker.io/library/busybox:1@{D}", f"docker.io/library/busybox:1@{D}"),
    # A host is only a host in front of a slash.
    ("localhost", "docker.io/library/localhost", "docker.io/library/localhost:latest"),
    ("localhost:5000", "docker.io/library/localhost:5000", "docker.io/library/localhost:5000"),
    ("docker.io", "docker.io/library/docker.io", "docker.io/library/docker.io:latest"),
    ("foo/bar/baz", "docker.io/foo/bar/baz", "docker.io/foo/bar/baz:latest"),
    ("library/a/b", "docker.io/library/a/b", "docker.io/library/a/b:latest"),
    ("Example.COM/foo", "Example.COM/foo", "Example.COM/foo:latest"),
    ("127.0.0.1:80/x", "127.0.0.1:80/x", "127.0.0.1:80/x:latest"),
    ("registry-1.docker.io/x", "registry-1.docker.io/x", "registry-1.docker.io/x:latest"),
    ("example.com/library/x", "example.com/library/x", "example.com/library/x:latest"),
    ("x/a.b_c__d---e", "docker.io/x/a.b_c__d---e", "docker.io/x/a.b_c__d---e:latest"),
    (f"{HEX}:v1", f"docker.io/library/{HEX}:v1", f"docker.io/library/{HEX}:v1"),
    (f"example.com/{HEX}", f"example.com/{HEX}", f"example.com/{HEX}:latest"),
    (HEX[1:], f"docker.io/library/{HEX[1:]}", f"docker.io/library/{HEX[1:]}:latest"),
    ("x:_.-", "docker.io/library/x:_.-", "docker.io/library/x:_.-"),
    ("x:" + "t" * 128, "docker.io/library/x:" + "t" * 128, "docker.io/library/x:" + "t" * 128),
]


@pytest.mark.parametrize(("written", "normal", "tagged"), NORMAL_FORMS)
def test_a_name_has_one_normal_form(written: str, normal: str, tagged: str) -> None:
    name = Named.parse(written)
    assert str(name) == normal
    assert str(name.with_default_tag()) == tagged
    assert name.is_bare == (normal != tagged)
    assert Named.parse(normal) == name


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "the image name is empty"),
        ("BusyBox", "'BusyBox' must be lower case"),
        ("Foo/bar", "'Foo/bar' must be lower case"),
        ("example.com/Foo", "'example.com/Foo' must be lower case"),
        ("localhost:5000/Foo:1", "'localhost:5000/Foo' must be lower case"),
        ("docker.io/Foo", "'docker.io/Foo' must be lower case"),
        ("docker://busybox", "'docker://busybox' is not an image name: it has a transport"),
        ("https://example.com/x", "transport prefix"),
        ("dir:/x", "'dir:' is not a registry host[:port]"),
        (HEX, "64 hex digits, which is an image ID"),
        (f"x@sha256:{HEX[1:]}", "bad digest: digest 'sha256:"),
        (f"x@sha256:{HEX.upper()}", "not lower-case hex"),
        (f"x@md5:{HEX[:32]}", "'md5' is not supported"),
        (f"x@{HEX}", "bad digest"),
        ("x@", "bad digest"),
        (f"x@{D}@{D}", "bad digest"),
        (f"@{D}", "has no repository name"),
        (":latest", "has no repository name"),
        (f":t@{D}", "has no repository name"),
        ("x:", "bad tag ''"),
        ("x:.a", "bad tag '.a'"),
        ("x:-a", "bad tag '-a'"),
        ("x:a:b", "bad tag 'a:b'"),
        ("x:a b", "bad tag 'a b'"),
        ("x:" + "t" * 129, "bad tag 'ttt"),
        ("/x", "'/x' is not a repository name"),
        ("x/", "'x/' is not a repository name"),
        ("a//b", "'a//b' is not a repository name"),
        ("example.com/", "'example.com/' is not a repository name"),
        ("x..y", "'x..y' is not a repository name"),
        ("a___b", "'a___b' is not a repository name"),
        ("a._b", "'a._b' is not a repository name"),
        ("-a", "'-a' is not a repository name"),
        ("a-", "'a-' is not a repository name"),
        ("a/../b", "'a/../b' is not a repository name"),
        ("example.com/../b", "'example.com/../b' is not a repository name"),
        (" busybox", "' busybox' is not a repository name"),
        ("a b", "'a b' is not a repository name"),
        ("a\x00b", r"'a\x00b' is not a repository name"),
        ("a\\b", "is not a repository name"),
        ("-a.com/x", "'-a.com' is not a registry host"),
        ("a-.com/x", "'a-.com' is not a registry host"),
        ("a_b.com/x", "'a_b.com' is not a registry host"),
        (".com/x", "'.com' is not a registry host"),
        ("a.com:/x", "'a.com:' is not a registry host"),
        ("a.com:x/y", "'a.com:x' is not a registry host"),
        ("[::1]:5000/x", "'[::1]:5000' is not a registry host"),
        ("user:pw@example.com/x", "bad digest"),
    ],
)
def test_a_wrong_name_is_refused_and_the_message_says_what_is_wrong(text: str, cause: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        Named.parse(text)
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["busybox", "busybox:1", "example.com/x", f"x@{D}", "a.com:80/x"])
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", " ", "\x00", "\u2028", "\n\n"])
def test_nothing_may_follow_a_name_not_even_a_newline(text: str, end: str) -> None:
    with pytest.raises(InvalidReferenceError):
        Named.parse(text + end)


# Digits and letters to Python's \d, \w and str methods, but not to the grammar; the last two become
# "k" and "s" in lower case.
@pytest.mark.parametrize(
    "odd", ["\u0665", "\uff11", "\u00b2", "\u00e9", "\u0430", "\u212a", "\u017f"]
)
@pytest.mark.parametrize("shape", ["a{}", "a{}.com/x", "a.com:8{}/x", "x:t{}", "x:{}", "a/b{}c:t"])
def test_only_ascii_letters_and_digits_count(odd: str, shape: str) -> None:
    with pytest.raises(InvalidReferenceError):
        Named.parse(shape.format(odd))
    assert not is_tag(f"t{odd}")


def test_a_repository_name_may_be_255_characters_long_but_not_256() -> None:
    room = MAX_NAME_LENGTH - len("example.com/")
    assert len(Named.parse("example.com/" + "a" * room).repository) == 255
    with pytest.raises(InvalidReferenceError, match="longer than 255"):
        Named.parse("example.com/" + "a" * (room + 1))


def test_the_longest_possible_name_is_not_too_long() -> None:
    digest = Digest.of(b"", "sha512")
    name = "example.com/" + "a" * 243 + ":" + "t" * 128 + f"@{digest}"
    assert str(Named.parse(name)) == name


@pytest.mark.parametrize("text", ["a" * 10_000_000, "a/" * 1_000_000, "x:" + "t" * 900, "_" * 1000])
def test_a_huge_name_is_refused_with_a_short_message(text: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        Named.parse(text)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("docker.io/busybox", True),
        ("localhost/x", True),
        ("host:5000/x", True),
        ("a.b/c", True),
        ("busybox", False),
        ("library/busybox", False),
        ("localhost", False),
        ("localhost:5000", False),
        ("a.b", False),
        ("", False),
    ],
)
def test_only_a_first_part_that_looks_like_a_host_is_a_domain(text: str, expected: bool) -> None:
    assert has_domain(text) is expected


@pytest.mark.parametrize("tag", ["latest", "1.0", "_x", "A-b.c_d", "9", "t" * 128])
def test_these_are_tags(tag: str) -> None:
    assert is_tag(tag)


@pytest.mark.parametrize("tag", ["", ".x", "-x", "a b", "a/b", "a:b", "t" * 129, "latest\n", "\n"])
def test_these_are_not_tags(tag: str) -> None:
    assert not is_tag(tag)
    with pytest.raises(InvalidReferenceError, match="is not a tag"):
        Named.parse("x").with_tag(tag)


def test_a_short_name_can_be_given_another_domain() -> None:
    assert str(Named.parse("x", default_domain=LOCAL_DOMAIN)) == "localhost/x"
    assert str(Named.parse("a/b:1", default_domain="quay.io")) == "quay.io/a/b:1"
    assert str(Named.parse("docker.io/x", default_domain="quay.io")) == "docker.io/library/x"
    assert str(Named.parse("x", default_domain="index.docker.io")) == "docker.io/library/x"


def test_a_default_domain_that_would_be_read_as_a_path_is_refused() -> None:
    with pytest.raises(InvalidReferenceError, match=r"would be read as 'docker.io/registry/x'"):
        Named.parse("x", default_domain="registry")


@pytest.mark.parametrize(
    ("domain", "path"),
    [
        ("docker.io", "busybox"),
        ("index.docker.io", "library/busybox"),
        ("registry", "x"),
        ("docker.io", "Busybox"),
        ("docker.io", "library/x\n"),
        ("docker.io\n", "library/x"),
        ("", "x"),
        ("docker.io", ""),
    ],
)
def test_a_name_cannot_be_built_in_any_other_than_the_normal_form(domain: str, path: str) -> None:
    with pytest.raises(InvalidReferenceError):
        Named(domain, path)


def test_tag_and_digest_can_be_exchanged() -> None:
    name = Named.parse(f"quay.io/a/b:1@{D}")
    other = Digest.of(b"")
    assert str(name.with_tag("2")) == "quay.io/a/b:2"
    assert str(name.with_digest(other)) == f"quay.io/a/b@{other}"
    assert str(name.without_tag_and_digest()) == "quay.io/a/b"
    assert name.repository == "quay.io/a/b"


@pytest.mark.parametrize(
    ("name", "familiar"),
    [
        ("docker.io/library/busybox:1", "busybox:1"),
        ("docker.io/foo/bar", "foo/bar"),
        ("docker.io/library/a/b", "library/a/b"),
        ("localhost/x", "localhost/x"),
        ("quay.io/library/x", "quay.io/library/x"),
        (f"docker.io/library/x@{D}", f"x@{D}"),
        (f"docker.io/library/{HEX}", f"docker.io/library/{HEX}"),
        (f"docker.io/library/{HEX}:1", f"{HEX}:1"),
        ("docker.io/localhost/x", "docker.io/localhost/x"),
        ("docker.io/a.b/c", "docker.io/a.b/c"),
        ("docker.io/library/docker.io", "docker.io"),
    ],
)
def test_the_familiar_form_is_the_shortest_that_still_means_the_same(
    name: str, familiar: str
) -> None:
    assert Named.parse(name).familiar == familiar


def test_names_sort_by_their_text_whether_or_not_they_have_tags_and_digests() -> None:
    parts = itertools.product(["b", "a", "quay.io/a"], ["", ":1", ":2"], ["", f"@{D}"])
    names = [Named.parse("".join(part)) for part in parts]
    assert [str(name) for name in sorted(names)] == sorted(str(name) for name in names)


_COMPONENT = st.from_regex(r"[a-z0-9]+((\.|_|__|-{1,3})[a-z0-9]+)*", fullmatch=True).filter(
    lambda text: text.isascii() and len(text) <= 30
)
_PATHS = st.lists(_COMPONENT | st.just("library"), min_size=1, max_size=3).map("/".join)
_DOMAINS = st.sampled_from(
    ["", "docker.io/", "index.docker.io/", "localhost/", "LocalHost:5000/", "a-b.Example.com:80/"]
)
_TAGS = st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@st.composite
def names(draw: st.DrawFn) -> str:
    path = draw(_PATHS)
    # "a.b/c" without a domain in front of it is path "c" on host "a.b".
    domain = draw(_DOMAINS) or ("docker.io/" if has_domain(path) else "")
    tag = draw(_TAGS)
    digest = draw(st.none() | digests())
    return domain + path + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


def _parse_or_reject(text: str) -> Named | None:
    try:
        return Named.parse(text)
    except InvalidReferenceError:
        return None


@steady
@given(names())
def test_a_name_reads_back_from_its_text_and_from_its_familiar_form(text: str) -> None:
    name = Named.parse(text)
    assert Named.parse(str(name)) == name
    assert Named.parse(name.familiar) == name
    assert len(name.familiar) <= len(str(name))
    tagged = name.with_default_tag()
    assert not tagged.is_bare
    assert tagged.with_default_tag() == tagged


@steady
@given(st.text(max_size=80) | st.text("aA0.:/@_-\n \u0661", max_size=12))
def test_any_text_is_a_name_in_normal_form_or_an_error(text: str) -> None:
    name = _parse_or_reject(text)
    if name is not None:
        assert text.isascii()
        assert text.isprintable()
        assert Named.parse(str(name)) == name
        assert Named.parse(name.familiar) == name
        assert name.domain
        if name.domain == DEFAULT_DOMAIN:
            assert "/" in name.path
