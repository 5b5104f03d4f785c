"""Measures kstore against other tools and writes RESULTS.md::

    .venv-test/bin/python contrib/bench/run.py --peer-runs podman=3
    .venv-test/bin/python contrib/bench/run.py --only pull,again --images debian,pyapp --runs 9
    .venv-test/bin/python contrib/bench/run.py --assemble

Every table is kept in the cache directory as soon as it is measured, over an earlier one of the
same work; the page is made of all tables there, so that stages can be measured at different times.
It needs docker-registry, skopeo, podman, curl, openssl and mmdebstrap (contrib/test.sh installs
them), about 15 GB for the large images and filled stores, and a machine that does nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from contrib.bench.suite import main

    sys.exit(main(sys.argv[1:]))
