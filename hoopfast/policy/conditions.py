"""The conditions of a rule, compiled: whom, from where, when, and which parts of a statement it speaks of.

A rule that restricts (deny, approve, warn) applies to whatever a name *may* mean and to whatever is not known; a rule
that allows only to what it *must* mean. Used by `snapshot`; pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from hoopfast import units
from hoopfast.model import Client, Identity, StatementFacts
from hoopfast.policy import source
from hoopfast.policy.kinds import covers
from hoopfast.policy.patterns import Columns, Glob, Schemas, Tables, Written
from hoopfast.policy.windows import Window

Place = str | None                  # a table as written; None stands for "no table" in statements that name none


class Who:
    """People as the policy names them."""

    __slots__ = ("_groups", "_users", "key")

    def __init__(self, groups: tuple[str, ...], users: tuple[str, ...]) -> None:
        self.key = (tuple(sorted(set(groups))), tuple(sorted(set(users))))
        self._groups = tuple(Glob(name) for name in self.key[0])
        self._users = tuple(Glob(name) for name in self.key[1])

    def matches(self, identity: Identity) -> bool:
        return any(glob.matches(identity.user) for glob in self._users) or any(
            glob.matches(group) for glob in self._groups for group in identity.groups)


def who(groups: tuple[str, ...], users: tuple[str, ...]) -> Who | None:
    """None when nobody is named, which means everybody."""
    return Who(groups, users) if groups or users else None


class Whence:
    """Clients as the policy names them: by address, by what they call themselves, or both."""

    __slots__ = ("_applications", "_lenient", "_local", "_networks", "key")

    def __init__(self, addresses: tuple[str, ...], applications: tuple[str, ...], *, lenient: bool) -> None:
        self.key = (addresses, applications, lenient)
        self._local = source.LOCAL_ADDRESS in addresses
        self._networks = tuple(ipaddress.ip_network(text) for text in addresses if text != source.LOCAL_ADDRESS)
        self._applications = tuple(Glob(text) for text in applications)
        # What is not known counts for rules that restrict, against rules that allow.
        self._lenient = lenient

    def matches(self, client: Client) -> bool:
        addresses, applications, _ = self.key
        if addresses and not (self._lenient if client.peer is None else self._from(client.peer)):
            return False
        if applications:
            name = client.application
            return self._lenient if name is None else any(glob.matches(name) for glob in self._applications)
        return True

    def _from(self, peer: str) -> bool:
        if peer == source.LOCAL_ADDRESS:
            return self._local
        try:
            address = ipaddress.ip_address(units.host_of(peer))
        except ValueError:
            return self._lenient
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped.version == network.version and mapped in network for network in self._networks)


class Conditions:
    """`when` of one rule. `whose` and `whence` are the same as long as a session lives; the rest is asked each time."""

    def __init__(self, when: source.When, action: str) -> None:
        self._when = when
        self._allows = action == "allow"
        self.whose = who(when.groups, when.users)
        self.whence = Whence(when.addresses, when.applications, lenient=not self._allows) if (
            when.addresses or when.applications) else None
        self._statements = frozenset(when.statements)
        self._tables = Tables(when.tables) if when.tables else None
        self._columns = Columns(when.columns) if when.columns else None
        self._schemas = Schemas(when.schemas) if when.schemas else None
        self._functions = Tables(when.functions) if when.functions else None
        # Most rules name tables and nothing else.
        self._plain = None if when.columns or when.schemas or when.functions else self._tables
        self._windows = tuple(Window(w.days, w.from_, w.to, w.zone) for w in when.during)
        self._objects = bool(when.tables or when.columns or when.schemas or when.functions)

    @property
    def timed(self) -> bool:
        return bool(self._windows)

    def holds_at(self, now: float | None) -> bool:
        """`now` in unix seconds; None is not known."""
        if not self._windows:
            return True
        if now is None:
            return not self._allows
        return any(window.holds(now) for window in self._windows)

    def of_session(self, identity: Identity, client: Client) -> bool:
        """Whether the rule is about sessions of these people from there."""
        return (self.whose is None or self.whose.matches(identity)) and (
            self.whence is None or self.whence.matches(client))

    def speaks_of(self, facts: StatementFacts) -> bool:
        """The conditions that concern a statement as a whole."""
        when = self._when
        if when.unfiltered is not None and when.unfiltered != facts.unfiltered:
            return False
        if self._functions is not None and not self._calls(self._functions, facts):
            return False
        if when.opaque is not None:
            return when.opaque == bool(facts.opaque)
        # Code that cannot be read may touch anything: an exemption for some of it does not reach that.
        return not (facts.opaque and self._objects and self._allows)

    def covers(self, kind: str) -> bool:
        return not self._statements or covers(self._statements, kind)

    def places(self, facts: StatementFacts, tables: Mapping[str, Written], *, sure: bool) -> frozenset[Place]:
        """Which of the statement's tables the rule names; `sure`: only those it names however the server reads them."""
        if self._plain is not None:
            named = self._plain.must_mean if sure else self._plain.may_mean
            return frozenset([name for name, written in tables.items() if named(written)])
        everywhere = frozenset[Place](tables or {None})
        if sure and not self._allows and self._functions is not None and not any(
                self._functions.must_mean(Written(name)) for name in facts.functions):
            return frozenset()
        if not (self._tables or self._columns or self._schemas):
            return everywhere
        if self._schemas is not None:
            inside = [self._schemas.has(name) for name in facts.schemas]
            if sure and not all(inside):
                return frozenset()
            alone = self._tables is None and self._columns is None
            if alone and inside and (any(inside) if not sure else not tables):
                return everywhere
        return frozenset(name for name, written in tables.items() if self._names(name, written, facts, sure=sure))

    def _names(self, name: str, written: Written, facts: StatementFacts, *, sure: bool) -> bool:
        if self._tables is not None and not (
                self._tables.must_mean(written) if sure else self._tables.may_mean(written)):
            return False
        if self._schemas is not None and not (
                self._schemas.must_hold(written) if sure else self._schemas.may_hold(written)):
            return False
        if self._columns is None:
            return True
        columns = [column for table, column in facts.touches if table in ("", name)]
        return self._columns.covers(written, columns) if sure else self._columns.meets(written, columns)

    def _calls(self, functions: Tables, facts: StatementFacts) -> bool:
        if self._allows:
            return bool(facts.functions) and all(functions.must_mean(Written(name)) for name in facts.functions)
        return any(functions.may_mean(Written(name)) for name in facts.functions) or any(
            functions.has_name(name) for name in facts.attributes)
