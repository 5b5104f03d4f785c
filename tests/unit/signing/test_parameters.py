"""Files that say how to make a sigstore signature."""

from __future__ import annotations

from pathlib import Path

import pytest

from kstore.errors import InvalidInputError, KstoreError, NotFoundError, UnsupportedError
from kstore.signing.parameters import SigningParameters, read_parameters


def read(tmp_path: Path, text: str) -> SigningParameters:
    file = tmp_path / "params.yaml"
    file.write_text(text)
    return read_parameters(file)


def test_a_key_and_its_passphrase_are_named(tmp_path: Path) -> None:
    alone = read(tmp_path, "privateKeyFile: /keys/me.private\n")
    assert alone == SigningParameters(Path("/keys/me.private"))
    both = read(tmp_path, "privateKeyPassphraseFile: 'secret'\nprivateKeyFile: key\n")
    assert both == SigningParameters(Path("key"), Path("secret"))


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("", InvalidInputError, "has no privateKeyFile"),
        ("privateKeyPassphraseFile: x", InvalidInputError, "has no privateKeyFile"),
        ("privateKeyFile: [x]", InvalidInputError, "privateKeyFile is not a text"),
        ("privateKeyFile: ''", InvalidInputError, "privateKeyFile is not a text"),
        ("privateKeyFile:", InvalidInputError, "privateKeyFile is not a text"),
        ("privateKeyFile: x\nprivatekeyfile: y", InvalidInputError, "'privatekeyfile' is unknown"),
        ("privateKeyFile: x\nprivateKeyFile: y", InvalidInputError, "line 2: .* appears twice"),
        ("privateKeyFile: x\n  y: z", InvalidInputError, "line 2"),
        ("- x", InvalidInputError, "is not a mapping"),
        ("privateKeyFile: x\nrekorURL: https://r", UnsupportedError, "log of rekor"),
        ("fulcio: {oidcMode: staticToken}", UnsupportedError, "certificate by Fulcio"),
        ("#" + "x" * (64 << 10), InvalidInputError, "more than"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_is_not_understood_or_cannot_be_made_is_refused_by_its_file(
    tmp_path: Path, text: str, kind: type[KstoreError], reason: str
) -> None:
    with pytest.raises(kind, match=reason) as raised:
        read(tmp_path, text)
    assert str(tmp_path / "params.yaml") in raised.value.message


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="parameter file .*gone"):
        read_parameters(tmp_path / "gone")
