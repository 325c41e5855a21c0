"""What a database has to look like for enforced mode, as SQL for a DBA to review. Pure; used by `control.provision`.

The role that people with masks log in with may read what the gateway's own role may read, apart from hidden columns; it
owns nothing and belongs to no other role. The masking views belong to a role of their own, which nobody logs in with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from hoopfast.analysis.shields import DIGEST, OWNER, SYSTEM_COLUMNS, Shield, definition, literal, quoted
from hoopfast.model import Frozen

WRITES = ("INSERT", "UPDATE", "DELETE")
HASH = "hoopfast "                      # begins the comment of a masking view; a digest of what it should be follows


class Table(Frozen, frozen=True):
    """A relation of the database. `rights` are those of the gateway's own role, `mine` those that the masked role has
    now; `readable` are columns that the masked role can read one by one. `public`: PUBLIC has rights of its own."""

    oid: int
    schema: str
    name: str
    kind: str
    rights: frozenset[str] = frozenset()
    mine: frozenset[str] = frozenset()
    readable: frozenset[str] = frozenset()
    columns: tuple[str, ...] = ()
    public: bool = False

    @property
    def sql(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"


class Goal(Frozen, frozen=True):
    """What one role is to have. `shields` are its masking views; `closed` are OIDs of relations that it may not touch,
    `functions` are signatures of functions that it may not call."""

    user: str
    schema: str
    gateway: str                        # the gateway's own role
    database: str
    shields: tuple[Shield, ...]
    tables: tuple[Table, ...]
    closed: frozenset[int] = frozenset()
    ruled: frozenset[int] = frozenset()         # with rules that read hidden columns: not to be written
    functions: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()       # those that the gateway's role may use
    defaults: tuple[str, ...] = ()      # statements that take default privileges back
    reshaped: frozenset[str] = frozenset()      # views that exist with other columns, and have to go first

    @property
    def owner(self) -> str:
        return self.schema + OWNER

    @property
    def by_oid(self) -> dict[int, Shield]:
        return {shield.oid: shield for shield in self.shields}


def views(goal: Goal) -> Iterator[tuple[str, str]]:
    """(name, query) of every masking view."""
    for shield in goal.shields:
        yield shield.view(), definition(shield)
        if shield.parent:
            yield shield.view(only=True), definition(shield, only=True)


def mark(query: str) -> str:
    """What the comment of a view with this query begins with."""
    return HASH + hashlib.sha256(query.encode()).hexdigest()[:32]


def reads(goal: Goal, table: Table) -> tuple[str, ...] | None:
    """The columns that the role may read; None: all, whatever they are."""
    if table.oid in goal.closed or "SELECT" not in table.rights:
        return ()
    shield = goal.by_oid.get(table.oid)
    if shield is None:
        return None
    hidden = {column.name for column in shield.hidden}
    return tuple(name for name in table.columns if name not in hidden)


def rights(goal: Goal, table: Table) -> frozenset[str]:
    """What the role may do with the whole table."""
    if table.oid in goal.closed:
        return frozenset()
    # Rules run with the rights of whoever owns the table.
    wanted = table.rights.intersection(() if table.oid in goal.ruled else WRITES)
    if table.kind == "S":
        return table.rights & {"SELECT", "USAGE", "UPDATE"}
    return wanted | {"SELECT"} if reads(goal, table) is None else wanted


def script(goal: Goal) -> str:
    """The whole script. It may run again at any time, and changes only what is different."""
    parts = [_head(goal), _roles(goal), _digest(goal), _views(goal), _tables(goal), _public(goal)]
    return "\n".join(parts) + "\nCOMMIT;\n"


def _head(goal: Goal) -> str:
    return f"""-- Enforced mode of hoopfast: rights of role {_plain(goal.user)} in database {_plain(goal.database)}.
