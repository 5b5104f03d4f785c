"""Looks up 1,000 images of a store in one process: ``python lookups.py ROOT name|ID|prefix``.

Prints the seconds that took, without the start of the process and of the store.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from kstore.store import Store

LOOKUPS = 1_000


def main(root: str, kind: str) -> None:
    with Store.open(Path(root), read_only=True) as store:
        images = random.Random(0).choices(store.images(), k=LOOKUPS)
        texts = {
            "name": [str(image.names[0].name) for image in images],
            "ID": [image.id for image in images],
            "prefix": [image.id[:12] for image in images],
        }[kind]
        begun = time.perf_counter()
        for text, image in zip(texts, images, strict=True):
            if store.find_image(text).image.id != image.id:
                sys.exit(f"{text} is another image")
        print(time.perf_counter() - begun)


if __name__ == "__main__":
    main(*sys.argv[1:])
