"""Measures kstore against other tools and writes RESULTS.md::

    .venv-test/bin/python contrib/bench/run.py [--quick] [--images debian,pyapp] [--runs 7]

It needs docker-registry, skopeo, podman, curl, openssl and mmdebstrap (contrib/test.sh installs
them), about 12 GB of scratch space for the large images, and a machine that does nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from contrib.bench.suite import main

    sys.exit(main(sys.argv[1:]))
