"""Registries of the clouds, through the helpers of the clouds."""

from __future__ import annotations

from pathlib import Path

import pytest

from kstore.errors import InvalidInputError
from kstore.registry import Credentials
from kstore.registry.credential_programs import CredentialPrograms
from kstore.registry.keychains import KeychainSettings, open_keychains
from kstore.registry.keychains.cloud import helpers_for
from tests.support.credentialprogram import answer, install

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


@pytest.mark.parametrize(
    ("host", "helper"),
    [
        (ECR, "ecr-login"),
        ("123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", "ecr-login"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "ecr-login"),
        ("123456789012.dkr-ecr.eu-west-1.on.aws", "ecr-login"),
        ("public.ecr.aws", "ecr-login"),
        ("gcr.io", "gcr"),
        ("eu.gcr.io", "gcr"),
        ("europe-west1-docker.pkg.dev", "gcr"),
        ("mine.azurecr.io", "acr-env"),
        ("mine.azurecr.cn", "acr-env"),
        ("quay.io", None),
        ("gcr.io.evil.example", None),
        ("evilgcr.io", None),
        ("a.b.gcr.io", None),
        (f"{ECR}.evil.example", None),
        (f"x.{ECR}", None),
        ("12345.dkr.ecr.eu-west-1.amazonaws.com", None),
        ("azurecr.io", None),
        ("mine.azurecr.io:5000", None),
        ("gcr.io\n", None),
    ],
)
def test_only_the_clouds_own_hosts_are_recognised(host: str, helper: str | None) -> None:
    assert (helpers_for(host) or (None,))[0] == helper


def settings(directory: Path, warnings: list[str]) -> KeychainSettings:
    return KeychainSettings(programs=CredentialPrograms((directory,)), warn=warnings.append)


def test_the_first_helper_that_is_installed_is_asked(tmp_path: Path) -> None:
    (install(tmp_path, "gcloud") / "gcr.io").write_text(answer("oauth2accesstoken", "t"))
    (lookup,) = open_keychains(["cloud"], settings(tmp_path, []))
    assert lookup("gcr.io", "a/b") == Credentials("oauth2accesstoken", "t")
    assert lookup(ECR, "a/b") is None, "its helper is not installed"
    assert lookup("quay.io", "a/b") is None


def test_a_helper_that_is_not_set_up_is_told_and_leaves_public_images_alone(tmp_path: Path) -> None:
    install(tmp_path, "ecr-login", "echo no AWS credentials; exit 1")
    warnings: list[str] = []
    (lookup,) = open_keychains(["cloud"], settings(tmp_path, warnings))
    assert lookup("public.ecr.aws", "a/b") is None
    assert "no AWS credentials" in warnings[0]


def test_an_unknown_keychain_is_an_error() -> None:
    with pytest.raises(InvalidInputError, match="no keychain is called 'nobody'"):
        open_keychains(["nobody"], KeychainSettings())


def test_packages_bring_their_own_keychains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ourcloud.py").write_text(
        "from kstore.registry import Credentials\n"
        "def ours(settings):\n"
        "    return lambda host, path: Credentials('plugin', host + path)\n"
    )
    info = tmp_path / "ourcloud-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ourcloud\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[kstore.keychains]\nours = ourcloud:ours\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (lookup,) = open_keychains(["ours"], KeychainSettings())
    assert lookup("r.io", "x") == Credentials("plugin", "r.iox")
