"""Hypothesis strategies for the value types, and settings for machines that stall now and then."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

from kstore.descriptor import MAX_BLOB_SIZE, Descriptor
from kstore.digest import ALGORITHMS, Digest
from kstore.platforms import Platform

#: For property tests: a slow moment of the machine is not a failure.
steady = settings(deadline=None)

_HEX = "0123456789abcdef"
#: Any text that JSON, a database and a terminal can take.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
words = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}", fullmatch=True)
words_or_none = st.none() | words


@st.composite
def digests(draw: st.DrawFn) -> Digest:
    algorithm = draw(st.sampled_from(sorted(ALGORITHMS)))
    length = ALGORITHMS[algorithm]
    return Digest(algorithm, draw(st.text(_HEX, min_size=length, max_size=length)))


platforms = st.builds(
    Platform,
    os=words,
    architecture=words,
    variant=words_or_none,
    os_version=words_or_none,
    os_features=st.lists(words, max_size=3).map(tuple),
)

descriptors = st.builds(
    Descriptor,
    media_type=texts,
    digest=digests(),
    size=st.integers(0, MAX_BLOB_SIZE),
    annotations=st.dictionaries(texts, texts, max_size=3),
    urls=st.lists(texts, max_size=3).map(tuple),
    platform=st.none() | platforms,
    artifact_type=words_or_none,
)
