"""How long a statement that nobody has seen takes to be decided, and what hostile ones cost: `python -m bench.decide`.

Times are CPU times of the thread, so that a busy machine matters less. The decision is what the worker's verdict desk
does without asking the server: reading, facts, rules, masks. The statements are those of a normal day from
tests/adversarial/benign, each with a comment of its own, so that nothing could be remembered; the policy has masks and
rules. Hostile ones are measured one by one, with the memory that they took.
"""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Callable, Iterator

from hoopfast.analysis import gate
from hoopfast.analysis.classify import facts
from hoopfast.analysis.flow import Closure
from hoopfast.analysis.parse import Unparsable, decode, parse
from hoopfast.limits import ANALYSE_MAX_BYTES
from hoopfast.model import Identity
from hoopfast.policy.snapshot import Snapshot, compile_for
from hoopfast.policy.source import parse_policy
from tests.adversarial.cases import load
from tests.analysis.shop import CATALOG, MASKS

POLICY = """\
access: [{groups: [engineering], connections: [shop]}]
masks: [{columns: [public.customers.ssn, public.customers.email, public.employees.salary], with: redact}]
rules:
  - {name: drops, when: {statements: [drop, truncate]}, action: approve, approvers: {groups: [dba]}}
  - {name: all, when: {statements: [delete, update], unfiltered: true}, action: deny}
  - {name: pay, when: {columns: [public.payroll.amount]}, action: deny}
"""
WHO = Identity(user="ann@x", subject="1", issuer="bench", groups=("engineering",))
ROUNDS = 5


def decide(sql: str, snapshot: Snapshot, closure: Closure) -> str:
    """As the desk does; the outcome in a word."""
    try:
        if len(sql) > ANALYSE_MAX_BYTES:
            return "too long"
        statements = parse(decode(sql.encode()))
        ruling = snapshot.decide(WHO, "shop", facts(statements))
        return gate.judge(statements, closure).outcome if ruling.action != "deny" else "deny"
    except Unparsable as fault:
        return fault.sqlstate


def hostile() -> Iterator[tuple[str, str]]:
    """(name, statement) that try to take long, or all memory, or the stack."""
    yield "|| chain, 200 kB", "SELECT " + " || ".join(["ssn"] * 33_000) + " FROM customers"
    yield "AND chain, 600 kB", "SELECT id FROM customers WHERE " + " AND ".join(["ssn = 'x'"] * 45_000)
    yield "IN list, 100,000 items", f"SELECT * FROM customers WHERE id IN ({','.join(map(str, range(100_000)))})"
    yield "10,000 parentheses", "SELECT " + "(" * 10_000 + "ssn" + ")" * 10_000 + " FROM customers"
    yield "1,000 subqueries in FROM", "SELECT * FROM (" * 1_000 + "SELECT * FROM customers" + ") q" * 1_000
    yield "200 subqueries in FROM", "SELECT * FROM (" * 200 + "SELECT * FROM customers" + ") q" * 200
    yield "5,000 joins", "SELECT * FROM customers" + " JOIN orders USING (id)" * 5_000
    yield "20,000 tables", "SELECT 1 FROM customers" + "".join(f", orders o{n}" for n in range(20_000))
    yield "5,000 UNIONs", " UNION ALL ".join(["SELECT id FROM customers"] * 5_000)
    yield "50,000 columns", f"SELECT {','.join(['ssn'] * 50_000)} FROM customers"
    renaming = "".join(f", c{n} AS (SELECT a{n - 1} AS a{n} FROM c{n - 1})" for n in range(1, 8_000))
    yield "8,000 CTEs that rename", f"WITH c0 AS (SELECT ssn AS a0 FROM customers){renaming} SELECT a7999 FROM c7999"
    backwards = ", ".join(f"c{n} AS (SELECT a{n - 1} AS a{n} FROM c{n - 1})" for n in range(7_999, 0, -1))
    yield "8,000 CTEs backwards", (
        f"WITH RECURSIVE {backwards}, c0 AS (SELECT ssn AS a0 FROM customers) SELECT a7999 FROM c7999")
    yield "20,000 references to 2,000 tables", (
        f"SELECT {','.join(['x.ssn'] * 20_000)} FROM customers x" + "".join(f", customers x{n}" for n in range(2_000)))
    yield "5,000 CASEs", "SELECT " + "CASE WHEN ssn = 'a' THEN " * 5_000 + "1" + " END" * 5_000 + " FROM customers"
    yield "10,000 nested comments", "SELECT " + "/*" * 10_000 + "*/" * 10_000 + " 1"
    yield "a literal of 1 MB", "SELECT '" + "x" * 1_000_000 + "' FROM customers"
    yield "20,000 statements", "SELECT ssn FROM customers;" * 20_000
    yield "INSERT of 20,000 rows", "INSERT INTO orders VALUES " + ",".join(["(1, 'a', 2.5)"] * 20_000)


def measured(work: Callable[[], str]) -> tuple[float, str]:
    """(seconds, what came of it)."""
    gc.collect()
    started = time.thread_time()
    found = work()
    return time.thread_time() - started, found


def main() -> int:
    snapshot = compile_for(["shop"], parse_policy(POLICY, "bench", ["shop"]), 1, bytes(32))
    closure = Closure(CATALOG, MASKS)
    texts = [step for case in load("benign") for step in case.steps]
    times = []
    for round_number in range(ROUNDS):
        for number, text in enumerate(texts):
            sql = f"/* {round_number}.{number} */ {text}"
            started = time.thread_time()
            decide(sql, snapshot, closure)
            times.append(time.thread_time() - started)
    times.sort()
    at = {share: times[min(int(len(times) * share), len(times) - 1)] * 1e6 for share in (0.5, 0.9, 0.99)}
    sys.stdout.write(f"{len(times)} first-seen statements, mean {sum(map(len, texts)) / len(texts):.0f} bytes: "
                     f"p50 {at[0.5]:.0f} us, p90 {at[0.9]:.0f} us, p99 {at[0.99]:.0f} us\n\n")
    sys.stdout.write(f"{'hostile statement':<36}{'bytes':>10}{'seconds':>10}{'MiB more':>10}  outcome\n")
    for name, sql in hostile():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds, found = measured(lambda sql=sql: decide(sql, snapshot, closure))  # type: ignore[misc]
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        sys.stdout.write(f"{name:<36}{len(sql):>10}{seconds:>10.3f}{more:>10.0f}  {found}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
