"""What the README shows of Python runs as it stands there."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from kstore.operations.containers import images_in
from kstore.store import Store
from tests.support.cli import REPOSITORY
from tests.support.faultserver import FaultServer, make_certificate
from tests.support.images import random_image

HOST = "registry.example.com"  # stands for the registry of the test


def examples(host: str) -> list[str]:
    """The Python examples of the README, with a real registry in them."""
    text = (REPOSITORY / "README.md").read_text()
    found = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [example.replace(HOST, host) for example in found]


def test_the_examples_of_the_readme_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = random_image(1, labels={"vendor": "acme"})
    root = tmp_path / "root"
    certificate, key = make_certificate(tmp_path)
    with FaultServer(tls=(certificate, key)) as server:
        for blob in image.blobs.values():
            server.add_blob(blob)
        server.add_manifest(image.raw.data, image.raw.media_type, tag="1.4")
        trusted = tmp_path / "config" / "containers" / "certs.d" / server.host
        trusted.mkdir(parents=True)
        (trusted / "ca.crt").write_bytes(certificate.read_bytes())
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        monkeypatch.setenv("KSTORE_ROOT", str(root))
        monkeypatch.chdir(tmp_path)
        scope: dict[str, Any] = {}
        shown = []
        for number, example in enumerate(examples(server.host), start=1):
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(example, f"README.md, Python example {number}", "exec"), scope)
            shown.append(output.getvalue())
        name = f"{server.host}/team/app"
    pulled, moved, made = shown
    assert f"{image.id[:12]} linux/amd64" in pulled
    assert f"{name} 1.4 {image.raw.digest} 2024-01-02" in pulled
    assert "['/bin/sh'] None" in pulled
    assert moved.endswith(f" None {image.raw.digest} release\n")
    assert made.startswith("3 no image 'app:unstable'")
    layout = images_in(tmp_path / "layout", spool_dir=tmp_path)
    with layout as (only,), only.reference.open_source() as source:
        manifest = json.loads(source.read_manifest().data)
    assert manifest["annotations"] == {"org.opencontainers.image.vendor": "acme"}
    with Store.open(root, read_only=True) as store:
        assert {str(record.name) for record in store.names()} == {
            f"{name}:1.4",
            "localhost/app:stable",
        }
