"""Reading hoopfast.yaml: every problem at once, with path; combinations that cannot be; nothing secret in a problem."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hoopfast import config
from hoopfast.errors import ConfigError
from tests.support.certs import Certificates

UPSTREAM = {"host": "127.0.0.1", "database": "orders", "user": "svc", "password": "env:ORDERS_PASSWORD"}
ISSUER = {"name": "okta", "issuer": "https://id.example.com/x", "audience": "hoopfast"}
GOOD: dict[str, Any] = {"identity": [ISSUER], "connections": {"orders": {"upstream": UPSTREAM}}}


def write(tmp_path: Path, data: dict[str, Any] | str) -> Path:
    path = tmp_path / "hoopfast.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    return path


def load(tmp_path: Path, data: dict[str, Any] | str, **options: bool) -> config.Config:
    return config.load(write(tmp_path, data), **options)


def faults(tmp_path: Path, data: dict[str, Any] | str, **options: bool) -> dict[str, str]:
    """path -> what, of a file that must have problems."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, data, **options)
    return {p.path: p.what for p in caught.value.problems}


def changed(*path: str | int, to: Any, base: dict[str, Any] = GOOD) -> dict[str, Any]:
    data = copy.deepcopy(base)
    place: Any = data
    for key in path[:-1]:
        place = place[key] if isinstance(place, list) else place.setdefault(key, {})
    place[path[-1]] = to
    return data


def test_a_small_file_and_its_defaults(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD)
    assert loaded.listen.address == "127.0.0.1:6432"
    assert loaded.connections["orders"].upstream.port == 5432
    assert loaded.identity[0].claims == config.Claims()


def test_the_example_of_the_documents_is_valid(tmp_path: Path, certificates: Certificates) -> None:
    text = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text()
    example = text.split("```yaml\n")[1].split("```")[0]
    for name, source in (("server.crt", certificates.cert), ("server.key", certificates.key)):
        (tmp_path / name).write_bytes(Path(source).read_bytes())
    loaded = load(tmp_path, example, production=True)
    assert loaded.listen.tls
    assert loaded.connections["orders-prod"].upstream.tls == "verify-full"


def test_many_problems_are_found_at_once(tmp_path: Path) -> None:
    found = faults(tmp_path, """\
listen: {address: "0.0.0.0:6432", worker: 3, workers: false}
admin:
  address: 127.0.0.1:8432
  address: 127.0.0.1:8433
identity:
  - {name: okta, issuer: "http://id.example.com", audience: a, algorithms: [HS256], claims: {user: 5}}
  - {name: okta, issuer: "https://id.example.com"}
connections:
  "a b": {upstream: {host: /run, port: "5432", user: u, password: hunter2, tls: verify-ful}}
  no: {upstream: {host: /run, database: x, user: on, tls: require, cert: foo}}
audit: {results: 3q, sinks: [], max_bytes: 10}
log_level: debugg
sessions: {idle: -1, drain: 1e999}
""")
    assert set(found) == {
        "$.admin.address", "$.listen.worker", "$.listen.workers", "$.listen.address", "$.identity[0].claims.user",
        "$.identity[0].issuer", "$.identity[0].algorithms", "$.identity[1].audience",
        '$.connections["a b"].upstream.port',
        '$.connections["a b"].upstream.database',
        '$.connections["a b"].upstream.password', '$.connections["a b"].upstream.tls',
        "$.connections.no.upstream.tls", "$.connections.no.upstream", "$.audit.results", "$.audit.sinks",
        "$.audit.max_bytes", "$.log_level", "$.sessions.idle", "$.sessions.drain",
    }
    assert "did you mean workers?" in found["$.listen.worker"]
    assert "did you mean verify-full?" in found['$.connections["a b"].upstream.tls']
    assert found["$.identity[1].audience"] == "is required (line 7)"
    assert "(line 11)" in found["$.audit.results"]
    assert not any("hunter2" in what for what in found.values())


def test_a_bad_part_does_not_accuse_its_neighbours(tmp_path: Path) -> None:
    found = faults(tmp_path, changed("listen", to={"address": "0.0.0.0:1", "tls": {"cert": "a.pem"}}))
    assert "$.listen.address" not in found
    found = faults(tmp_path, changed("connections", "orders", "upstream", to={**UPSTREAM, "tls": 1, "ca": "none.pem"}))
    assert "not looked at" not in found["$.connections.orders.upstream.ca"]
    issuer = ISSUER | {"algorithms": [1], "claims": {"groups": [1]}}
    assert list(faults(tmp_path, changed("identity", to=[issuer]))) == [
        "$.identity[0].claims.groups[0]", "$.identity[0].algorithms[0]"]
    assert list(faults(tmp_path, changed("connections", to="orders"))) == ["$.connections"]


