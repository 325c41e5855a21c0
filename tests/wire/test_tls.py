"""TLS in the relay, record by record, against OpenSSL peers: sizes, read-ahead, KeyUpdate, and every way it can end."""

from __future__ import annotations

import os
import select
import shutil
import socket
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hoopfast import model
from hoopfast._wire import TlsContext
from tests.support import wire
from tests.support.certs import Certificates
from tests.support.relay import READY, Pair, RelayBench, complete, expect, row, row_description, send
from tests.support.tls import TlsPeer, client_context, server_context

PEER = Path(__file__).resolve().parents[1] / "clients" / "tls_peer.c"
QUERY = wire.query("select 1 as one")
ANSWER = row_description(("one", 0, 0, 25, 0)) + row(b"1") + complete("SELECT 1") + READY
versions = pytest.mark.parametrize("version", ["1.2", "1.3"])


def ours(files: Certificates, *, server: bool) -> TlsContext:
    if server:
        return TlsContext(server=True, certificate=str(files.cert), key=str(files.key))
    return TlsContext(server=False, ca=str(files.ca), verify="full")


class Secured:
    """A session of `bench` whose client leg, upstream leg or both speak TLS with a peer of ours."""

    def __init__(
        self, bench: RelayBench, files: Certificates, *, client: bool = True, upstream: bool = False, version: str = "",
    ) -> None:
        self.peers: dict[str, TlsPeer] = {}

        def begin(pair: Pair) -> None:
            if client:
                self.peers["client"] = TlsPeer(pair.client, client_context(files, version=version))
            if upstream:
                self.peers["upstream"] = TlsPeer(pair.upstream, server_context(files, version=version), server=True)
            self.shaken = [pool.submit(peer.handshake) for peer in self.peers.values()]

        bench.on_pair = begin
        with ThreadPoolExecutor(2) as pool:
            self.pair = bench.session(
                client_tls=ours(files, server=True) if client else None,
                upstream_tls=ours(files, server=False) if upstream else None,
            )
            for future in self.shaken:
                future.result(10)

    @property
    def client(self) -> TlsPeer:
        return self.peers["client"]

    @property
    def upstream(self) -> TlsPeer:
        return self.peers["upstream"]


def reason(bench: RelayBench) -> str:
    """Why the one session of this bench ended."""
    bench.wait(lambda: bench.of_kind("closed"), "the session ends")
    return str(bench.of_kind("closed")[0][2])


@versions
def test_records_to_the_client_are_small(tmp_path: Path, certificates: Certificates, version: str) -> None:
    """libpq's asynchronous readers stall on a record that is larger than their buffer of 8 KiB, and a bit."""
    with RelayBench(tmp_path) as bench:
        session = Secured(bench, certificates, version=version)
        assert session.client.tls.version() == f"TLSv{version}"
        session.client.send(QUERY)
        expect(session.pair.upstream, QUERY)
        big = row_description(("one", 0, 0, 25, 0)) + row(os.urandom(300_000)) * 4 + complete("SELECT 4") + READY
        sending = threading.Thread(target=session.pair.upstream.sendall, args=(big,))
        sending.start()
        assert session.client.read_exactly(len(big)) == big
        sending.join()
        # Each has up to 8 KiB of data, and what TLS adds: a nonce or a content type, and the tag.
        assert 8192 < max(session.client.records) <= 8192 + 32


@versions
def test_records_of_one_byte_and_many_in_one_segment(tmp_path: Path, certificates: Certificates, version: str) -> None:
    """What OpenSSL has read ahead is handled although the kernel has nothing more to say."""
    with RelayBench(tmp_path) as bench:
        session = Secured(bench, certificates, upstream=True, version=version)
        pipeline = QUERY * 40
        session.client.send(pipeline, pieces=1)
        assert session.upstream.read_exactly(len(pipeline)) == pipeline
        session.upstream.send(ANSWER * 40, pieces=7)
        assert session.client.read_exactly(len(ANSWER) * 40) == ANSWER * 40


@versions
def test_the_clients_close_notify_closes_one_half(tmp_path: Path, certificates: Certificates, version: str) -> None:
    """As a shutdown does without TLS: what was asked before is still answered, on both legs."""
    with RelayBench(tmp_path) as bench:
        session = Secured(bench, certificates, upstream=True, version=version)
        session.client.send(QUERY)
        session.client.close_half()
        assert session.upstream.read_exactly(len(QUERY)) == QUERY
        assert session.upstream.recv() == b""               # close_notify, not a cut
        session.upstream.send(ANSWER)
        assert session.client.read_exactly(len(ANSWER)) == ANSWER
        session.upstream.close_half()
        session.upstream.end.close()
        assert session.client.recv() == b""
        assert reason(bench) == "client"


@versions
def test_terminate_is_passed_on_with_close_notify(tmp_path: Path, certificates: Certificates, version: str) -> None:
    with RelayBench(tmp_path) as bench:
        session = Secured(bench, certificates, upstream=True, version=version)
        session.client.send(wire.TERMINATE)
        session.client.end.close()                          # many drivers do not bother to close TLS: no cut after this
        assert session.upstream.read_exactly(5) == wire.TERMINATE
        assert session.upstream.recv() == b""
        session.upstream.end.close()
        assert reason(bench) == "client"


