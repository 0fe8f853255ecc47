"""Texts that are there already, word for word or nearly."""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Sequence

from dfkd.batch import Text
from dfkd.errors import ConfigError

SHINGLE = 5  # characters: words would tell nothing of texts of four or five words
PERMUTATIONS = 128
RECALL = 0.99  # share of the near-duplicates at the very threshold that the index is to find


class Duplicates:
    """Knows which of the texts that it is shown are new.

    Two texts are the same when they differ in case and white space alone, and nearly the same when the sets of their
    pieces of 5 characters have a Jaccard similarity of ``threshold`` or more, as estimated by MinHash.

    Args:
        threshold: in (0, 1]; 0: only texts that are the same count.

    Raises:
        ConfigError: near-duplicates are asked for, and the library is missing.

    Source: Broder, "On the resemblance and containment of documents", 1997; Lee et al., ACL 2022 (arXiv:2107.06499),
    section 4.2, drops near-duplicates of training texts at 0.8, with pieces of 5 words.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.exact = self.near = self.empty = 0
        self.known: set[str] = set()
        self._index: Any = _index(threshold) if threshold > 0 else None
        self._sketches: dict[str, Any] = {}

    def new(self, texts: Sequence[Text]) -> list[int]:
        """The places of the texts that are neither empty nor known; they are known from then on."""
        return [place for place, text in enumerate(texts) if self._is_new(text)]

    def remember(self, texts: Iterable[Text]) -> None:
        """Know texts without a look at whether they are new, as after a kill."""
        for text in texts:
            key = plain(text)
            self.known.add(key)
            self._store(key, self._sketch(key))

    def restore(self, counts: Mapping[str, int]) -> None:
        """Go on counting from what :meth:`counts` gave."""
        self.exact, self.near, self.empty = counts["exact"], counts["near"], counts["empty"]

    def _is_new(self, text: Text) -> bool:
        key = plain(text)
        if not key.strip():
            self.empty += 1
            return False
        if key in self.known:
            self.exact += 1
            return False
        sketch = self._sketch(key)
        if self._is_near(sketch):
            self.near += 1
            return False
        self.known.add(key)
        self._store(key, sketch)
        return True

    def _sketch(self, key: str) -> Any:
        """The MinHash of a text; ``None`` where near-duplicates do not count."""
        if self._index is None:
            return None
        from datasketch import MinHash

        sketch = MinHash(num_perm=PERMUTATIONS)
        starts = range(max(1, len(key) - SHINGLE + 1))
        sketch.update_batch([key[start : start + SHINGLE].encode() for start in starts])
        return sketch

    def _is_near(self, sketch: Any) -> bool:
        # the index only gives candidates: its bands are coarser than the estimate itself
        found = self._index.query(sketch) if self._index is not None else ()
        return any(self._sketches[other].jaccard(sketch) >= self.threshold for other in found)

    def _store(self, key: str, sketch: Any) -> None:
        if self._index is not None and key not in self._sketches:
            self._index.insert(key, sketch)
            self._sketches[key] = sketch

    def counts(self) -> dict[str, int]:
        """How many texts were dropped, and why."""
        return {"exact": self.exact, "near": self.near, "empty": self.empty}


def plain(text: Text) -> str:
    """A text (or pair) in lower case, with single spaces."""
    return "\t".join(" ".join(part.lower().split()) for part in ((text,) if isinstance(text, str) else text))


def _index(threshold: float) -> Any:
    try:
        from datasketch import MinHashLSH
    except ImportError as error:
        fix = "pip install datasketch, or add near_duplicates=0: then only exact duplicates are dropped"
        raise ConfigError("near-duplicates are found by the package 'datasketch'", found="no such package", fix=fix) \
            from error
    return MinHashLSH(num_perm=PERMUTATIONS, params=bands(threshold))


def bands(threshold: float) -> tuple[int, int]:
    """How the index cuts a sketch up: (bands, values in each); a text with one band alike becomes a candidate.

    datasketch's own choice weighs misses and false candidates alike, and finds 40 % of the pairs at 0.8; here the
    estimate sorts out false candidates afterwards, and the bands are as long as ``RECALL`` allows.

    Args:
        threshold: similarity in (0, 1].

    Source: Leskovec et al., Mining of Massive Datasets, section 3.4: a pair of similarity s is found with 1 - (1 -
    s^rows)^bands.
    """
    cuts = [(PERMUTATIONS // rows, rows) for rows in range(PERMUTATIONS // 2, 0, -1)]  # 2 bands at least
    return next((cut for cut in cuts if found_at(threshold, *cut) >= RECALL), cuts[-1])


def found_at(similarity: float, count: int, rows: int) -> float:
    """The probability that the index finds a pair of that similarity with ``count`` bands of ``rows`` values."""
    return 1.0 - (1.0 - similarity**rows) ** count