@pytest.mark.parametrize("value", [12345, True, 1.5, ["hunter2"], {"hunter2": "hunter2"}, "hunter2", "env:", None])
def test_a_secret_in_the_wrong_place_is_not_repeated(tmp_path: Path, value: Any) -> None:
    data = changed("connections", "orders", "upstream", "password", to=value)
    data["identity"][0] |= {"client_id": "x", "client_secret": value}
    data["approvals"] = {"webhooks": [{"url": "https://hooks.example.com/hunter2 x", "secret": value}]}
    data["store"] = "postgresql://hf:hunter2@db/hf"
    found = faults(tmp_path, data)
    assert {"$.connections.orders.upstream.password", "$.identity[0].client_secret", "$.store"} <= set(found)
    shown = " ".join(found.values())
    assert "hunter2" not in shown
    assert "12345" not in shown


@pytest.mark.parametrize(("path", "value", "word"), [
    ("$.store", "mysql://x", "must be sqlite"),
    ("$.store", "postgresql://db/hf?password=hunter2", "password"),
    ("$.listen.address", "6432", "host:port"),
    ("$.listen.max_sessions", 0, "at least 1"),
    ("$.listen.workers", 1000, "from 1 to 256"),
    ("$.listen.login_timeout", 0, "must be from"),
    ("$.admin.address", "0.0.0.0:8432", "tokens would cross the network"),
    ("$.admin.address", "127.0.0.1:6432", "same as listen.address"),
    ("$.admin.public_url", "http://gateway.example.com", "https"),
    ("$.admin.public_url", "gateway.example.com", "https"),
    ("$.admin.groups", [], "nobody could administer"),
    ("$.admin.groups", [100], None),
    ("$.audit.results", "lots", "none or all"),
    ("$.audit.max_bytes", "1MiB", "at least 32MiB"),
    ("$.audit.durability", "always", "process"),
    ("$.connections", {}, "names no database"),
    ("$.policy", "", "empty"),
    ("$.log_level", True, "not true or false"),
    ("$.sessions", None, "has no value"),
    ("$.state_dir", "a\nb", "cannot be printed"),
])
def test_single_values(tmp_path: Path, path: str, value: Any, word: str | None) -> None:
    found = faults(tmp_path, changed(*path.removeprefix("$.").split("."), to=value))
    assert list(found) == [path if word else f"{path}[0]"]
    assert (word or "put it in quotes") in found[path if word else f"{path}[0]"]


@pytest.mark.parametrize(("change", "path"), [
    ({"name": "gateway"}, "name"),
    ({"issuer": "http://127.0.0.1:1"}, "issuer"),
    ({"issuer": "https://"}, "issuer"),
    ({"jwks_uri": "http://id.example.com/keys"}, "jwks_uri"),
    ({"algorithms": ["none"]}, "algorithms"),
    ({"algorithms": ["RS256", "HS256"]}, "algorithms"),
    ({"algorithms": []}, "algorithms"),
    ({"claims": {"groups": []}}, "claims.groups"),
    ({"claims": {"user": ""}}, "claims.user"),
    ({"client_secret": "env:X"}, "client_secret"),
    ({"ca": "missing.pem"}, "ca"),
    ({"authorized_parties": [""]}, "authorized_parties"),
    ({"development": True}, "issuer"),
])
def test_issuers(tmp_path: Path, change: dict[str, Any], path: str) -> None:
    assert list(faults(tmp_path, changed("identity", to=[ISSUER | change]))) == [f"$.identity[0].{path}"]


@pytest.mark.parametrize("other", [{"name": "b"}, {"issuer": "https://b.example.com"}])
def test_issuers_are_unique(tmp_path: Path, other: dict[str, str]) -> None:
    found = faults(tmp_path, changed("identity", to=[ISSUER, ISSUER | other]))
    assert list(found) == ["$.identity"]
    assert "two issuers" in found["$.identity"]


