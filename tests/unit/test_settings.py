"""What the environment says, read once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kstore.app import App, RegistryOptions
from kstore.settings import Settings, load

HOME = "/home/ann"


def test_registry_configuration_is_looked_for_where_podman_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = load({"HOME": HOME}, root=Path("/store"))
    assert found.registries_main == (
        Path("/home/ann/.config/containers/registries.conf"),
        Path("/etc/containers/registries.conf"),
        Path("/usr/share/containers/registries.conf"),
    )
    assert found.registries_drop_ins == (
        Path("/usr/share/containers/registries.conf.d"),
        Path("/usr/share/containers/registries.rootless.conf.d"),
        Path("/usr/share/containers/registries.rootless.conf.d/1000"),
        Path("/etc/containers/registries.conf.d"),
        Path("/etc/containers/registries.rootless.conf.d"),
        Path("/etc/containers/registries.rootless.conf.d/1000"),
        Path("/home/ann/.config/containers/registries.conf.d"),
    )
    assert found.short_names == Path("/home/ann/.cache/containers/short-name-aliases.conf")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = load({"HOME": "/root"}, root=Path("/store"))
    assert Path("/etc/containers/registries.rootful.conf.d") in found.registries_drop_ins
    assert found.short_names == Path("/var/cache/containers/short-name-aliases.conf")


def test_what_xdg_says_comes_after_where_podman_has_always_looked() -> None:
    found = load({"HOME": HOME, "XDG_CONFIG_HOME": "/cfg", "XDG_DATA_HOME": "/d"}, root=Path("/s"))
    own = [Path("/home/ann/.config/containers"), Path("/cfg/containers")]
    for name, files in (
        ("registries.conf", found.registries_main),
        ("registries.d", found.registries_d),
        ("certs.d", found.cert_search),
    ):
        assert list(files[:2]) == [place / name for place in own]
        assert Path("/etc/containers") / name in files[2:]
    policies = [place / "policy.json" for place in (own[0], Path("/etc/containers"))]
    assert list(found.policy_files) == policies, "an accepting one there would beat the machine's"
    later_wins = [place / "registries.conf.d" for place in reversed(own)]
    assert list(found.registries_drop_ins[-2:]) == later_wins
    assert Path("/cfg/containers/auth.json") in found.auth_files
    assert found.lookaside_dir is not None
    assert not found.lookaside_dir.is_relative_to("/d")


@pytest.mark.parametrize(
    ("environ", "field", "value"),
    [
        ({"CONTAINERS_REGISTRIES_CONF": "/c"}, "registries_only", Path("/c")),
        ({"REGISTRIES_CONFIG_PATH": "/c"}, "registries_only", Path("/c")),
        ({"CONTAINERS_REGISTRIES_CONF_OVERRIDE": "/o"}, "registries_last", Path("/o")),
        ({}, "registries_only", None),
        ({"PATH": "/b::.:rel:/c"}, "programs", (Path("/b"), Path("/c"))),
        ({}, "keychains", ("cloud",)),
        ({"KSTORE_KEYCHAINS": ""}, "keychains", ()),
        ({"KSTORE_KEYCHAINS": "kubernetes, mine"}, "keychains", ("kubernetes", "mine")),
        ({"KSTORE_PULL_SECRETS": "/a:/b"}, "pull_secrets", (Path("/a"), Path("/b"))),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes", "10.0.0.1:443"),
        (
            {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"},
            "kubernetes",
            "[fd00::1]:6443",
        ),
        ({"REGISTRY_AUTH_FILE": "/a"}, "auth_files", (Path("/a"),)),
        ({"REGISTRY_AUTH_FILE": "/a"}, "auth_file_is_explicit", True),
        ({"KSTORE_REGISTRIES_OLD_RULES": "1"}, "registries_old_rules", True),
        ({}, "registries_old_rules", False),
        ({"KSTORE_OFFLINE": "1"}, "offline", True),
        ({"KSTORE_OFFLINE": "0"}, "offline", False),
        ({}, "offline", False),
        (
            {"HTTPS_PROXY": "upper", "https_proxy": "lower", "HTTP_PROXY": "x"},
            "proxies",
            (("http_proxy", "x"), ("https_proxy", "lower")),
        ),
    ],
)
def test_variables_are_read(environ: dict[str, str], field: str, value: object) -> None:
    assert getattr(load({"HOME": HOME, **environ}, root=Path("/s")), field) == value


def test_credentials_are_looked_for_where_podman_and_docker_keep_them() -> None:
    environ = {"HOME": HOME, "XDG_RUNTIME_DIR": "/run/ann", "DOCKER_CONFIG": "/docker"}
    assert load(environ, root=Path("/s")).auth_files == (
        Path("/run/ann/containers/auth.json"),
        Path("/home/ann/.config/containers/auth.json"),
        Path("/docker/config.json"),
        Path("/home/ann/.dockercfg"),
    )
    bare = load({"HOME": HOME}, root=Path("/s")).auth_files
    assert bare[0] == Path(f"/run/containers/{os.geteuid()}/auth.json")
    assert bare[2] == Path("/home/ann/.docker/config.json")


def test_root_of_a_name_space_is_who_it_is_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under 'podman unshare', where root's directories are closed."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    inside = {"HOME": HOME, "XDG_DATA_HOME": "/data", "_CONTAINERS_ROOTLESS_UID": "1000"}
    found = load(inside)
    assert found.root == Path("/data/kstore")
    assert found.lookaside_dir == Path("/home/ann/.local/share/containers/sigstore")
    assert found.short_names == Path("/home/ann/.cache/containers/short-name-aliases.conf")
    assert found.auth_files[0] == Path("/run/containers/1000/auth.json")
    assert Path("/etc/containers/registries.rootless.conf.d/1000") in found.registries_drop_ins
    for odd in ("0", "", "me"):
        found = load({**inside, "_CONTAINERS_ROOTLESS_UID": odd})
        assert found.root == Path("/var/lib/kstore")
        assert found.lookaside_dir == Path("/var/lib/containers/sigstore")


def test_settings_do_not_show_the_password_of_a_proxy() -> None:
    settings = load({"HOME": HOME, "https_proxy": "http://ann:s3cret-word@p:1"}, root=Path("/s"))
    assert "s3cret-word" not in repr(settings)
    assert "s3cret-word" not in repr(App(settings).registry_settings(RegistryOptions()))


def test_a_configuration_is_read_once_and_warned_of_once(tmp_path: Path) -> None:
    (tmp_path / "conf").write_text('odd = "x"\ncredential-helpers = ["pass"]\n')
    warnings: list[str] = []
    settings = Settings(
        root=tmp_path,
        auth_files=(tmp_path / "auth.json",),
        auth_file_is_explicit=False,
        cert_search=(),
        registries_only=tmp_path / "conf",
    )
    app = App(settings, warn=warnings.append)
    assert app.auth_files(RegistryOptions()).order == ("pass",)
    assert app.auth_files(RegistryOptions(authfile=tmp_path / "x")).explicit == tmp_path / "x"
    assert len(warnings) == 1
