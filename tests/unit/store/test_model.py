"""The store against a model that is a few dictionaries."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kstore.errors import ImageNotFoundError, InUseError
from kstore.store import Store
from tests.support.images import TestImage, random_image
from tests.support.stores import named, put_image

# Images 0 and 1 share all layers, 2 and 3 share none.
IMAGES = [
    random_image(0, layers=2, layer_size=20),
    random_image(0, layers=2, layer_size=20, labels={"variant": "1"}),
    random_image(2, layers=1, layer_size=20),
    random_image(3, layers=1, layer_size=20),
]
BY_ID = {image.id: image for image in IMAGES}
NAMES = ["a", "b", "localhost/c", "quay.io/d/e:1"]

images = st.sampled_from(IMAGES)
names = st.sampled_from(NAMES)


def files_of(image: TestImage) -> set[str]:
    return {digest.hex for digest in image.blobs} | {image.raw.digest.hex}


class StoreMachine(RuleBasedStateMachine):
    """``names``: name to image ID; ``ids``: all images; both as the store should have them."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp()) / "store"
        self.store = Store.open(self.root, command="model")
        self.names: dict[str, str] = {}
        self.ids: set[str] = set()
        self.moves = 0

    def teardown(self) -> None:
        self.store.close()
        with Store.open(self.root) as store:
            assert store.check(deep=True).problems == ()
        shutil.rmtree(self.root.parent)

    @rule(image=images, name=names)
    def publish(self, image: TestImage, name: str) -> None:
        put_image(self.store, image, name)
        self.ids.add(image.id)
        self.moves += self.names.get(name) != image.id
        self.names[name] = image.id

    @rule(image=images)
    def publish_without_a_name(self, image: TestImage) -> None:
        put_image(self.store, image)
        self.ids.add(image.id)

    @rule(old=names, new=names)
    def tag(self, old: str, new: str) -> None:
        if old not in self.names:
            with pytest.raises(ImageNotFoundError):
                self.store.find_image(old)
            return
        self.store.tag(self.store.find_image(old), [named(new)])
        self.moves += self.names.get(new) != self.names[old]
        self.names[new] = self.names[old]

    @rule(name=names)
    def untag(self, name: str) -> None:
        if name not in self.names:
            with pytest.raises(ImageNotFoundError):
                self.store.untag(named(name))
            return
        self.store.untag(named(name))
        del self.names[name]
        self.moves += 1

    @rule(name=names)
    def remove_name(self, name: str) -> None:
        if name not in self.names:
            with pytest.raises(ImageNotFoundError):
                self.store.remove_name(named(name))
            return
        image_id = self.names.pop(name)
        self.moves += 1
        last = image_id not in self.names.values()
        if last:
            self.ids.remove(image_id)
        report = self.store.remove_name(named(name))
        assert report.deleted == ((image_id,) if last else ())

    @rule(image=images, force=st.booleans())
    def remove_image(self, image: TestImage, force: bool) -> None:
        mine = [name for name, image_id in self.names.items() if image_id == image.id]
        if image.id not in self.ids:
            with pytest.raises(ImageNotFoundError):
                self.store.remove_image(image.id, force=force)
        elif len(mine) > 1 and not force:
            with pytest.raises(InUseError):
                self.store.remove_image(image.id)
        else:
            self.store.remove_image(image.id, force=force)
            self.ids.remove(image.id)
            self.moves += len(mine)
            for name in mine:
                del self.names[name]

    @rule(dangling=st.booleans(), dry=st.booleans())
    def prune(self, dangling: bool, dry: bool) -> None:
        going = self.ids - set(self.names.values()) if dangling else set()
        report = self.store.prune(only_images=None if dangling else (), dry_run=dry, lease_grace=0)
        assert set(report.deleted) == going
        if not dry:
            self.ids -= going

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = Store.open(self.root, command="model")

    @invariant()
    def the_store_says_what_the_model_says(self) -> None:
        found = {record.id: record for record in self.store.images()}
        assert set(found) == self.ids
        names = {str(named(name)): image_id for name, image_id in self.names.items()}
        assert {str(n.name): record.id for record in found.values() for n in record.names} == names
        assert all(record.complete for record in found.values())
        assert len(self.store.name_log()) == self.moves

    @invariant()
    def exactly_the_needed_files_are_there(self) -> None:
        needed = set[str]().union(*(files_of(BY_ID[image_id]) for image_id in self.ids))
        assert {path.name for path in (self.root / "blobs" / "sha256").iterdir()} == needed
        for image_id in self.ids:
            sizes = [len(data) for data in BY_ID[image_id].blobs.values()]
            assert self.store.image(image_id).size == sum(sizes)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=12,
    stateful_step_count=16,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
