"""What an operator does: reload, break the policy, revoke a secret, end a session, watch, fill the disk."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator

import httpx
import psycopg
import pytest
import yaml

from hoopfast import model
from tests.gateway.conftest import SHOP_POLICY, connections
from tests.support.gateway import Gateway, wait_until
from tests.support.issuer import TestIssuer
from tests.support.postgres import PostgresServer

# The tests' issuer is a development one, and secrets of such a gateway say so.
SECRET = re.compile(r"hfdemo_[A-Za-z0-9_-]{16,}")


def new_secret(gateway: Gateway, user: str = "robot@example.com", *groups: str) -> tuple[str, str]:
    """A gateway secret and its id."""
    arguments = [word for group in groups or ("engineering",) for word in ("--group", group)]
    done = gateway.cli("secret", "create", "--user", user, "--ttl", "1h", *arguments, "-c", str(gateway.config_file))
    secret, name = done.stdout.strip(), done.stderr.split()[0]
    assert SECRET.fullmatch(secret), "the secret alone is on standard output"
    listed = gateway.cli("secret", "list", "-c", str(gateway.config_file)).stdout
    assert name in listed and secret not in listed
    return secret, name


def test_a_secret_works_and_revoking_it_ends_its_sessions(gateway: Gateway, postgres: PostgresServer) -> None:
    secret, name = new_secret(gateway)
    other, _ = new_secret(gateway, "other@example.com")
    with gateway.connect("shop", "robot", password=secret) as db, gateway.connect("shop", password=other) as kept:
        assert db.execute("SELECT 1").fetchone() == (1,)
        began = time.monotonic()
        blocked: list[BaseException] = []

        def sleep() -> None:
            try:
                db.execute("SELECT pg_sleep(60) /* revoked */")
            except psycopg.Error as error:
                blocked.append(error)

        thread = threading.Thread(target=sleep)
        thread.start()
        wait_until(lambda: postgres.is_running("%/* revoked */"), "the statement runs")
        gateway.cli("secret", "revoke", name, "-c", str(gateway.config_file))
        thread.join(20)
        assert blocked and time.monotonic() - began < 50, "a running statement does not keep the session alive"
        assert kept.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError):
        gateway.connect("shop", "robot", password=secret)
    for path in gateway.state_dir.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), "secrets are kept as hashes"


def test_a_guessed_secret(gateway: Gateway) -> None:
    for guess in ("hf_", "hf_" + "A" * 43, "hf_" + "x" * 20_000):
        with pytest.raises(psycopg.OperationalError):
            gateway.connect("shop", password=guess)


def test_policy_reload(gateway: Gateway) -> None:
    good = gateway.policy_file.read_text()
    try:
        with gateway.connect("shop") as db:
            db.execute("SELECT 1 FROM orders LIMIT 1")
            rule = {"name": "frozen", "when": {"statements": ["select"]}, "action": "deny", "reason": "closed"}
            gateway.policy_file.write_text(yaml.safe_dump(SHOP_POLICY | {"rules": [rule]}))
            gateway.reload()

            def denied() -> bool:
                try:
                    db.execute("SELECT 1 FROM orders LIMIT 1")
                except psycopg.errors.InsufficientPrivilege:
                    return True
                return False

            wait_until(denied, "the new policy holds in a session that was there before")
    finally:
        gateway.policy_file.write_text(good)
        gateway.reload()

    def allowed() -> bool:
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege), gateway.connect("shop") as db:
            return db.execute("SELECT 1 FROM orders LIMIT 1").fetchone() == (1,)
        return False

    wait_until(allowed, "the old policy is back")


def test_a_newly_masked_column_is_hidden_with_all_that_reads_it(gateway: Gateway) -> None:
    """Masks and closure change together: no session has the new masks with a catalog that was read for the old ones."""
    good = gateway.policy_file.read_text()
    city = {"columns": ["public.customers.city"], "with": "redact", "connections": ["shop"]}
    with gateway.connect("shop") as db:

        def seen() -> str:
            row = db.execute("SELECT city FROM customers WHERE id = 1").fetchone()
            return str(row[0]) if row else ""

        assert seen() == "Paris"
        try:
            gateway.policy_file.write_text(yaml.safe_dump(SHOP_POLICY | {"masks": [*SHOP_POLICY["masks"], city]}))
            gateway.reload()
            wait_until(lambda: seen() != "Paris", "the column is masked", interval=0.005)
            for statement in ("SELECT upper(city) FROM customers", "INSERT INTO scratch SELECT 1, city FROM customers"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    db.execute(statement)
            with gateway.connect("shop") as later, pytest.raises(psycopg.errors.InsufficientPrivilege):
                later.execute("SELECT upper(city) FROM customers")
        finally:
            gateway.policy_file.write_text(good)
            gateway.reload()
        wait_until(lambda: seen() == "Paris", "the old policy is back")


@pytest.mark.parametrize("broken", [
    "access: [", "access: 7", "masks:\n  - {columns: [public.customers.ssn], with: sprinkle}", "acces: []", "\x00\xff",
])
def test_a_broken_policy_changes_nothing(gateway: Gateway, broken: str) -> None:
    good = gateway.policy_file.read_text()
    try:
        gateway.policy_file.write_text(broken)
        checked = gateway.cli("check", "-c", str(gateway.config_file), check=False)
        assert checked.returncode != 0
        refusals = gateway.log_text().count("RELOAD REFUSED")
        gateway.reload()
        wait_until(lambda: gateway.log_text().count("RELOAD REFUSED") > refusals, "the refusal is in the log")
        with gateway.connect("shop") as db:
            row = db.execute("SELECT ssn FROM customers WHERE id = 1").fetchone()
            assert row is not None and "CANARY" not in str(row[0]), "masks stay"
    finally:
        gateway.policy_file.write_text(good)
        gateway.reload()
    assert "policy" in gateway.log_text().lower()


def test_ending_a_session(gateway: Gateway) -> None:
    with gateway.connect("shop", application_name="to be ended") as db:
        db.execute("SELECT 1")

        def find() -> list[str]:
            with gateway.admin() as api:
                answer = api.get("/sessions").raise_for_status().json()
            rows = answer["sessions"] if isinstance(answer, dict) else answer
            return [row.get("id") or row.get("session") for row in rows if row["application"] == "to be ended"]

        session = wait_until(find, "the session is listed")[0]
        with gateway.admin() as api:
            api.post(f"/sessions/{session}/kill", json={"reason": "a test"}).raise_for_status()

        def ended() -> bool:
            try:
                db.execute("SELECT 1")
            except psycopg.OperationalError:
                return True
            return False

        wait_until(ended, "the session has ended")


def test_admin_api_wants_a_credential(gateway: Gateway) -> None:
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": f"Bearer {gateway.token('alice')}"}):
        for path in ("/api/v1/sessions", "/api/v1/approvals", "/api/v1/audit", "/api/v1/secrets"):
            answer = httpx.get(gateway.admin_url + path, headers=headers, trust_env=False)
            assert answer.status_code in {401, 403, 404}, (path, headers)
    assert httpx.get(gateway.admin_url + "/healthz", trust_env=False).status_code == 200


def test_metrics(gateway: Gateway) -> None:
    before = gateway.metrics()
    with gateway.connect("shop") as db:
        for i in range(20):
            db.execute("SELECT %s::int", (i,), prepare=True)
        db.execute("SELECT * FROM customers").fetchall()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("GRANT SELECT ON orders TO PUBLIC")
    with pytest.raises(psycopg.OperationalError):
        gateway.connect("shop", password="swordfish")

    def grown() -> dict[str, float] | None:
        after = gateway.metrics()
        delta = {name: value - before.get(name, 0.0) for name, value in after.items() if value != before.get(name, 0.0)}
        masked = any("masked_cells" in name and value >= 6 for name, value in delta.items())
        statements = any("statements" in name and value >= 20 for name, value in delta.items())
        refused = any("auth" in name or "login" in name for name in delta)
        return delta if masked and statements and refused else None

    wait_until(grown, "statements, masked cells and refused logins are counted")


def test_nothing_is_left_over(gateway: Gateway) -> None:
    """Descriptors of every worker and the gauges go back to where they were, whatever the sessions went through."""

    def no_sessions() -> bool:
        samples = gateway.metrics()
        return all(value == 0 for name, value in samples.items() if name.endswith("sessions_open"))

    with gateway.connect("shop") as db:
        db.execute("SELECT 1")
    wait_until(no_sessions, "earlier sessions are gone")
    baseline = gateway.descriptors()
    for round_ in range(3):
        sessions = [gateway.connect("shop") for _ in range(20)]
        for i, db in enumerate(sessions):
            with contextlib.suppress(psycopg.Error):
                db.execute("SELECT 1/0" if i % 3 else "SELECT * FROM customers")
            if i % 5 == 0:
                db.execute("BEGIN")
        for i, db in enumerate(sessions):
            if i % 4 == round_:
                # Cut off without a Terminate, as a crashed client does.
                with socket.socket(fileno=os.dup(db.fileno())) as raw:
                    raw.shutdown(socket.SHUT_RDWR)
            db.close()
        with contextlib.suppress(psycopg.Error):
            gateway.connect("shop", password="wrong")
    # A worker may open a segment more in the meantime; sessions have two descriptors each and there were sixty.
    wait_until(
        lambda: all(count <= baseline.get(pid, 0) + 2 for pid, count in gateway.descriptors().items()),
        f"descriptors are back at {baseline}",
    )
    wait_until(no_sessions, "no session is counted as open")


@pytest.fixture
def small(issuer: TestIssuer, postgres: PostgresServer, shop: str) -> Iterator[Gateway]:
    config = {"listen": {"workers": 1}, "audit": {"max_bytes": "32MiB", "results": "none"}}
    with Gateway(issuer, connections(postgres, shop), policy=SHOP_POLICY, config=config) as running:
        yield running


def test_a_full_journal_pauses_and_then_goes_on(small: Gateway) -> None:
    """More is recorded than the journal may hold: sessions wait for the shipper, nothing is dropped."""
    filler, count = "x" * 200_000, 200
    ran: list[int] = []

    def work() -> None:
        with small.connect("shop") as db:
            for i in range(count):
                ran.append(i)
                db.execute(f"SELECT {i} /* hf-marker-full-{i} {filler} */")

    def journal() -> int:
        return sum(path.stat().st_size for path in (small.state_dir / "journal").glob("*.seg"))

    def stalled() -> bool:
        page = (small.state_dir / "run" / "counters-0").read_bytes()
        return bool(struct.unpack_from("=Q", page, 8 * model.COUNTERS.index("journal_stalls"))[0])

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: len(ran) > 3, "the statements run")
    # The supervisor ships; with it stopped, nothing makes room.
    os.kill(small.pid, signal.SIGSTOP)
    try:
        wait_until(stalled, "a session waits for room", 30)
        paused = len(ran)
        assert paused < count and journal() <= 32 << 20
    finally:
        os.kill(small.pid, signal.SIGCONT)
    thread.join(60)
    assert len(ran) == count and not thread.is_alive()
    wait_until(
        lambda: len({e["sql"].split()[3] for e in small.audited("hf-marker-full-")}) == count, "all are audited", 60
    )


def test_state_directory_problems_are_said_at_start(issuer: TestIssuer, postgres: PostgresServer, shop: str) -> None:
    broken = Gateway(issuer, connections(postgres, shop), policy=SHOP_POLICY)
    broken.write()
    broken.state_dir.rmdir()
    broken.state_dir.write_text("a file where the directory should be")
    with contextlib.suppress(FileExistsError), pytest.raises((RuntimeError, AssertionError)):
        broken.start(timeout=15)
    broken.kill9()


def test_check_names_every_fault(gateway: Gateway) -> None:
    bad = gateway.directory / "bad.yaml"
    config = gateway.config | {"listen": {"adress": "x", "workers": "many"}, "policy": "missing.yaml"}
    bad.write_text(yaml.safe_dump(config))
    done = gateway.cli("check", "-c", str(bad), check=False)
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert "$.listen.adress" in text and "$.listen.workers" in text, text
