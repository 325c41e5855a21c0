"""The steps of the tour that look back or on from outside: audit, replay, a secret, metrics. See demo/tour.py."""

from __future__ import annotations

import json
import select
import time
from typing import Any

import httpx
import psycopg
from rich.text import Text

from hoopfast.demo.guide import Guide
from hoopfast.demo.scenes import ANA, TRICKS, eventually
from hoopfast.demo.show import cell_text
from hoopfast.demo.stage import SANDBOX

_COLOURS = {"complete": "green", "error": "red", "denied": "magenta"}
_METRICS = (
    "hoopfast_sessions_opened_total", "hoopfast_statements_total", "hoopfast_masked_rows_total",
    "hoopfast_masked_cells_total", "hoopfast_verdict_cache_total", "hoopfast_auth_failures_total",
    "hoopfast_approvals_waiting", "hoopfast_journal_records_total", "hoopfast_shipping_lag_seconds",
    "hoopfast_statement_duration_seconds_count",
)
# No person may keep a session open for longer than this once its secret is revoked.
_REVOKED_WITHIN_S = 2.0


# ---------------------------------------------------------------- audit

def audit(guide: Guide) -> None:
    """The trail by `hoopfast audit search` and `hoopfast sessions show`, as an auditor reads it."""
    show = guide.show
    show.command("ada", f"hoopfast audit search --user {ANA} --event statement")
    events = eventually(lambda: events if _whole(events := _search(guide, "--event", "statement")) else [])
    events = [e for e in reversed(events) if e["session"] == guide.session]
    show.table(
        ("person", "statement", "parameters", "verdict", "outcome", "rows", "ms"),
        [(e["user"].split("@")[0], _short(e["sql"]), ", ".join(map(str, e.get("parameters") or ())),
          " ".join(filter(None, (e.get("verdict"), e.get("rule")))), _outcome(e), e.get("rows") or "",
          f"{e['duration_us'] / 1000:.1f}") for e in events],
    )
    show.verify(events, f"{len(events)} statements of Ana's session, each with her name")
    refused = [e["sql"] for e in events if e["outcome"] == "denied"]
    # What is not understood is recorded without its constants, so only what they begin with is compared.
    asked = [trick.partition(",")[0] for trick in TRICKS] + ["GRANT SELECT ON customers TO PUBLIC"]
    recorded = all(any(sql.startswith(begin) for sql in refused) for begin in asked)
    show.verify(recorded, "what was refused is on record as well")
    read = [e for e in events if e.get("parameters")]
    held = [e for e in events if e["sql"].startswith("DROP")]
    show.verify(held and (held[0]["verdict"], held[0]["rule"]) == ("approve", "destructive"), "so is what was approved")
    show.verify(read and any("3" in map(str, e["parameters"]) for e in read), "parameters are recorded in clear")

    votes = eventually(lambda: _votes(guide))
    for vote in votes:
        what = "approved" if vote["fields"].get("approve") else "was refused"
        show.answer(f"{vote['at'][11:19]}  {vote['user']}  {what}: {vote['fields'].get('reason')}")
    by_max = [v for v in votes if v["user"] == "max@example.com" and v["action"] == "approval_vote"]
    show.verify(by_max and "2019" in by_max[0]["fields"].get("reason", ""), "who approved the DROP, when, and why")

    show.command("ada", f"hoopfast sessions show {guide.session}")
    shown = guide.stage.command("sessions", "show", guide.session, person="ada")
    lines = shown.stdout.strip().splitlines()
    show.answer("\n".join([*lines[:10], f"... ({len(lines)} lines)"]))
    show.verify(shown.returncode == 0 and "DROP TABLE old_carts" in shown.stdout, "one session as a timeline")


def _search(guide: Guide, *filters: str) -> list[dict[str, Any]]:
    arguments = ("audit", "search", "--limit", "200", "--json", *filters)
    done = guide.stage.command(*arguments, *(("--user", ANA) if "gateway" not in filters else ()), person="ada")
    if done.returncode != 0:
        raise RuntimeError(f"hoopfast audit search: {done.stderr.strip()}")
    found: list[dict[str, Any]] = json.loads(done.stdout)["events"]
    return found


def _whole(events: list[dict[str, Any]]) -> bool:
    # Shipping is a moment behind; the last statement of the step before stands for all of them.
    return any("DROP TABLE" in e["sql"] and e["outcome"] == "complete" for e in events)


def _votes(guide: Guide) -> list[dict[str, Any]]:
    found = [e for e in reversed(_search(guide, "--event", "gateway")) if e["action"].startswith("approval_vote")]
    return found if any(e["action"] == "approval_vote" for e in found) else []


def _short(text: str) -> str:
    return " ".join(text.split())