@pytest.mark.parametrize(("change", "path"), [
    ({"port": 0}, ".port"), ({"port": 70000}, ".port"), ({"host": ""}, ".host"), ({"user": ""}, ".user"),
    ({"cert": "a"}, ""), ({"key": "a"}, ""), ({"host": "/run/pg", "tls": "verify-full"}, ".tls"),
    ({"connect_timeout": "5"}, ".connect_timeout"), ({"tls": "VERIFY-FULL"}, ".tls"),
])
def test_upstreams(tmp_path: Path, change: dict[str, Any], path: str) -> None:
    found = faults(tmp_path, changed("connections", "orders", "upstream", to=UPSTREAM | change))
    assert list(found) == [f"$.connections.orders.upstream{path}"]


def test_a_ca_that_would_be_ignored(tmp_path: Path, certificates: Certificates) -> None:
    ca = {"ca": str(certificates.ca)}
    load(tmp_path, changed("connections", "orders", "upstream", to=UPSTREAM | ca | {"tls": "verify-ca"}))
    found = faults(tmp_path, changed("connections", "orders", "upstream", to=UPSTREAM | ca | {"tls": "require"}))
    assert "not looked at" in found["$.connections.orders.upstream.ca"]
    load(tmp_path, changed("connections", "orders", "upstream", "tls", to="verify-full"))


@pytest.mark.parametrize("name", ["", " a", "a" * 64, "a\x07b", "ä" * 32])
def test_connection_names(tmp_path: Path, name: str) -> None:
    (path,) = faults(tmp_path, changed("connections", to={name: {"upstream": UPSTREAM}}))
    assert path.startswith("$.connections")


# ---------------------------------------------------------------- files

def test_tls_off_loopback(tmp_path: Path, certificates: Certificates) -> None:
    tls = {"cert": str(certificates.cert), "key": str(certificates.key), "client_ca": str(certificates.ca)}
    load(tmp_path, changed("listen", to={"address": "0.0.0.0:6432", "tls": tls}))
    assert list(faults(tmp_path, changed("listen", to={"address": "*:6432"}))) == ["$.listen.address"]
    assert list(faults(tmp_path, changed("listen", to={"address": "*:6432", "tls": None}))) == ["$.listen.address"]
    assert list(faults(tmp_path, changed("listen", to={"address": "unix:/run/x", "tls": tls}))) == ["$.listen.tls"]
    load(tmp_path, changed("listen", to={"tls": tls | {"client_cert": "optional", "min_version": "1.3"}}))
    del tls["client_ca"]
    idle = faults(tmp_path, changed("listen", to={"tls": tls | {"client_cert": "optional"}}))
    assert list(idle) == ["$.listen.tls.client_cert"]


@pytest.mark.parametrize("mode", ["disable", "prefer", "require", "verify-full"])
def test_channel_binding_needs_tls_for_certain(tmp_path: Path, mode: str) -> None:
    data = changed("connections", "orders", "upstream", to=UPSTREAM | {"tls": mode, "channel_binding": "require"})
    if mode in {"disable", "prefer"}:
        assert list(faults(tmp_path, data)) == ["$.connections.orders.upstream.channel_binding"]
    else:
        load(tmp_path, data)


def test_keys_that_do_not_fit(tmp_path: Path, certificates: Certificates) -> None:
    def problem(cert: object, key: object) -> tuple[str, str]:
        data = changed("listen", to={"tls": {"cert": str(cert), "key": str(key)}})
        ((path, what),) = faults(tmp_path, data).items()
        return path.removeprefix("$.listen.tls."), what

    locked = tmp_path / "locked.key"
    locked.write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase")))
    (tmp_path / "junk").write_text("not a key: hunter2")
    assert "does not belong" in problem(certificates.cert, certificates.other_key)[1]
    assert problem(certificates.cert, locked)[0] == "key"
    assert "encrypted" in problem(certificates.cert, locked)[1]
    assert "no private key" in problem(certificates.cert, tmp_path / "junk")[1]
    assert "hunter2" not in problem(certificates.cert, tmp_path / "junk")[1]
    assert problem(tmp_path / "junk", certificates.key)[0] == "cert"
    assert "No such file" in problem(tmp_path / "none", certificates.key)[1]
    assert "directory" in problem(tmp_path, certificates.key)[1]


