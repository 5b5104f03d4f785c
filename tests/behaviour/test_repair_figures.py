"""What a repair of a big image transfers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kstore.app import App, RegistryOptions
from kstore.digest import Digest
from kstore.operations.pull import pull_image
from kstore.settings import load
from kstore.store import Store
from tests.support.cli import run
from tests.support.faultserver import FaultServer
from tests.support.images import random_image


@pytest.mark.parametrize(
    ("layers", "layer_size"),
    [(4, 500_000), pytest.param(8, 50_000_000, marks=pytest.mark.slow)],
    ids=["small", "8 x 50 MB"],
)
def test_one_damaged_blob_of_a_big_image_is_all_that_is_transferred(
    tmp_path: Path, layers: int, layer_size: int
) -> None:
    image = random_image(1, layers=layers, layer_size=layer_size, compression="none")
    damaged = image.layers[layers // 2]
    root = tmp_path / "root"
    with FaultServer() as server:
        for data in image.blobs.values():
            server.add_blob(data)
        server.add_manifest(image.raw.data, image.raw.media_type, tag="v1")
        name = f"{server.host}/team/app:v1"
        app = App(load({}, root=root))
        with (
            Store.open(root) as store,
            app.transports(store, RegistryOptions(tls_verify=False)) as transports,
        ):
            pull_image(store, transports, name)
        blob = root / "blobs" / "sha256" / damaged.digest.hex
        blob.chmod(0o600)
        with blob.open("r+b") as file:
            file.seek(layer_size // 2)
            file.write(b"one byte of rot and a few more")
        server.requests.clear()
        before = server.sent
        result = run("--root", root, "check", "--repair", "--tls-verify=false", "--json")
        transferred = server.sent - before
    assert result.code == 0, result
    [fetched] = json.loads(result.out)["repair"]["fetched"]
    assert fetched["digest"] == str(damaged.digest)
    assert transferred == damaged.size
    assert {r.target.rpartition("/")[2] for r in server.seen("GET", "sha256:")} == {
        str(damaged.digest)
    }
    with blob.open("rb") as file:
        assert Digest.of(file.read()) == damaged.digest
