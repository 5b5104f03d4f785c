"""Which images have a layer in common."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from kstore.digest import Digest
from kstore.store.queries import load_images
from kstore.store.records import ImageRecord
from kstore.store.session import Session

__all__ = ["layer_users", "shared_sizes"]


def layer_users(
    session: Session, layers: Iterable[Digest]
) -> dict[Digest, tuple[ImageRecord, ...]]:
    """See :meth:`kstore.store.Store.layer_users`."""
    digests = {str(digest): digest for digest in layers}
    with session.db.snapshot():
        pairs = session.db.rows(
            "SELECT DISTINCT e.child, m.image_id FROM edge e JOIN manifest m ON m.digest = e.parent"
            " WHERE e.child IN (SELECT value FROM json_each(?)) AND e.role = 'layer'"
            " AND m.image_id IS NOT NULL",
            [json.dumps(list(digests))],
        )
        images = load_images(session, {image_id for _, image_id in pairs})
    users = {(child, image_id) for child, image_id in pairs}
    return {
        digest: tuple(image for image in images if (text, image.id) in users)
        for text, digest in digests.items()
    }


def shared_sizes(session: Session) -> Mapping[str, int]:
    """See :meth:`kstore.store.Store.shared_sizes`."""
    return dict(
        session.db.rows(
            "WITH use (image_id, layer) AS"
            "   (SELECT DISTINCT m.image_id, e.child FROM edge e JOIN manifest m"
            "    ON m.digest = e.parent WHERE e.role = 'layer' AND m.image_id IS NOT NULL),"
            " shared (layer) AS (SELECT layer FROM use GROUP BY layer HAVING count(*) > 1)"
            " SELECT use.image_id, sum(blob.size) FROM shared JOIN use USING (layer)"
            " JOIN blob ON blob.digest = layer GROUP BY use.image_id"
        )
    )
