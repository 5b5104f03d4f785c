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
