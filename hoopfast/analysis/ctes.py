"""Which common table expressions a place of a statement sees. Used by `survey` and `touches`; pure.

A scope costs the same whatever is in it: a statement with thousands of CTEs has thousands of scopes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final


class Scope:
    """The first `seen` names of one WITH, and what is seen around it."""

    __slots__ = ("_names", "_outer", "_seen")

    def __init__(self, outer: Scope | None, names: dict[str, int], seen: int) -> None:
        self._outer = outer
        self._names = names                 # and the place of each in its WITH
        self._seen = seen

    def __contains__(self, name: str) -> bool:
        scope: Scope | None = self
        while scope is not None:
            if scope._names.get(name, scope._seen) < scope._seen:
                return True
            scope = scope._outer
        return False

    def within(self, names: Sequence[str], *, recursive: bool) -> tuple[Scope, list[Scope]]:
        """What is seen behind a WITH of these names, and by each of its queries: those before it, or all."""
        places: dict[str, int] = {}
        for place, name in enumerate(names):
            places.setdefault(name, place)
        everything = Scope(self, places, len(names))
        each = [everything if recursive else Scope(self, places, place) for place in range(len(names))]
        return everything, each


NOWHERE: Final = Scope(None, {}, 0)
