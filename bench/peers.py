"""hoopfast beside PgBouncer, HAProxy and no proxy at all, in one run on one machine: `python -m bench.peers`.

Rounds are interleaved (every peer, then the next round), medians are printed, and everything is shown as a ratio to
PgBouncer too. CPU is given for the processes that move the bytes and for all processes, never only the flattering one.
Results go to bench/results/ as JSON and PNG.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.measure import LOOKUP, Result, bulk, median, pgbench_latency, pgbench_window
from bench.servers import Arena, Peer
from tests.support.postgres import binaries

SECTIONS = ("simple", "extended", "prepared", "latency", "bulk", "bulk-masked", "connects")
PEERS = ("direct", "pgbouncer", "haproxy", "hoopfast", "hoopfast-epoll", "pgbouncer-tls", "hoopfast-tls")
RESULTS = Path(__file__).parent / "results"
Rounds = dict[str, dict[str, list[Result]]]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--sections", default=",".join(SECTIONS), help=f"comma separated; of {', '.join(SECTIONS)}")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"comma separated; of {', '.join(PEERS)}")
    parser.add_argument("--seconds", type=int, default=2, help="measured seconds per peer, section and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the bulk sections")
    parser.add_argument("--scale", type=int, default=2, help="of pgbench's tables")
    parser.add_argument("--workers", type=int, default=1, help="of hoopfast; PgBouncer has one process")
    options = parser.parse_args()
    options.sections = options.sections.split(",")
    options.peers = options.peers.split(",")
    for given, known in ((options.sections, SECTIONS), (options.peers, PEERS)):
        if unknown := set(given) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; choose of {', '.join(known)}")
    return options


def measure(section: str, peer: Peer, options: argparse.Namespace, program: Path, script: Path) -> Result:
    if section == "latency":
        return pgbench_latency(program, peer, script, script.parent, seconds=options.seconds)
    if section in {"bulk", "bulk-masked"}:
        return bulk(peer, section.replace("-", "_"), options.rows)
    mode, clients, reconnect = (section, options.clients, False) if section != "connects" else ("simple", 4, True)
    return pgbench_window(
        program, peer, mode, script, clients=clients, seconds=options.seconds, reconnect=reconnect
    )


def run(options: argparse.Namespace, console: Console) -> Rounds:
    rounds: Rounds = {section: {} for section in options.sections}
    program = binaries(tls=True) / "pgbench"
    with Arena(
        scale=options.scale, bulk_rows=options.rows if any("bulk" in s for s in options.sections) else 1000,
        names=options.peers, workers=options.workers,
    ) as arena:
        for name in arena.skipped:
            console.print(f"[yellow]{name} is not installed and was left out[/]")
        script = arena.directory / "lookup.sql"
        script.write_text(LOOKUP.format(rows=options.scale * 100_000))
        for number in range(1, options.rounds + 1):
            for section in options.sections:
                for peer in arena.peers:
                    if section.startswith("bulk") and peer.tls:
                        continue
                    if console.is_terminal:
                        console.print(f"[dim]{number}/{options.rounds} {section} {peer.name}[/]".ljust(50), end="\r")
                    result = measure(section, peer, options, program, script)
                    rounds[section].setdefault(peer.name, []).append(result)
    return rounds


def _ratio(value: float, base: float) -> str:
    return f"{value / base:.2f}" if base > 0 and value > 0 else "-"


def show(medians: dict[str, dict[str, Result]], console: Console) -> None:
    for section, peers in medians.items():
        unit = {"bulk": "rows", "bulk-masked": "rows", "connects": "connects"}.get(section, "transactions")
        table = Table(title=f"{section} ({unit})", title_justify="left")
        for heading in ("peer", f"{unit}/s", "ms", "p99 ms", "CPU us\ndata path", "CPU us\nall", "rate\n/ PgB",
                        "CPU data\n/ PgB", "CPU all\n/ PgB"):
            table.add_column(heading, justify="left" if heading == "peer" else "right", no_wrap=True)
        for name, result in peers.items():
            base = peers.get("pgbouncer-tls" if name.endswith("-tls") else "pgbouncer")
            digits = 3 if unit == "rows" else 2
            table.add_row(
                name, f"{result.rate:,.0f}", f"{result.latency_ms:.3f}",
                f"{result.p99_ms:.3f}" if result.p99_ms else "-",
                f"{result.cpu_data_us:.{digits}f}", f"{result.cpu_all_us:.{digits}f}",
                _ratio(result.rate, base.rate) if base else "-",
                _ratio(result.cpu_data_us, base.cpu_data_us) if base else "-",
                _ratio(result.cpu_all_us, base.cpu_all_us) if base else "-",
            )
        console.print(table)


def save(rounds: Rounds, medians: dict[str, dict[str, Result]], options: argparse.Namespace) -> Path:
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / dt.datetime.now(dt.UTC).strftime("peers-%Y%m%d-%H%M%S")
    document = {
        "cores": os.cpu_count(), "machine": platform.machine(), "kernel": platform.release(),
        "python": platform.python_version(), "options": vars(options),
        "medians": {s: {p: asdict(r) for p, r in peers.items()} for s, peers in medians.items()},
        "rounds": {s: {p: [asdict(r) for r in rs] for p, rs in peers.items()} for s, peers in rounds.items()},
    }
    stem.with_suffix(".json").write_text(json.dumps(document, indent=1))
    _draw(medians, stem.with_suffix(".png"))
    return stem


def _draw(medians: dict[str, dict[str, Result]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, len(medians), figsize=(3.4 * len(medians), 6.5), squeeze=False)
    for column, (section, peers) in enumerate(medians.items()):
        names = list(peers)
        colours = ["#2b6cb0" if name.startswith("hoopfast") else "#a0aec0" for name in names]
        for row, (title, field) in enumerate((("per second", "rate"), ("CPU us each, all processes", "cpu_all_us"))):
            axis = axes[row][column]
            axis.bar(range(len(names)), [getattr(peers[name], field) for name in names], color=colours)
            axis.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
            axis.set_title(f"{section}: {title}", fontsize=8)
            axis.tick_params(axis="y", labelsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    options = arguments()
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=130)
    console.print(
        f"{options.rounds} rounds of {options.seconds} s, {options.clients} clients, {os.cpu_count()} cores shared by "
        "client, proxy and server; upstream without TLS; hoopfast: journal on, masks and rules loaded, audit shipping. "
        "ms: mean of pgbench, median in `latency`, the whole result in `bulk`; PgB: PgBouncer with the same client TLS."
    )
    rounds = run(options, console)
    medians = {s: {p: median(rs) for p, rs in peers.items()} for s, peers in rounds.items() if peers}
    show(medians, console)
    stem = save(rounds, medians, options)
    console.print(f"written: {stem}.json and .png")


if __name__ == "__main__":
    main()