@versions
def test_a_clients_cut_is_told_from_its_close(tmp_path: Path, certificates: Certificates, version: str) -> None:
    with RelayBench(tmp_path) as bench:
        session = Secured(bench, certificates, version=version)
        session.client.send(QUERY + QUERY[:7])
        expect(session.pair.upstream, QUERY)
        session.client.end.shutdown(socket.SHUT_WR)
        assert session.pair.upstream.recv(16) == b""
        session.pair.upstream.close()
        assert reason(bench) == "client_cut"
        end = bench.records_of(model.KIND_SESSION_END)[0].payload
        assert end[1:] == b"client_cut"


@versions
def test_the_servers_end_with_and_without_close_notify(
    tmp_path: Path, certificates: Certificates, version: str
) -> None:
    for number, proper in enumerate((True, False)):
        directory = tmp_path / str(number)
        directory.mkdir()
        with RelayBench(directory) as bench:
            session = Secured(bench, certificates, upstream=True, version=version)
            session.client.send(QUERY)
            session.upstream.read_exactly(len(QUERY))
            session.upstream.send(ANSWER[:-6])              # all but ReadyForQuery
            if proper:
                session.upstream.close_half()
            session.upstream.end.close()
            assert session.client.read_exactly(len(ANSWER) - 6) == ANSWER[:-6]
            fatal = session.client.recv()
            assert wire.error_fields(fatal[5:])["C"] == "08006"
            assert session.client.recv() == b""             # and our own close is a proper one
            session.client.end.close()
            assert reason(bench) == ("upstream" if proper else "upstream_cut")


def test_a_forged_record_ends_the_session(tmp_path: Path, certificates: Certificates) -> None:
    with RelayBench(tmp_path) as bench:
        session = Secured(bench, certificates)
        session.client.send(QUERY)
        expect(session.pair.upstream, QUERY)
        session.client.end.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(ssl.SSLError):
            session.client.recv()
        assert session.pair.upstream.recv(16) == b""
        session.pair.upstream.close()
        assert reason(bench) == "client_cut"


# ---------------------------------------------------------------- KeyUpdate

@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client in C: Python's ssl cannot update keys."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("no C compiler for the peer that updates keys")
    program = tmp_path_factory.mktemp("peer") / "tls_peer"
    done = subprocess.run(
        [compiler, "-o", program, PEER, "-lssl", "-lcrypto"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return program


class UpdatingClient:
    """`peer` on the client's end of a session."""

    def __init__(self, bench: RelayBench, files: Certificates, program: Path, rounds: int) -> None:
        def begin(pair: Pair) -> None:
            pair.client.setblocking(True)               # the mode is the socket's, not the process's
            self.process = subprocess.Popen(
                [program, str(pair.client.fileno()), str(rounds)], pass_fds=[pair.client.fileno()],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
            )

        bench.on_pair = begin
        self.pair = bench.session(client_tls=ours(files, server=True))
        self.pair.client.close()

    def finish(self) -> bytes:
        self.pair.upstream.close()
        output, _ = self.process.communicate(timeout=30)
        assert self.process.returncode == 0
        return output


def test_key_updates_on_both_sides(tmp_path: Path, certificates: Certificates, peer: Path) -> None:
    with RelayBench(tmp_path) as bench:
        client = UpdatingClient(bench, certificates, peer, rounds=3)
        assert client.process.stdin is not None
        client.process.stdin.write(QUERY * 5)
        client.process.stdin.close()
        client.process.stdin = None
        expect(client.pair.upstream, QUERY * 5)
        send(client.pair.upstream, [ANSWER * 5])
        bench.wait(lambda: len(bench.records_of(model.KIND_OUTCOME)) == 5, "five outcomes")
        assert client.finish().startswith(ANSWER * 5)


def test_a_flood_of_key_updates_delays_nobody(tmp_path: Path, certificates: Certificates, peer: Path) -> None:
    """OpenSSL by itself reads on over records without data for as long as they come."""
    with RelayBench(tmp_path) as bench:
        other = bench.session()
        client = UpdatingClient(bench, certificates, peer, rounds=100_000)
        assert client.process.stderr is not None
        assert client.process.stderr.readline() == b"flood\n"
        slowest, asked = 0.0, 0
        deadline = time.monotonic() + 60
        while not select.select([client.process.stderr], [], [], 0)[0]:
            assert time.monotonic() < deadline
            began = time.monotonic()
            other.client.sendall(QUERY)
            expect(other.upstream, QUERY)
            other.upstream.sendall(ANSWER)
            expect(other.client, ANSWER)
            slowest = max(slowest, time.monotonic() - began)
            asked += 1
        assert client.process.stderr.readline() == b"over\n"
        assert asked > 10
        assert slowest < 2             # on a busy machine; without a bound it is the whole flood
        assert client.process.stdin is not None
        client.process.stdin.write(QUERY)                   # nothing was lost on the way
        client.process.stdin.flush()
        client.process.stdin.close()
        client.process.stdin = None
        expect(client.pair.upstream, QUERY)
        client.finish()
