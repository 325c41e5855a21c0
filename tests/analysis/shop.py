"""A small shop's catalog as the gate sees it: customers and employees have masked columns, everything else is open."""

from __future__ import annotations

from hoopfast.analysis.catalog import Catalog, Column, Relation
from hoopfast.analysis.flow import Closure
from hoopfast.analysis.gate import Judgement, judge
from hoopfast.analysis.parse import parse
from hoopfast.model import MaskedColumn


def relation(oid: int, name: str, *columns: str, kind: str = "r", reads: tuple[int, ...] = ()) -> Relation:
    found = tuple(Column(name=column, attnum=number, type_oid=25) for number, column in enumerate(columns, 1))
    return Relation(oid=oid, schema="public", name=name, kind=kind, columns=found, reads=reads)


CATALOG = Catalog(
    epoch=1,
    version=150000,
    relations=(
        relation(100, "customers", "id", "name", "ssn", "email", "city", "note"),
        relation(101, "employees", "id", "name", "salary", "boss_id", "ssn"),
        relation(102, "customer_list", "id", "ssn", kind="v", reads=(100,)),
        relation(103, "salary_report", "salary", kind="m", reads=(101,)),
        relation(104, "customers_2024", "id", "ssn", "name"),
    ),
    known=frozenset({
        "orders", "items", "digits", "audit_log", "clean_view", "pg_class", "pg_namespace", "pg_attribute", "pg_type",
        "pg_attrdef", "pg_constraint", "pg_index", "pg_am", "pg_roles", "pg_policy", "pg_proc", "pg_description",
        "pg_stat_activity", "pg_settings", "pg_database", "pg_statistic_ext", "pg_inherits", "pg_trigger",
        "pg_language",
        "pg_tables", "tables", "columns", "pg_collation", "pg_publication", "pg_publication_rel",
        "pg_publication_namespace",
        "pg_partitioned_table", "pg_stats", "pg_statistic", "pg_largeobject", "pg_authid", "pg_user_mapping",
        "pg_rewrite", "pg_subscription", "pg_user_mappings",
        "pg_depend", "pg_sequence", "pg_enum", "pg_locks", "pg_stat_user_tables", "pg_tablespace", "pg_foreign_table",
    }),
    foreign=frozenset({"remote_customers"}),
    functions={
        "get_ssn": False, "add_vat": True, "clean_up": True, "evil_proc": False, "tax_id": False, "similarity": True,
    },
    operators=frozenset({"<<<"}),
    triggered=frozenset({"orders"}),
    ruled=frozenset({"inbox"}),
)
MASKS = (
    MaskedColumn(table_oid=100, attnum=3, mask=0), MaskedColumn(table_oid=100, attnum=4, mask=1),
    MaskedColumn(table_oid=101, attnum=3, mask=2), MaskedColumn(table_oid=101, attnum=5, mask=0),
    MaskedColumn(table_oid=104, attnum=2, mask=0),
)
CLOSURE = Closure(CATALOG, MASKS)


def judged(sql: str, local: frozenset[str] = frozenset()) -> Judgement:
    return judge(parse(sql), CLOSURE, local)
