"""What a working container will be as an image: settings that can be changed before a commit."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Any, Final, Self

from kstore import strictjson
from kstore.blobs import open_plain_file, replace_file, storage_errors
from kstore.descriptor import text_map
from kstore.errors import (
    IntegrityError,
    InvalidInputError,
    InvalidManifestError,
    StoreDamagedError,
)
from kstore.manifest import MAX_CONFIG_SIZE, MAX_MANIFEST_SIZE, ImageConfig, parse_image
from kstore.operations.changes import apply_changes, require_text
from kstore.platforms import host_platform
from kstore.store import ContainerRecord, Found, Store
from kstore.store.containers import DESCRIPTION
from kstore.streams import read_limited
from kstore.values import dataclass

__all__ = ["TYPE", "Draft", "DraftData"]

#: What the description of a container says it is.
TYPE: Final = "kstore container 1"
_CREATED_BY: Final = "kstore commit"
#: Bytes of a description: config and annotations have these limits, too.
_MAX_SIZE: Final = MAX_CONFIG_SIZE + MAX_MANIFEST_SIZE


@dataclass(frozen=True, slots=True)
class DraftData:
    """A snapshot of a draft.

    ``image`` and ``image_id`` are the name and the ID of the image it began from, None for
    scratch; ``container_id`` and ``container_name`` are None where it is of no container.
    ``created_by`` and ``comment`` are for the new entry of the history.  ``config`` is the image
    config as JSON knows it, with keys that kstore does not know.
    """

    container_id: str | None
    container_name: str | None
    image: str | None
    image_id: str | None
    created_by: str | None
    comment: str | None
    annotations: Mapping[str, str] = field(hash=False)
    config: Mapping[str, Any] = field(hash=False, repr=False)

    @property
    def view(self) -> ImageConfig:
        """The config in this project's terms."""
        return ImageConfig.parse(json.dumps(self.config).encode())

    def history_entry(
        self, stamp: str | None, *, message: str | None = None, empty: bool = False
    ) -> dict[str, Any]:
        """The new entry of the history, as JSON knows it.

        ``stamp`` is its date (RFC 3339), ``message`` a comment instead of that of the settings;
        ``empty``: there is no layer of this step.
        """
        entry: dict[str, Any] = {"created": stamp, "created_by": self.created_by or _CREATED_BY}
        if self.view.author:
            entry["author"] = self.view.author
        if comment := message or self.comment:
            entry["comment"] = comment
        if empty:
            entry["empty_layer"] = True
        return entry