-- Review it, then run it as a superuser, or as the owner of the tables who may create roles: psql -f. It can run again.
-- It does not set a password: \\password {_plain(goal.user)}
BEGIN;
SET LOCAL search_path = pg_catalog;
"""


def _roles(goal: Goal) -> str:
    user, owner = quoted(goal.user), quoted(goal.owner)
    home, schemas = quoted(goal.schema), ", ".join(map(quoted, goal.schemas))
    flags = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    lines = [
        "-- 1. Roles: one to log in with, which owns nothing; one that owns the masking views.",
        *(f"DO $$ BEGIN CREATE ROLE {name} {how} {flags}; EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
          for name, how in ((user, "LOGIN"), (owner, "NOLOGIN"))),
        f"ALTER ROLE {user} LOGIN {flags};",
        f"ALTER ROLE {owner} NOLOGIN {flags};",
        _memberships(goal.user),
        f"GRANT CONNECT ON DATABASE {quoted(goal.database)} TO {user};",
        f"CREATE SCHEMA IF NOT EXISTS {home};",
        f"ALTER SCHEMA {home} OWNER TO {owner};",
        f"REVOKE ALL ON SCHEMA {home} FROM PUBLIC;",
        f"GRANT USAGE ON SCHEMA {home} TO {user};",
    ]
    if schemas:
        lines += [f"GRANT USAGE ON SCHEMA {schemas} TO {user}, {owner};",
                  f"REVOKE CREATE ON SCHEMA {schemas} FROM {user}, PUBLIC;"]
    return "\n".join(lines) + "\n"


def _memberships(user: str) -> str:
    """What other roles may read, this one must not inherit."""
    return f"""DO $$ DECLARE other name; BEGIN
    FOR other IN SELECT r.rolname FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.roleid
        WHERE m.member = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = {literal(user)}) LOOP
        EXECUTE pg_catalog.format('REVOKE %I FROM %I', other, {literal(user)});
    END LOOP;
END $$;"""


def _digest(goal: Goal) -> str:
    home, owner, user = quoted(goal.schema), quoted(goal.owner), quoted(goal.user)
    return f"""-- 2. The keyed digest by which hidden values are compared. Its key never leaves the database.
CREATE TABLE IF NOT EXISTS {home}.key (key pg_catalog.bytea NOT NULL);
ALTER TABLE {home}.key OWNER TO {owner};
REVOKE ALL ON {home}.key FROM PUBLIC, {user};
INSERT INTO {home}.key SELECT pg_catalog.sha256(pg_catalog.uuid_send(pg_catalog.gen_random_uuid())
    || pg_catalog.uuid_send(pg_catalog.gen_random_uuid())) WHERE NOT EXISTS (SELECT FROM {home}.key);
CREATE OR REPLACE FUNCTION {home}.{DIGEST}(pg_catalog.text) RETURNS pg_catalog.bytea
    LANGUAGE sql IMMUTABLE STRICT SECURITY DEFINER PARALLEL SAFE AS $hf$
    SELECT pg_catalog.sha256(k.key OPERATOR(pg_catalog.||) pg_catalog.sha256(
        k.key OPERATOR(pg_catalog.||) pg_catalog.convert_to($1, 'UTF8'))) FROM {home}.key k $hf$;
