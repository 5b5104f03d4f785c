"""Several processes at work in one store, some of them killed."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from kstore.store import Store
from tests.support.scripts import finished, started

# Pulls, tags and removes images that share layers, and reads back what it published.
WRITER = """
    import contextlib, random, sys, time
    from pathlib import Path
    from kstore.errors import BlobNotFoundError, ImageNotFoundError
    from kstore.store import Publication, Store
    from tests.support.images import random_image
    from tests.support.stores import named, put_blobs

    root, seed, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    chance, rounds, end = random.Random(seed), 0, time.monotonic() + seconds
    images = [random_image(n % 3, layers=3, layer_size=50, labels={"n": str(n)}) for n in range(9)]
    with Store.open(root, command="writer") as store:
        while time.monotonic() < end:
            image, name = chance.choice(images), f"localhost/x{chance.randrange(6)}"
            verb = chance.choice(["pull", "pull", "pull", "remove", "untag", "tag"])
            try:
                if verb == "pull":
                    with store.lease("pull") as lease:
                        put_blobs(lease, image)
                        record = lease.publish(Publication(image.raw, (named(name),)))
                        for digest, data in image.blobs.items():
                            assert store.read_blob(digest, cap=1 << 20) == data
                elif verb == "remove":
                    store.remove_name(named(name))
                elif verb == "untag":
                    store.untag(named(name))
                else:
                    found = store.find_image(name)
                    with contextlib.suppress(BlobNotFoundError):  # removed between the two
                        store.tag(found, [named(f"localhost/x{chance.randrange(6)}")])
            except ImageNotFoundError:
                pass
            rounds += 1
    print(rounds)
"""

PRUNER = """
    import sys, time
    from pathlib import Path
    from kstore.store import Store
    end, rounds = time.monotonic() + float(sys.argv[2]), 0
    with Store.open(Path(sys.argv[1]), command="prune") as store:
        while time.monotonic() < end:
            store.prune(lease_grace=0, all_unused_partials=True)
            rounds += 1
    print(rounds)
"""

READER = """
    import sys, time
    from pathlib import Path
    from kstore.errors import BlobNotFoundError
    from kstore.store import Store
    end, rounds = time.monotonic() + float(sys.argv[2]), 0
    with Store.open(Path(sys.argv[1])) as store:
        while time.monotonic() < end:
            for image in store.images():
                assert image.complete
                with store.lease("push") as lease:
                    try:
                        from kstore.store import Found
                        lease.hold_image(Found(image, None, image.manifests[0]))
                    except BlobNotFoundError:
                        continue
                    raw = store.read_manifest(image.manifests[0])
                    from kstore.manifest import parse_image
                    for blob in parse_image(raw).blobs:
                        assert len(store.read_blob(blob.digest, cap=1 << 20)) == blob.size
            rounds += 1
    print(rounds)
"""


def settle(root: Path) -> None:
    """After everything: no damage; and no garbage once it is pruned."""
    with Store.open(root) as store:
        report = store.check(deep=True)
        assert not report.damaged, report.problems
        store.prune(lease_grace=0, all_unused_partials=True)
        assert store.check(deep=True).problems == ()
        assert list((root / "ingest").iterdir()) == []


def test_two_writers_a_reader_and_a_pruner_never_lose_a_blob(tmp_path: Path) -> None:
    root, seconds = tmp_path / "store", "2"
    Store.open(root).close()
    with ExitStack() as stack:
        processes = [
            stack.enter_context(started(code, str(root), *arguments))
            for code, *arguments in (
                (WRITER, "1", seconds),
                (WRITER, "2", seconds),
                (READER, seconds),
                (PRUNER, seconds),
            )
        ]
        for process in processes:
            output, errors = process.communicate(timeout=60)
            assert process.returncode == 0, errors
            assert int(output) > 0
    settle(root)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_writers_leave_a_store_that_works(tmp_path: Path, seed: int) -> None:
    root, chance = tmp_path / "store", random.Random(seed)
    Store.open(root).close()
    with ExitStack() as stack:
        pruner = stack.enter_context(started(PRUNER, str(root), "3"))
        end = time.monotonic() + 2
        while time.monotonic() < end:
            with started(WRITER, str(root), str(chance.random())[2:8], "10") as writer:
                time.sleep(0.3 + chance.random() * 0.4)
                assert writer.poll() is None, writer.communicate()
                writer.kill()
        _, errors = pruner.communicate(timeout=60)
        assert pruner.returncode == 0, errors
    settle(root)
    assert int(finished(WRITER, str(root), "7", "0.3")) > 0