def _outcome(event: dict[str, Any]) -> Text:
    cell = cell_text(event["outcome"])
    cell.stylize(_COLOURS.get(event["outcome"], ""))
    return cell


# ---------------------------------------------------------------- replay

def replay(guide: Guide) -> None:
    """`hoopfast replay` of Ana's session on the sandbox; the shop itself is not touched."""
    stage, show = guide.stage, guide.show
    report_file = stage.directory / "replay.json"
    show.command("ada", f'hoopfast replay {guide.session} --to "dbname={SANDBOX} ..." --allow server-chosen')
    done = stage.command(
        "replay", guide.session, "--to", stage.sandbox_dsn(), "--allow", "server-chosen", "--json", str(report_file))
    show.answer(done.stdout + done.stderr)
    report: dict[str, Any] = {"same": 0, "steps": []}
    if report_file.exists():
        report = json.loads(report_file.read_text())
    ran = [step for step in report["steps"] if step["sql"].startswith("DROP")]
    other = [step for step in report["steps"] if step["status"] == "differs" and step["class"] != "server-chosen"]
    show.verify(done.returncode == 0 and not other and report["same"] > 0,
                f"{report['same']} statements did the same as before, others differ in what the server chooses "
                "(its process ids); what was refused was not run")
    show.verify(ran and ran[0]["status"] == "same", "the sandbox has lost its old_carts too")
    again = stage.command("replay", guide.session, "--to", stage.sandbox_dsn().replace(SANDBOX, "shop"))
    show.verify(again.returncode != 0 and "upstream" in again.stderr, "a replay refuses to run on the real database")


# ---------------------------------------------------------------- a secret

def secret(guide: Guide) -> None:
    """Ada makes a secret for Sam of support; Sam works with it; Ada revokes it, and Sam is out."""
    stage, show = guide.stage, guide.show
    who = ("--user", "sam@example.com", "--group", "support-leads", "--ttl", "1h", "--label", "ticket 4711")
    show.command("ada", f"hoopfast secret create {' '.join(who[:-1])} 'ticket 4711'")
    made = stage.command("secret", "create", *who, person="ada")
    password, name = made.stdout.strip(), made.stderr.split(" ")[0]
    show.answer(f"{password[:10]}...  (shown once)\n{made.stderr}")
    show.verify(made.returncode == 0 and password.startswith("hfdemo_"), "a secret of a demo is good in a demo only")

    with stage.connect("sam", password=password, application="support desk") as sam, stage.direct() as direct:
        statement = "SELECT email, ssn FROM customers WHERE id = 1"
        show.sql("sam", statement)
        got = sam.execute(statement.encode()).fetchone()
        true = direct.execute(statement.encode()).fetchone()
        assert got is not None
        assert true is not None
        show.table(("email", "ssn"), [got])
        allowed = got[0] == true[0] and got[1] != true[1]
        show.verify(allowed, "support leads may see an email but no ssn, says the policy")

        show.command("ada", f"hoopfast secret revoke {name}")
        began = time.monotonic()
        revoked = stage.command("secret", "revoke", name, person="ada")
        show.answer(revoked.stdout + revoked.stderr)
        readable, _, _ = select.select([sam.fileno()], [], [], _REVOKED_WITHIN_S)
        took = time.monotonic() - began
        show.verify(readable, f"Sam's open session hears of it at once ({took:.1f} s with the command)")
        try:
            sam.execute("SELECT 1")
        except psycopg.OperationalError as ended:
            show.error(ended)
            show.verify(sam.broken, "and has ended")
        else:
            show.verify(False, "Sam's session has ended")
    try:
        stage.connect("sam", password=password).close()
    except psycopg.OperationalError as refused:
        show.error(refused)
        show.verify(True, "the secret opens nothing any more")
    else:
        show.verify(False, "the secret opens nothing any more")


# ---------------------------------------------------------------- metrics

def metrics(guide: Guide) -> None:
    """An excerpt of /metrics, held against what the tour has done."""
    show = guide.show
    url = f"{guide.stage.admin_url}/metrics"
    show.command("prometheus", f"curl {url}")
    text = httpx.get(url, timeout=10, trust_env=False).raise_for_status().text
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    excerpt = [line for line in lines if line.split("{")[0].split(" ")[0] in _METRICS]
    show.answer("\n".join(excerpt))
    number = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}
    show.verify(number.get("hoopfast_masked_cells_total", 0) > 3000, "masked cells are counted")
    show.verify(number.get('hoopfast_statements_total{verdict="deny"}', 0) >= 4, "and refusals, by verdict")
    failures = sum(value for name, value in number.items() if name.startswith("hoopfast_auth_failures_total"))
    show.verify(failures >= 2, "and failed logins, by true reason")