ALTER FUNCTION {home}.{DIGEST}(pg_catalog.text) OWNER TO {owner};
REVOKE ALL ON FUNCTION {home}.{DIGEST}(pg_catalog.text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION {home}.{DIGEST}(pg_catalog.text) TO {user}, {owner};
"""


def _views(goal: Goal) -> str:
    owner, user, home = quoted(goal.owner), quoted(goal.user), quoted(goal.schema)
    rows = {table.oid: table for table in goal.tables}
    lines = ["-- 3. Masking views: statements that name hidden columns read them. Row security counts for their owner."]
    for shield in goal.shields:
        table = rows.get(shield.oid)
        if table is None:
            continue
        lines.append(f"GRANT SELECT ON {table.sql} TO {owner};")
        # SELECT ... FOR UPDATE asks for the right to update some column, of the view and of the table under it.
        lock = [column for column in shield.columns if not column.hidden][:1] if _updates(table) else []
        lines += [f"GRANT UPDATE ({quoted(column.name)}) ON {table.sql} TO {owner};" for column in lock]
        for name, query in views(goal):
            if name not in (shield.view(), shield.view(only=True)):
                continue
            view = f"{home}.{quoted(name)}"
            if name in goal.reshaped:
                lines.append(f"DROP VIEW IF EXISTS {view};")
            lines += [f"CREATE OR REPLACE VIEW {view} AS {query};", f"ALTER VIEW {view} OWNER TO {owner};",
                      f"REVOKE ALL ON {view} FROM PUBLIC, {user};", f"GRANT SELECT ON {view} TO {user};"]
            lines += [f"GRANT UPDATE ({quoted(column.name)}) ON {view} TO {user};" for column in lock]
            lines.append(_comment(view, query))
    return "\n".join(lines) + "\n"


def _updates(table: Table) -> bool:
    return "UPDATE" in table.rights and table.kind in "rp"


def _comment(view: str, query: str) -> str:
    """The view says what it was made from, and what the server made of it, for `--check`."""
    said = f"{literal(mark(query) + ' ')} || pg_catalog.md5(pg_catalog.pg_get_viewdef({literal(view)}::regclass))"
    return f"""DO $$ BEGIN
    EXECUTE pg_catalog.format({literal(f"COMMENT ON VIEW {view.replace('%', '%%')} IS %L")}, {said});
END $$;"""


def _tables(goal: Goal) -> str:
    user = quoted(goal.user)
    lines = ["-- 4. Tables: what the gateway's own role may do, without hidden columns. New ones need another run."]
    for table in goal.tables:
        granted = _granted(goal, table)
        lines.append(f"REVOKE ALL ON {_keyword(table)}{table.sql} FROM {user};")
        if table.kind != "S" and reads(goal, table) is not None:
            # Column rights outlive the table's.
            lines.append(f"REVOKE SELECT ({', '.join(map(quoted, table.columns))}) ON {table.sql} FROM {user};"
                         if table.columns else "")
        lines += [f"GRANT {granted} ON {_keyword(table)}{table.sql} TO {user};"] if granted else []
    return "\n".join(line for line in lines if line) + "\n"


def _granted(goal: Goal, table: Table) -> str:
    parts = sorted(rights(goal, table))
    columns = reads(goal, table) if table.kind != "S" else None
    if columns:
        system = SYSTEM_COLUMNS if table.kind in "rpm" else ()
        parts.insert(0, f"SELECT ({', '.join([*map(quoted, columns), *system])})")
    return ", ".join(parts)


def _keyword(table: Table) -> str:
    return "SEQUENCE " if table.kind == "S" else ""


def _public(goal: Goal) -> str:
    lines = ["-- 5. What PUBLIC may do, this role may do too: so nothing with hidden columns, nor with code that reads",
             "-- them with its owner's rights. Whoever else needs such rights has to get them by name."]
    gateway = quoted(goal.gateway)
    for table in goal.tables:
        if table.public and (table.oid in goal.by_oid or table.oid in goal.closed):
            lines += [f"GRANT {', '.join(sorted(table.rights - {'USAGE'}))} ON {table.sql} TO {gateway};"
                      if table.rights - {"USAGE"} else "", f"REVOKE ALL ON {table.sql} FROM PUBLIC;"]
    for function in goal.functions:
        lines += [f"GRANT EXECUTE ON ROUTINE {function} TO {gateway};",
                  f"REVOKE EXECUTE ON ROUTINE {function} FROM PUBLIC, {quoted(goal.user)};"]
    lines += goal.defaults
    return "\n".join(line for line in lines if line) + "\n"


def _plain(name: str) -> str:
    """A name for a comment: it must not end it."""
    return name.replace("\n", " ").replace("\r", " ")


def excess(goal: Goal, table: Table) -> Sequence[str]:
    """What a role may do now with a table, and should not."""
    shown = reads(goal, table)
    found = [f"may {right}" for right in sorted(table.mine - rights(goal, table) - {"USAGE"}) if right != "SELECT"]
    if shown is not None and table.kind != "S":
        if "SELECT" in table.mine:
            return [*found, "may read all columns"]
        found += [f"may read column {name}" for name in sorted(table.readable - set(shown) - set(SYSTEM_COLUMNS))]
    return found


def lacking(goal: Goal, table: Table) -> Sequence[str]:
    """What a role should be able to do with a table, and cannot."""
    shown = reads(goal, table)
    found = [f"cannot {right}" for right in sorted(rights(goal, table) - table.mine)]
    if shown and "SELECT" not in table.mine:
        found += [f"cannot read column {name}" for name in shown if name not in table.readable]
    return found
