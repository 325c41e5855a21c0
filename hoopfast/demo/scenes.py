"""The steps of the tour in which people work: signing in, masked reads, psql, denial, approval. See demo/tour.py."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo

from hoopfast.demo.guide import Guide
from hoopfast.demo.postgres import child_environment
from hoopfast.demo.settings import CONNECTION, HOST
from hoopfast.demo.show import cell_text, masked, notice_text

ANA = "ana@example.com"
SHOWN = 3
_WAIT_S = 20.0
_READ = "SELECT id, name, email, ssn, card_number FROM customers WHERE id <= {} ORDER BY id"
TRICKS = (
    "SELECT md5(ssn) FROM customers",
    "SELECT substr(ssn, 8) FROM customers WHERE id = 1",
    "SELECT row_to_json(c) FROM customers c LIMIT 1",
)

T = TypeVar("T")


def eventually(look: Callable[[], T], seconds: float = _WAIT_S) -> T:
    """The first true value of `look`, or its last one after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def sign_in(guide: Guide) -> None:
    """Ana connects; the gateway and PostgreSQL are asked who they think she is."""
    stage, show = guide.stage, guide.show
    show.command("ana", f'psql "{_typed(guide, "ana")}"')
    db = guide.sign_in_ana()
    show.verify(db.pgconn.ssl_in_use, "Ana is connected, over TLS")

    with stage.api("ada") as api:
        def mine() -> list[dict[str, Any]]:
            answer = api.get("/sessions", params={"live": "true", "user": ANA}).raise_for_status().json()
            return list(answer["sessions"])

        session = eventually(mine)[0]
    guide.session = session["session"]
    known = ("user", "groups", "issuer", "method", "connection", "role", "client", "tls")
    shown = ((name, ", ".join(v) if isinstance(v := session.get(name), list) else v) for name in known)
    show.table(("", "what the gateway knows"), shown)
    proven = session["user"] == ANA and session["groups"] == ["engineering"]
    show.verify(proven, "the identity comes from the token alone")

    with stage.direct() as direct:
        rows = direct.execute(
            "SELECT pid, usename, application_name FROM pg_stat_activity WHERE application_name LIKE %s", (f"{ANA}%",)
        ).fetchall()
    show.table(("pid", "usename", "application_name"), rows, "what PostgreSQL sees (pg_stat_activity)")
    show.verify(rows, "the database's own log names the person too, although all share one role")

    try:
        stage.connect("ana", password="hunter2").close()
    except psycopg.OperationalError as refused:
        show.error(refused)
        show.verify(True, "a password opens nothing")
    else:
        show.verify(False, "a password opens nothing")


def _typed(guide: Guide, person: str) -> str:
    """A connection string as people type it: without the time limit that a tour needs."""
    return make_conninfo(host=HOST, port=guide.stage.port, dbname=CONNECTION, user=person, sslmode="require")


# ---------------------------------------------------------------- masking

def masking(guide: Guide) -> None:
    """The same rows with and without the gateway, in every way that values travel, and tricks to get at them."""
    show, db = guide.show, guide.ana
    with guide.stage.direct() as direct:
        truth = direct.execute(_READ.format("%s").encode(), (SHOWN,)).fetchall()
        everything = direct.execute("SELECT id, email, ssn, card_number FROM customers ORDER BY id").fetchall()
        salaries = direct.execute("SELECT name, salary FROM employees ORDER BY id LIMIT 2").fetchall()

    show.sql("ana", _READ.format("$1"), (SHOWN,))
    seen = db.execute(_READ.format("%s").encode(), (SHOWN,)).fetchall()
    first = zip(("id", "name", "email", "ssn", "card_number"), seen[0], truth[0], strict=True)
    rows = [(name, masked(got) if got != true else cell_text(got), true) for name, got, true in first]
    show.table(("column", "Ana sees", "the database holds"), rows, f"customer 1 of {len(seen)}")
    show.verify(_hidden(seen, truth), "ssn, card_number and email are masked; id and name are not")

    binary = db.cursor(binary=True).execute(_READ.format("%s").encode(), (SHOWN,)).fetchall()
    show.verify(binary == seen, "the same in binary format")

    show.sql("ana", "SELECT name, salary FROM employees ORDER BY id LIMIT 2")
    pay = db.cursor(binary=True).execute("SELECT name, salary FROM employees ORDER BY id LIMIT 2").fetchall()
    show.table(("name", "salary: Ana sees", "the database holds"),
               [(name, masked(got), true) for (name, got), (_, true) in zip(pay, salaries, strict=True)])
    show.verify(all(got is None for _, got in pay), "salaries are NULL for everybody but hr")

    statement = "COPY customers (id, email, ssn, card_number) TO STDOUT"
    show.sql("ana", statement)
    with db.cursor().copy(statement.encode()) as copy:
        data = b"".join(copy).decode()
    show.answer("\n".join([*data.splitlines()[:2], "..."]))
    leaked = [value for row in everything for value in row[1:] if value in data]
    lines = data.count("\n")
    show.verify(lines == len(everything) and not leaked, f"COPY: {lines} rows, none of the {lines * 3} true values")
    _tricks(guide)