class Draft:
    """The settings of an image to come.

    Made by :meth:`of_container`, :meth:`of_image` or :meth:`of_scratch`; :meth:`save` writes it
    back into its container.  A setting that is set to None is taken away.  Texts that are not
    UTF-8, or that contain a zero byte, are an InvalidInputError wherever they are set.
    """

    def __init__(self, document: dict[str, Any], what: str, home: ContainerRecord | None) -> None:
        self._document = document
        self._what = what
        self._home = home
        self._check()

    @classmethod
    def of_scratch(cls, home: ContainerRecord | None = None) -> Self:
        """An image without anything, for this machine's platform; ``home``: see of_image."""
        platform = host_platform()
        config: dict[str, Any] = {"architecture": platform.architecture, "os": platform.os}
        if platform.variant:
            config["variant"] = platform.variant
        return cls({"type": TYPE, "annotations": {}, "config": config}, "the new image", home)

    @classmethod
    def of_image(cls, store: Store, found: Found, home: ContainerRecord | None = None) -> Self:
        """The settings of an image of the store; ``home`` is the container :meth:`save` writes
        them into.

        Raises InvalidManifestError, BlobNotFoundError, StoreDamagedError.
        """
        manifest = parse_image(store.read_manifest(found.manifest))
        what = f"config of image {found.image.short_id}"
        data = store.read_blob(manifest.config.digest, cap=MAX_CONFIG_SIZE)
        config = strictjson.as_object(strictjson.loads(data, what, cap=MAX_CONFIG_SIZE), what)
        platform = host_platform()
        config["os"] = config.get("os") or platform.os
        config["architecture"] = config.get("architecture") or platform.architecture
        name = found.name or next((record.name for record in found.image.names), None)
        document = {
            "type": TYPE,
            "image": None if name is None else str(name),
            "image-id": found.image.id,
            "annotations": dict(manifest.annotations),
            "config": config,
        }
        return cls(document, what, home)

    @classmethod
    def of_container(cls, record: ContainerRecord) -> Self:
        """What a container's description says.

        Raises StoreDamagedError if it is gone, IntegrityError if it makes no sense.
        """
        path = record.directory / DESCRIPTION
        what = f"{DESCRIPTION} of container {record.name}"
        try:
            with open_plain_file(path) as file:
                data = read_limited(file, _MAX_SIZE, what)
        except OSError as exc:
            raise StoreDamagedError(
                f"cannot read {what}: {exc.strerror}", hint=f"kstore rm {record.name}"
            ) from exc
        document = strictjson.as_object(strictjson.loads(data, what, cap=_MAX_SIZE), what)
        if document.get("type") != TYPE:
            raise IntegrityError(f"{what} is of the unknown type {document.get('type')!r:.80}")
        return cls(document, what, record)

    @property
    def home(self) -> ContainerRecord | None:
        """The container that :meth:`save` writes the settings into."""
        return self._home

    def _check(self) -> None:
        """Everything has the type it must have."""
        for key in ("image", "image-id", "created-by", "history-comment"):
            value = self._document.get(key)
            if value is not None and not isinstance(value, str):
                raise InvalidManifestError(f"{key} in {self._what} is not text")
        text_map(self._document.get("annotations"), f"annotations in {self._what}")
        strictjson.as_object(self._document.get("config"), f"config in {self._what}")
        ImageConfig.parse(_dump(self._document["config"]), self._what)

    @property
    def data(self) -> DraftData:
        """The settings as they are now; later changes do not show in it."""
        copy = json.loads(_dump(self._document))
        return DraftData(
            container_id=self._home.id if self._home else None,
            container_name=self._home.name if self._home else None,
            image=copy.get("image"),
            image_id=copy.get("image-id"),
            created_by=copy.get("created-by"),
            comment=copy.get("history-comment"),
            annotations=copy.get("annotations") or {},
            config=copy["config"],
        )

    def describe(self, record: ContainerRecord) -> bytes:
        """The description of a container with these settings."""
        own = {"container-id": record.id, "container-name": record.name}
        data = _dump({**self._document, **own})
        if len(data) > _MAX_SIZE:
            raise InvalidInputError(
                f"the settings of container {record.name} are over the limit of {_MAX_SIZE} bytes"
            )
        return data

    def save(self) -> None:
        """Write the settings into their container, atomically.

        Raises StorageError, and InvalidInputError for settings that are of no container.
        """
        if self._home is None:
            raise InvalidInputError(f"{self._what} belongs to no container: nothing to save it in")
        self._check()
        data = self.describe(self._home)
        with storage_errors(f"write {self._what}"):
            replace_file(self._home.directory / DESCRIPTION, data, mode=0o600)

    # ---- settings of the config

    @property
    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = self._document["config"]
        return config

    @property
    def _run(self) -> dict[str, Any]:
        """How to run it: the ``config`` object of the config, made where there is none."""
        run: dict[str, Any] | None = self._config.get("config")
        if run is None:
            run = self._config["config"] = {}
        return run

    @property
    def os(self) -> str | None:
        """The operating system, in Go's words (``linux``)."""
        return self._config.get("os") or None

    @os.setter
    def os(self, value: str) -> None:
        _set(self._config, "os", value)

    @property
    def architecture(self) -> str | None:
        """The processor, in Go's words (``amd64``)."""
        return self._config.get("architecture") or None

    @architecture.setter
    def architecture(self, value: str) -> None:
        _set(self._config, "architecture", value)

    @property
    def author(self) -> str | None:
        """Who made the image."""
        return self._config.get("author") or None

    @author.setter
    def author(self, value: str | None) -> None:
        _set(self._config, "author", value)

    @property
    def work_dir(self) -> str:
        """The directory programs start in; ``/`` where none is set."""
        return self._run.get("WorkingDir") or "/"

    @work_dir.setter
    def work_dir(self, value: str | None) -> None:
        _set(self._run, "WorkingDir", value)

    @property
    def created_by(self) -> str | None:
        """What the new entry of the history says it was made by."""
        return self._document.get("created-by") or None

    @created_by.setter
    def created_by(self, value: str | None) -> None:
        _set(self._document, "created-by", value)

    @property
    def comment(self) -> str | None:
        """The comment of the new entry of the history."""
        return self._document.get("history-comment") or None

    @comment.setter
    def comment(self, value: str | None) -> None:
        _set(self._document, "history-comment", value)

    @property
    def annotations(self) -> dict[str, str]:
        """A copy of the manifest's annotations."""
        return dict(self._document.get("annotations") or {})

    def set_annotation(self, key: str, value: str | None) -> None:
        """Set an annotation of the manifest."""
        self._document["annotations"] = _with(self.annotations, key, value)

    def set_label(self, key: str, value: str | None) -> None:
        """Set a label of the config."""
        _keep(self._run, "Labels", _with(self._run.get("Labels") or {}, key, value))

    def set_env(self, key: str, value: str | None) -> None:
        """Set an environment variable; it keeps its place if it was there."""
        entries = dict(entry.partition("=")[::2] for entry in self._run.get("Env") or [])
        changed = _with(entries, key, value)
        _keep(self._run, "Env", [f"{name}={text}" for name, text in changed.items()])

    def set_text(self, key: str, value: str | None) -> None:
        """Set a text of the ``config`` object, such as ``User`` or ``StopSignal``."""
        _set(self._run, key, value)

    def set_words(self, key: str, words: Sequence[str] | None) -> None:
        """Set a list of texts of the ``config`` object, such as ``Cmd`` or ``Entrypoint``."""
        for word in words or ():
            require_text(word, f"{key} {word[:100]!r}")
        _keep(self._run, key, list(words or ()))

    def change(self, instruction: str) -> None:
        """Change the ``config`` object as a Dockerfile instruction does; InvalidInputError."""
        apply_changes(self._run, [instruction])

    def drop(self, key: str, member: str | None = None) -> None:
        """Take a key of the ``config`` object away, or one member of it."""
        if member is None:
            self._run.pop(key, None)
        elif isinstance(members := self._run.get(key), dict):
            members.pop(member, None)
            _keep(self._run, key, members)


def _set(target: dict[str, Any], key: str, value: str | None) -> None:
    if not value:
        target.pop(key, None)
        return
    require_text(value, f"{key} {value[:100]!r}")
    target[key] = value


def _keep(target: dict[str, Any], key: str, value: Collection[Any]) -> None:
    """Set a list or a map; one that holds nothing is left out."""
    if value:
        target[key] = value
    else:
        target.pop(key, None)


def _with(texts: Mapping[str, str], key: str, value: str | None) -> dict[str, str]:
    if not key:
        raise InvalidInputError("a setting without a name cannot be set")
    require_text(key + (value or ""), f"the setting {key[:100]!r}")
    if value is None:
        return {name: text for name, text in texts.items() if name != key}
    return {**texts, key: value}


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
