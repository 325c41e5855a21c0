"""The words for kinds of statements that analysis gives and rules use.

A word such as `drop` names a family: it matches `drop_table`, `drop_role` and every other DROP. Used by analysis (which
may only give words of KINDS), by the reader of policy.yaml and by the snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_WORDS: Final = """
select values insert update delete merge truncate copy_to copy_from
create_table create_view create_function create_index create_schema create_role create_database create_extension
create_trigger create_other
alter_table alter_role alter_database alter_system alter_other
drop_table drop_database drop_schema drop_role drop_view drop_function drop_owned drop_other
grant revoke set reset show explain begin commit rollback savepoint
prepare execute deallocate declare fetch close move listen notify unlisten lock
vacuum analyze cluster reindex refresh do call comment discard checkpoint load security_label
import_foreign_schema function_call other
"""

FAMILIES: Final[frozenset[str]] = frozenset({"drop", "create", "alter", "copy"})
KINDS: Final[frozenset[str]] = frozenset(_WORDS.split()) | FAMILIES


def family_of(kind: str) -> str:
    """`drop` for `drop_table`; "" for a word that stands alone or is a family itself."""
    family, underscore, _ = kind.partition("_")
    return family if underscore and family in FAMILIES else ""


def covers(wanted: frozenset[str], kind: str) -> bool:
    """Whether a rule that names `wanted` speaks of a statement of this kind."""
    return kind in wanted or (bool(family := family_of(kind)) and family in wanted)


def distinct(kinds: Iterable[str]) -> tuple[str, ...]:
    """The kinds without repetition, and without a family's word where a member of the family says it more exactly."""
    unique = dict.fromkeys(kinds)
    spoken = {family_of(kind) for kind in unique}
    return tuple(kind for kind in unique if kind not in spoken)