def _tricks(guide: Guide) -> None:
    for statement in TRICKS:
        guide.show.sql("ana", statement)
        try:
            rows = guide.ana.execute(statement.encode()).fetchall()
        except psycopg.errors.InsufficientPrivilege as refused:
            guide.show.error(refused)
        else:
            guide.show.verify(False, f"this is refused (it answered {rows[:1]})")
            return
    goes_on = guide.ana.execute("SELECT 1").fetchone() == (1,)
    guide.show.verify(goes_on, "tricks are refused before they run, and work goes on")


def _hidden(seen: list[Any], truth: list[Any]) -> bool:
    """Whether each row is masked exactly where the policy says so."""
    for got, true in zip(seen, truth, strict=True):
        if got[:2] != true[:2] or got[2] == true[2] or "@" not in got[2] or got[3] == true[3]:
            return False
        if got[4] == true[4] or got[4][-4:] != true[4][-4:]:
            return False
    return bool(seen)


# ---------------------------------------------------------------- psql

def psql(guide: Guide) -> None:
    """One statement and one catalog command by the real psql, when there is one."""
    stage, show = guide.stage, guide.show
    program = stage.psql()
    if not program:
        show.note("psql is not installed here; psycopg speaks the same protocol with the same library.")
        return
    script = "SELECT name, email, card_number FROM customers ORDER BY id LIMIT 2;\n\\d old_carts\n"
    done = _psql(guide, program, script, "require")
    if "SSL support is not compiled in" in done.stderr:
        # The packaged one has no TLS, which loopback allows.
        done = _psql(guide, program, script, "prefer")
    show.command("max", f'psql "{_typed(guide, "max")}"')
    show.answer(f"=> {script.splitlines()[0]}\n{done.stdout}{done.stderr}")
    worked = done.returncode == 0 and "(2 rows)" in done.stdout and "abandoned_at" in done.stdout
    show.verify(worked, r"psql works, \d included; Max is a manager, and sees masks too")


def _psql(guide: Guide, program: str, script: str, sslmode: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, "-X", "-v", "ON_ERROR_STOP=1", guide.stage.dsn("max", sslmode=sslmode)], input=script, check=False,
        capture_output=True, text=True, timeout=30, env=child_environment(PGPASSWORD=guide.stage.token("max")),
    )


# ---------------------------------------------------------------- rules

def denied(guide: Guide) -> None:
    """A GRANT, refused with the reason that the policy gives."""
    show = guide.show
    statement = "GRANT SELECT ON customers TO PUBLIC"
    show.sql("ana", statement)
    try:
        guide.ana.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege as refused:
        show.error(refused)
        show.verify("managed in Terraform" in str(refused), "denied, with the reason written in policy.yaml")
    else:
        show.verify(False, "GRANT is denied")
    with guide.stage.direct() as direct:
        granted = direct.execute("SELECT has_table_privilege('pg_monitor', 'customers', 'SELECT')").fetchone()
    show.verify(granted == (False,), "it never reached PostgreSQL")


def approval(guide: Guide) -> None:
    """DROP TABLE: held, not approvable by Ana, approved by Max, and then done on the connection that waited."""
    show, db = guide.show, guide.ana
    notices: list[str] = []
    db.add_notice_handler(lambda diag: notices.append(notice_text(diag)))
    before = db.execute("SELECT pg_backend_pid()").fetchone()
    statement = "DROP TABLE old_carts"
    show.sql("ana", statement)
    with ThreadPoolExecutor(1) as pool, guide.stage.api("max") as max_, guide.stage.api("ana") as ana:
        running = pool.submit(lambda: db.execute(statement.encode()).statusmessage)
        try:
            request = eventually(lambda: _waiting(max_))
            show.answer("\n".join(eventually(lambda: notices)), "yellow")
            name = guide.approval = request[0]["id"] if request else ""
            show.verify(name and any(name in notice for notice in notices), f"held, and Ana is told why ({name})")
            show.verify(not running.done() and _carts(guide), "the table is still there; Ana's connection waits")

            own = ana.post(f"/approvals/{name}/approve", json={"reason": "it is fine, trust me"})
            show.command("ana", f"hoopfast approvals approve {name}")
            show.answer(own.json().get("error", own.text), "red")
            show.verify(own.status_code == 403, "nobody approves their own request")

            show.command("max", f'hoopfast approvals approve {name} --reason "nobody has used them since 2019"')
            vote = max_.post(f"/approvals/{name}/approve", json={"reason": "nobody has used them since 2019"})
            show.verify(vote.status_code == 200, "Max approves, with a reason")
            tag = running.result(_WAIT_S)
        except BaseException:
            # Otherwise the pool would wait for the held statement, and the demo with it.
            db.cancel_safe(timeout=5)
            raise
    show.answer(str(tag))
    show.verify(tag == statement[:10] and not _carts(guide), "the statement went on by itself, and the table is gone")
    show.verify(db.execute("SELECT pg_backend_pid()").fetchone() == before, "on the same connection, still open")


def _waiting(api: Any) -> list[dict[str, Any]]:
    found = api.get("/approvals", params={"state": "waiting"}).raise_for_status().json()["approvals"]
    return [row for row in found if "old_carts" in row["sql"]]


def _carts(guide: Guide) -> bool:
    with guide.stage.direct() as direct:
        return direct.execute("SELECT to_regclass('public.old_carts') IS NOT NULL").fetchone() == (True,)
