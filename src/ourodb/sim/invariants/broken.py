"""The end of a run in which an invariant doesn't hold."""

from __future__ import annotations


class InvariantBroken(Exception):
    """Says which, on which node, and what was found instead."""
