"""Actions as words: OpenVLA writes each number in [-1, 1] as one of the last ids of the language model's vocabulary.

256 edges from -1 to 1 make 255 intervals. The id of a number is the vocabulary's size minus the index that
`numpy.digitize` gives it, so ids fall as values rise; an id stands for the middle of its interval (openvla
prismatic/vla/action_tokenizer.py:30-68, modeling_prismatic.py:499-524).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int64

VOCABULARY = 32000
"""Llama-2's. The rows that pad the table (<PAD> among them) are not counted."""

EDGES = 256

SPACE = 29871
"""Llama's id of a lone blank: it stands between "Out:" and the first action (openvla issue 104)."""

STOP = 2
"""Llama's end of text, after the last action."""


def encode(
    values: Float[np.ndarray, "*n"], *, vocabulary: int = VOCABULARY, edges: int = EDGES
) -> Int64[np.ndarray, "*n"]:
    """What lies outside [-1, 1] counts as the nearer end: 31999 is -1, 31744 is +1."""
    return vocabulary - np.digitize(np.clip(values, -1.0, 1.0), np.linspace(-1, 1, edges))


def decode(
    ids: Int64[np.ndarray, "*n"], *, vocabulary: int = VOCABULARY, edges: int = EDGES
) -> Float64[np.ndarray, "*n"]:
    """Any id has an answer, as in the reference: below the action ids (words, the end of text) it is the highest value,
    above them the lowest. A caller that wants to know asks `is_action`."""
    ends = np.linspace(-1, 1, edges)
    middles: np.ndarray = (ends[:-1] + ends[1:]) / 2
    return np.asarray(middles[np.clip(vocabulary - ids - 1, 0, edges - 2)])


def is_action(ids: Int64[np.ndarray, "*n"], *, vocabulary: int = VOCABULARY, edges: int = EDGES) -> np.ndarray:
    """Written by `encode`: the last `edges` ids of the vocabulary."""
    return (ids >= vocabulary - edges) & (ids < vocabulary)
