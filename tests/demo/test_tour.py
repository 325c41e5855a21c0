"""The tour: a failed check fails it, an unexpected error does not stop it, the real one is verified from end to end."""

from __future__ import annotations

import io
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hoopfast.demo import tour
from hoopfast.demo.postgres import child_environment, free_port
from hoopfast.demo.show import Show, cell_text, error_text

ROOT = Path(__file__).resolve().parents[2]
DEMO = (sys.executable, "-c", "from hoopfast.cli.main import main; main(prog_name='hoopfast')", "demo")


def show() -> tuple[Show, io.StringIO]:
    text = io.StringIO()
    return Show(Console(file=text)), text


def run(monkeypatch: pytest.MonkeyPatch, *steps: Any) -> tuple[bool, str]:
    monkeypatch.setattr(tour, "STEPS", tuple((f"step {i}", "why", step) for i, step in enumerate(steps)))
    out, text = show()
    verified = tour.run(None, out)  # type: ignore[arg-type]  # these steps use no stage
    return verified, text.getvalue()


def test_all_checks_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    verified, text = run(monkeypatch, lambda guide: guide.show.verify(True, "water is wet"))
    assert verified
    assert "✓ water is wet" in text
    assert "All 1 checks" in text


def test_a_false_claim_fails_the_tour(monkeypatch: pytest.MonkeyPatch) -> None:
    verified, text = run(
        monkeypatch, lambda guide: guide.show.verify([], "water is dry"), lambda guide: guide.show.verify(1, "more")
    )
    assert not verified
    assert "✗ not so: water is dry" in text
    assert "✓ more" in text
    assert "step 0: water is dry" in text


def test_a_broken_step_fails_the_tour_and_the_next_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    verified, text = run(monkeypatch, lambda guide: guide.ana, lambda guide: guide.show.verify(True, "after that"))
    assert not verified
    assert "RuntimeError: ana is not connected" in text
    assert "✓ after that" in text


def test_values_cannot_paint_the_terminal() -> None:
    out, text = show()
    out.table(("a",), [["\x1b[31mred\x07[bold]"], [None]])
    assert "\x1b" not in text.getvalue() and "\x07" not in text.getvalue()
    assert "[bold]" in text.getvalue() and "NULL" in text.getvalue()
    assert cell_text("x" * 500).plain.endswith("…")


def test_login_errors_are_shown_without_libpq_s_preface() -> None:
    failure = OSError('connection to server at "127.0.0.1", port 1 failed: FATAL:  no\nHINT:  yes')
    assert error_text(failure) == "FATAL:  no\nHINT:  yes"
    assert error_text(OSError("plain")) == "plain"


def test_a_taken_port_is_not_used() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) != port
    assert free_port(port) == port


def environment(directory: Path) -> dict[str, str]:
    # A setting of the person's own must not reach the demo.
    return child_environment(PYTHONPATH=str(ROOT), TMPDIR=str(directory), PGHOST="192.0.2.1", HOOPFAST_CONFIG="nowhere")


@pytest.fixture
def scratch() -> Any:
    # pytest's own directories are closed to the user whom PostgreSQL runs as.
    with tempfile.TemporaryDirectory(prefix="hf-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.server
def test_the_whole_tour(scratch: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--tour-only"], capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL, cwd="/",
        env=environment(scratch),
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "✗" not in done.stdout and done.stderr == ""
    for title, why, _ in tour.STEPS:
        assert title in done.stdout and why in done.stdout
    for said in (
        "hoopfast demo: throwaway keys",                        # the banner
        "ana@example.com tour",                                 # what PostgreSQL sees
        "✓ ssn, card_number and email are masked", "✓ the same in binary format", "✓ COPY: 1200 rows",
        "is hidden from you and cannot be used in an expression",
        "roles are managed in Terraform",
        "holds this statement until it is approved", "✓ nobody approves their own request", "✓ Max approves",
        "approve destructive", "✓ who approved the DROP, when, and why",
        "others differ in what the server chooses", "✓ a replay refuses to run on the real database",
        "this credential was revoked", "hoopfast_masked_cells_total",
    ):
        assert said in done.stdout, said
    assert not list(scratch.iterdir()), "nothing is left"


@pytest.mark.server
def test_it_keeps_running_until_told_to_stop(scratch: Path) -> None:
    log = scratch / "out.txt"
    with log.open("w") as out:
        demo = subprocess.Popen(
            [*DEMO, "--no-tour"], stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd="/", env=environment(scratch),
        )
    try:
        deadline = time.monotonic() + 60
        while "gateway's log" not in log.read_text():
            assert demo.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        text = log.read_text()
        line = next(line for line in text.splitlines() if line.startswith("psql as Ana"))
        passfile = Path(line.split("PGPASSFILE=")[1].split(" ")[0])
        assert passfile.stat().st_mode & 0o777 == 0o600
        assert len(passfile.read_text().splitlines()) == text.count("\neyJ") == 3
    finally:
        demo.send_signal(signal.SIGINT)
        status = demo.wait(40)
    assert status == 0, log.read_text()
    assert [path.name for path in scratch.iterdir()] == ["out.txt"], "nothing is left"
