"""A day in psql: every feature a person uses works through the gateway as it does without."""

from __future__ import annotations

import time
from pathlib import Path

from tests.gateway.conftest import Psql
from tests.support.gateway import Gateway, wait_until
from tests.support.postgres import PostgresServer, clean_environment
from tests.support.terminal import Terminal

# These gateways have a development issuer, and each session says so.
BANNER = "WARNING:  this is a hoopfast demo: anybody on this machine can sign in as anybody\n"


def test_describe(gateway: Gateway, postgres: PostgresServer, shop: str, psql: Psql) -> None:
    script = "\\d+ orders\n\\d\n\\dt+\n\\di\n\\dn+\n\\df\n\\du\n\\l\n\\dx\n\\dp orders\n\\sf version\n"
    through = psql(gateway.dsn("shop", application_name="psql"), script)
    direct = psql(postgres.dsn(shop, "app"), script)
    assert through.stderr == BANNER + direct.stderr
    assert through.stdout == direct.stdout
    assert "orders_pkey" in through.stdout


def test_queries_and_errors(gateway: Gateway, postgres: PostgresServer, shop: str, psql: Psql) -> None:
    script = (
        "SELECT 1 AS one, NULL AS nothing, 'ä€𝄞' AS text;\nSELECT 1/0;\nSELECT * FROM missing;\nSELEC;\n"
        "SELECT 1; SELECT 2\\; SELECT 3;\nSELECT count(*) FROM orders \\g\nSELECT 'a' \\gset\n\\echo :?column?\n"
        "SELECT generate_series(1,3) \\crosstabview\nSELECT 'SELECT 42' \\gexec\nSELECT 5 \\gx\n"
        "SELECT item FROM orders WHERE id = $1 \\bind 7 \\g\n\\timing off\n\\conninfo_is_not_compared\n"
    )
    through = psql(gateway.dsn("shop"), script)
    direct = psql(postgres.dsn(shop, "app"), script)
    assert through.stdout == direct.stdout
    assert through.stderr == BANNER + direct.stderr


def test_transactions(gateway: Gateway, psql: Psql) -> None:
    done = psql(
        gateway.dsn("shop"),
        "BEGIN;\nINSERT INTO scratch VALUES (1, 'kept');\nSAVEPOINT s;\nSELECT 1/0;\nROLLBACK TO s;\nCOMMIT;\n"
        "BEGIN;\nINSERT INTO scratch VALUES (2, 'lost');\nSELECT 1/0;\nSELECT 'in a failed transaction';\nCOMMIT;\n"
        "SELECT string_agg(txt, ',') FROM scratch;\nDELETE FROM scratch WHERE id > 0;\n",
        "-At",
    )
    assert "kept" in done.stdout and "lost" not in done.stdout
    assert "current transaction is aborted" in done.stderr
    assert "ROLLBACK\nkept" in done.stdout


def test_copy_out_and_in(gateway: Gateway, psql: Psql, tmp_path: Path) -> None:
    target = tmp_path / "orders.csv"
    done = psql(gateway.dsn("shop"), f"\\copy orders to '{target}' csv header\n")
    assert done.stdout.strip() == "COPY 100", done.stderr
    assert len(target.read_text().splitlines()) == 101
    source = tmp_path / "in.csv"
    source.write_text("".join(f"{i},line {i}\n" for i in range(5000)))
    done = psql(
        gateway.dsn("shop"),
        f"\\copy scratch from '{source}' csv\nSELECT count(*), sum(id) FROM scratch;\n"
        "\\copy scratch from stdin\n1\tone\nnot a number\ttwo\n\\.\n"
        "SELECT 'after';\nDELETE FROM scratch WHERE id >= 0;\n",
        "-At",
    )
    assert "COPY 5000" in done.stdout and "5000|12497500" in done.stdout
    assert "invalid input syntax" in done.stderr and "after" in done.stdout


def test_watch(gateway: Gateway, psql: Psql) -> None:
    done = psql(gateway.dsn("shop"), "SELECT 'tick' \\watch c=3 i=0.1\n", "-At")
    assert done.stdout.split().count("tick") == 3, done.stderr


def test_large_results(gateway: Gateway, psql: Psql) -> None:
    done = psql(
        gateway.dsn("shop"),
        "SELECT i, repeat('x', 100) FROM generate_series(1, 200000) i;\nSELECT length(repeat('y', 50000000));\n"
        "SELECT repeat('z', 20000000);\n\\set FETCH_COUNT 1000\nSELECT i FROM generate_series(1, 20000) i;\n",
        "-At",
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 200000 + 1 + 1 + 20000, done.stderr[:500]
    assert len(lines[200001]) == 20_000_000
    assert lines[-1] == "20000"


def test_ctrl_c(gateway: Gateway, postgres: PostgresServer) -> None:
    """psql sends a CancelRequest on a connection of its own and goes on; three times, for every worker."""
    command = [postgres.bin / "psql", "-X", "-At", "-n", gateway.dsn("shop")]
    query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(30)%' AND state = 'active'"
    with Terminal(command, clean_environment()) as terminal, postgres.connect() as db:
        for number in range(3):
            terminal.type("SELECT pg_sleep(30);\n")
            wait_until(lambda: db.execute(query).fetchone() == (1,), "the statement runs")
            began = time.monotonic()
            terminal.ctrl_c()
            terminal.wait_for("canceling statement due to user request")
            assert time.monotonic() - began < 10
            terminal.text = ""
            terminal.type(f"SELECT 'still' || ' here {number}';\n")
            terminal.wait_for(f"still here {number}")


def test_listen_notify(gateway: Gateway, psql: Psql) -> None:
    done = psql(gateway.dsn("shop"), "LISTEN news;\nNOTIFY news, 'hello';\nSELECT 1;\n")
    assert 'Asynchronous notification "news" with payload "hello"' in done.stdout


def test_settings_and_options(gateway: Gateway, psql: Psql) -> None:
    dsn = gateway.dsn("shop", options="-c work_mem=12345kB -c statement_timeout=0", application_name="my tool")
    done = psql(dsn, "SHOW work_mem;\nSET TIME ZONE 'Asia/Tokyo';\nSHOW timezone;\nSHOW application_name;\n", "-At")
    lines = done.stdout.split("\n")
    assert lines[0] == "12345kB" and "Asia/Tokyo" in lines
    assert "alice@example.com" in done.stdout, "upstream sees the person"


def test_strings_are_read_one_way(gateway: Gateway, psql: Psql) -> None:
    """What would change how SQL is read is an error, and the session goes on."""
    done = psql(gateway.dsn("shop"), "SET standard_conforming_strings = off;\nSELECT 'a\\b';\n", "-At")
    assert 'cannot be "off"' in done.stderr and "E'...'" in done.stderr
    assert "a\\b" in done.stdout


def test_prompt_shows_the_transaction(gateway: Gateway, psql: Psql) -> None:
    done = psql(gateway.dsn("shop"), "\\set PROMPT1 x\nBEGIN;\n\\if :{?ROW_COUNT}\n\\echo yes\n\\endif\nROLLBACK;\n")
    assert "yes" in done.stdout and "ROLLBACK" in done.stdout