def test_relative_paths_count_from_the_file(tmp_path: Path, certificates: Certificates) -> None:
    for name, source in (("s.crt", certificates.cert), ("s.key", certificates.key), ("ca.crt", certificates.ca)):
        (tmp_path / name).write_bytes(Path(source).read_bytes())
    data = changed("connections", "orders", "upstream", to=UPSTREAM | {
        "tls": "verify-full", "ca": "ca.crt", "cert": "s.crt", "key": "s.key", "password": "file:secret.txt"})
    data |= {"state_dir": "state", "policy": "p/policy.yaml", "listen": {
        "address": "0.0.0.0:1", "tls": {"cert": "s.crt", "key": "s.key"}}, "admin": {"address": "unix:adm.sock"}}
    data["audit"] = {"sinks": [{"kind": "jsonl", "path": "events"}]}
    loaded = load(tmp_path, data)
    upstream = loaded.connections["orders"].upstream
    assert upstream.ca == str(tmp_path / "ca.crt")
    assert upstream.password == f"file:{tmp_path}/secret.txt"
    assert loaded.listen.tls == config.ServerTls(cert=str(tmp_path / "s.crt"), key=str(tmp_path / "s.key"))
    assert loaded.admin.address == f"unix:{tmp_path}/adm.sock"
    assert loaded.state_dir == str(tmp_path / "state")
    assert loaded.policy == str(tmp_path / "p/policy.yaml")
    assert loaded.audit.sinks[0].path == "events"
    assert config.validate(loaded, "again") == []


def test_the_state_directory_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    assert list(faults(tmp_path, GOOD | {"state_dir": "state"})) == ["$.state_dir"]


# ---------------------------------------------------------------- development issuers

DEVELOPMENT = changed("identity", to=[ISSUER | {"issuer": "http://127.0.0.1:9000", "development": True}])


def test_development_issuers_work_on_loopback_only(tmp_path: Path, certificates: Certificates) -> None:
    assert load(tmp_path, DEVELOPMENT).identity[0].development
    assert list(faults(tmp_path, DEVELOPMENT, production=True)) == ["$.identity[0].development"]
    tls = {"cert": str(certificates.cert), "key": str(certificates.key)}
    data = changed("listen", to={"address": "0.0.0.0:1", "tls": tls}, base=DEVELOPMENT)
    data["admin"] = {"public_url": "https://gateway.example.com", "address": "*:2", "tls": tls}
    data["connections"]["orders"]["upstream"]["host"] = "db.internal"
    assert set(faults(tmp_path, data)) == {
        "$.listen.address", "$.admin.address", "$.admin.public_url", "$.connections.orders.upstream.host"}


# ---------------------------------------------------------------- the rest of the interface

def test_validate_judges_what_was_built_in_code() -> None:
    built = config.Config(listen=config.Listen(address="0.0.0.0:1"), connections={
        "a": config.Connection(upstream=config.Upstream(host="h", database="d", user="u", password="hunter2"))})
    found = {p.path: str(p) for p in config.validate(built, "built")}
    assert set(found) == {"$.listen.address", "$.connections.a.upstream.password"}
    assert "hunter2" not in str(found)


def test_builtins_and_back_by_msgpack(tmp_path: Path) -> None:
    loaded = load(tmp_path, changed("listen", to={"workers": 3}))
    wire = msgspec.msgpack.decode(msgspec.msgpack.encode(config.to_builtins(loaded)))
    assert config.from_builtins(wire) == loaded
    with pytest.raises(msgspec.ValidationError):
        config.from_builtins({"listen": {"worker": 3}})


def test_sizes_of_results() -> None:
    assert config.result_bytes("none") == 0
    assert config.result_bytes("all") == -1
    assert config.result_bytes("64KiB") == config.size_bytes("64KiB") == 65536
    with pytest.raises(ValueError, match="size"):
        config.result_bytes("some")


def test_secret_references_are_listed(tmp_path: Path) -> None:
    data = changed("identity", to=[ISSUER | {"client_id": "c", "client_secret": "vault:kv/x#y"}])
    data["approvals"] = {"webhooks": [{"url": "https://h.example.com", "secret": "exec:pass x"}]}
    data["store"] = "env:STORE"
    assert dict(config.secret_references(load(tmp_path, data))) == {
        "$.identity[0].client_secret": "vault:kv/x#y",
        "$.connections.orders.upstream.password": "env:ORDERS_PASSWORD",
        "$.approvals.webhooks[0].secret": "exec:pass x",
        "$.store": "env:STORE",
    }


def test_the_schema_knows_every_key() -> None:
    schema = config.json_schema()
    keys = {field.encode_name for field in msgspec.structs.fields(config.Config)}
    assert set(schema["$defs"]["Config"]["properties"]) == keys
    assert schema["$defs"]["Upstream"]["required"] == ["host", "database", "user"]
    assert schema["$defs"]["Upstream"]["additionalProperties"] is False
