"""What the transfer itself costs: parallel downloads to disk, then one hash of each file.

The hash is openssl's, which uses the processor's instructions for it as Python's does; coreutils'
sha256sum takes four times as long and would make the limit look easy.
"""

from __future__ import annotations

from contrib.bench.checks import Image
from contrib.bench.timing import RunError
from contrib.bench.tools import Tool, Trial


class Curl(Tool):
    name = "limit: curl -Z, then sha256"

    def pull(self, image: Image, host: str) -> Trial | None:
        hexes = [digest.removeprefix("sha256:") for digest in image.blobs]
        config = self._place / "curl.cfg"
        config.write_text(
            "".join(
                f'url = "http://{host}/v2/{image.name}/blobs/sha256:{name}"\n'
                f'output = "{self._place / name}"\n'
                for name in hexes
            )
        )
        script = 'curl -sSf -Z --parallel-max 6 -K "$0" && openssl dgst -sha256 -r "$@"'

        def verify(text: str) -> None:
            if {line.split()[0] for line in text.splitlines()} != set(hexes):
                raise RunError("what curl fetched has other digests")

        files = [str(self._place / name) for name in hexes]
        return Trial(["sh", "-c", script, str(config), *files], verify)
