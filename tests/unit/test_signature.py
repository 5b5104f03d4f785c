from __future__ import annotations

import pytest

from kstore.errors import InvalidManifestError, UnsupportedError
from kstore.signature import (
    MAX_SIGNATURE_SIZE,
    SigstoreSignature,
    SimpleSignature,
    parse_signature,
)

SIGSTORE = SigstoreSignature(b'{"critical":{}}', {"dev.cosignproject.cosign/signature": "MEUC"})


@pytest.mark.parametrize("first", [0x88, 0x90, 0x93, 0xA3, 0xC2, 0xC4, 0xC8])
def test_a_binary_openpgp_message_is_a_simple_signature(first: int) -> None:
    message = bytes([first]) + b"rest"
    assert parse_signature(message, "it") == SimpleSignature(message)
    assert parse_signature(b"\x00simple-signing\n" + message, "it") == SimpleSignature(message)


def test_a_sigstore_signature_comes_back_as_it_was() -> None:
    assert parse_signature(SIGSTORE.to_bytes(), "it") == SIGSTORE


@pytest.mark.parametrize("data", [b"", b"-----BEGIN PGP MESSAGE-----", b"\x3dx", b"\x00other\n{}"])
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedError, match="signature-1 is neither"):
        parse_signature(data, "signature-1")


@pytest.mark.parametrize(
    "json",
    [
        b"[]",
        b"{",
        b'{"payload":"","annotations":{}}',
        b'{"mimeType":"a","payload":"*","annotations":{}}',
        b'{"mimeType":"a","payload":"","annotations":{"a":1}}',
        b'{"mimeType":"a","payload":"","annotations":[]}',
        b'{"mimeType":"a","mimeType":"b","payload":"","annotations":{}}',
        b" " * (MAX_SIGNATURE_SIZE + 1),
    ],
)
def test_a_damaged_sigstore_signature_is_refused(json: bytes) -> None:
    with pytest.raises(InvalidManifestError, match="signature-1"):
        parse_signature(b"\x00sigstore-json\n" + json, "signature-1")
