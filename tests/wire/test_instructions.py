"""What a transaction costs the relay in instructions: a number that no other load on the machine can change."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hoopfast import _wire

TRANSACTIONS = 1000
# Measured: 7,650 with gcc 12. What goes beyond has to earn it; compilers and C libraries differ by a few percent.
INSTRUCTIONS_MAX = 8_800


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed (Debian: valgrind)")
@pytest.mark.skipif(_wire.BUILD != "release", reason="only the release build is counted")
def test_a_prepared_transaction_costs_no_more_than_it_did(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    subprocess.run(
        ["valgrind", "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={tmp_path}/counts",
         sys.executable, "-m", "tests.wire.transactions", str(TRANSACTIONS), str(tmp_path / "journal")],
        check=True, capture_output=True, timeout=120, cwd=Path(__file__).parents[2],
    )
    found = max(relay_instructions(path.read_text(errors="replace")) for path in tmp_path.glob("counts-*"))
    per_transaction = found / TRANSACTIONS
    assert 1_000 < per_transaction < INSTRUCTIONS_MAX, f"{per_transaction:,.0f} instructions per transaction"


def relay_instructions(profile: str) -> int:
    """The total of a thread's profile; 0 for threads other than the relay's."""
    total = re.search(r"^totals: (\d+)", profile, re.MULTILINE)
    calls = "hoopfast_5_wire_epoll_wait" in profile and "hoopfast_5_wire_pump" in profile
    return int(total[1]) if total and calls else 0
