# SPDX-License-Identifier: Apache-2.0
"""Counts of a dispatch, as views by name."""

from __future__ import annotations

from typing import Any

from crossdock import _core


class Counts:
    """Counts of one dispatch in device memory, int64, written by the call. "Here" is the receiving rank.

    num_rows             rows received here and kept; valid rows are [0, num_rows)
    rows_needed          row capacity that would have kept all
    rows_per_source      kept rows by home rank
    dropped_per_source   rows dropped here for want of row capacity, by home rank
    num_tokens           T of this rank, after clamping to max_tokens_per_rank
    bad_ids              ids of this rank outside [-1, num_experts): counted, not followed
    expert_rows_needed   layouts by expert: expert_capacity that would have kept all
    expert_rows_dropped  layouts by expert: rows dropped for want of expert capacity

    Each attribute is a view of one word, or of one word per rank, in the framework of the dispatch's rows; `words` is all of them."""

    __slots__ = ("_num_ranks", "_words")

    def __init__(self, words: _core._CountWords, num_ranks: int) -> None:
        self._words, self._num_ranks = words, num_ranks

    @property
    def words(self) -> Any:
        """All counts as one int64 array: a view of device memory, laid out as the C++ struct `Counts`."""
        return self._words.view(0, _core._COUNT_WORDS)

    def __getattr__(self, name: str) -> Any:
        try:
            first, length = _core._COUNTS[name]
        except KeyError:
            raise AttributeError(f"Counts has no `{name}`; it has {', '.join(_core._COUNTS)}") from None
        return self._words.view(first, self._num_ranks if length > 1 else 1)

    def __dir__(self) -> list[str]:
        return [*_core._COUNTS, "words", "host"]

    def host(self) -> dict[str, Any]:
        """All counts as ints and lists of ints. Waits for the dispatch: not for graphs."""
        words = self._words.read()
        slices = {name: words[first : first + length] for name, (first, length) in _core._COUNTS.items()}
        return {name: values[0] if len(values) == 1 else values[: self._num_ranks] for name, values in slices.items()}
