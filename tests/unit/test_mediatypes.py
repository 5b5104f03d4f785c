from __future__ import annotations

import pytest

from kstore import mediatypes as mt

OCI_LAYERS = {"none": mt.OCI_LAYER, "gzip": mt.OCI_LAYER_GZIP, "zstd": mt.OCI_LAYER_ZSTD}
FOREIGN = [
    mt.DOCKER_FOREIGN_LAYER,
    mt.DOCKER_FOREIGN_LAYER_TAR,
    *(mt.OCI_NONDISTRIBUTABLE + end for end in ("", "+gzip", "+zstd")),
]


def test_all_names_every_public_constant_and_function() -> None:
    public = {name for name in vars(mt) if not name.startswith("_")} - {"annotations"}
    assert set(mt.__all__) == public


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_a_layer_type_leads_back_to_its_compression(compression: str) -> None:
    found = mt.layer_type(mt.OCI_MANIFEST, compression)
    assert found == OCI_LAYERS[compression]
    assert mt.layer_compression(found) == compression


def test_docker_has_no_layer_type_for_zstd() -> None:
    assert mt.layer_type(mt.DOCKER_MANIFEST, "gzip") == mt.DOCKER_LAYER
    assert mt.layer_type(mt.DOCKER_MANIFEST, "none") == mt.DOCKER_LAYER_TAR
    assert mt.layer_type(mt.DOCKER_MANIFEST, "zstd") is None


def test_nobody_knows_a_layer_type_for_an_unknown_compression() -> None:
    assert mt.layer_type(mt.OCI_MANIFEST, "bzip2") is None


@pytest.mark.parametrize("media_type", FOREIGN)
def test_foreign_layers_are_told_apart_and_their_compression_is_known(media_type: str) -> None:
    assert mt.is_foreign_layer(media_type)
    expected = next((c for c in ("gzip", "zstd") if media_type.endswith(c)), "none")
    assert mt.layer_compression(media_type) == expected


@pytest.mark.parametrize("media_type", ["", "text/plain", mt.OCI_CONFIG, mt.OCI_LAYER + "+lz4"])
def test_other_types_have_no_known_compression(media_type: str) -> None:
    assert mt.layer_compression(media_type) is None
    assert not mt.is_foreign_layer(media_type)


@pytest.mark.parametrize("media_type", [*OCI_LAYERS.values(), mt.DOCKER_LAYER, mt.DOCKER_LAYER_TAR])
def test_usual_layers_are_not_foreign(media_type: str) -> None:
    assert not mt.is_foreign_layer(media_type)


def test_a_client_accepts_every_type_that_is_read() -> None:
    assert set(mt.MANIFEST_ACCEPT) == mt.MANIFESTS | mt.INDEXES | mt.SCHEMA1
    assert len(set(mt.MANIFEST_ACCEPT)) == len(mt.MANIFEST_ACCEPT)
