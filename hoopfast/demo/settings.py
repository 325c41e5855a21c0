"""The demo's configuration, policy and certificate, and the interlocks that keep a demo a demo. Used by demo/stage.py.

The files are the same kind that a real gateway reads, so that they can be read, changed and tried while the demo runs
(policy.yaml is reloaded when it changes).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path
from typing import Any

import msgspec
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hoopfast import config as configuration
from hoopfast import units
from hoopfast.config import Admin, Config, Connection, Issuer, Listen, ServerTls, Sessions, Upstream
from hoopfast.errors import ConfigError
from hoopfast.policy.source import parse_policy

HOST = "127.0.0.1"
CONNECTION = "shop"
PASSWORD_VARIABLE = "HOOPFAST_DEMO_UPSTREAM_PASSWORD"
_CERTIFICATE_LIFE = dt.timedelta(days=7)

POLICY = """\
# policy.yaml of the demo. Change it while the demo runs: the gateway reads it again, checks it, and then uses it.
access:
  - {groups: [engineering, support-leads], connections: [shop]}

masks:
  - {columns: [public.customers.ssn], with: redact, unless: {groups: [hr]}}
  - {columns: [public.customers.card_number], with: {partial: {keep: 4}}, unless: {groups: [hr]}}
  - {columns: [public.customers.email], with: email, unless: {groups: [support-leads]}}
  - {columns: [public.employees.salary], with: "null", unless: {groups: [hr]}}

rules:
  - name: destructive
    when: {statements: [drop, truncate]}
    action: approve
    approvers: {groups: [dba], count: 1}
    expires: 15m
    reason: "tables do not come back"
  - name: unfiltered
    when: {statements: [delete, update], unfiltered: true}
    action: approve
    approvers: {groups: [dba], count: 1}
    expires: 15m
  - name: no-grants
    when: {statements: [grant, alter_role]}
    action: deny
    reason: "roles are managed in Terraform"
"""


class NotADemo(RuntimeError):
    """Something of the demo could be reached from, or could reach, the world outside; it must not start."""


def certificate(directory: Path) -> ServerTls:
    """Write a new self-signed certificate for 127.0.0.1 and its key (0600). Returns where they are."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hoopfast demo")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + _CERTIFICATE_LIFE)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = ServerTls(cert=str(directory / "server.crt"), key=str(directory / "server.key"))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(Path(files.key), private)
    write_private(Path(files.cert), made.public_bytes(serialization.Encoding.PEM))
    return files


def make(
    directory: Path, *, port: int, admin_port: int, issuer: Issuer, tls: ServerTls, upstream_port: int, database: str,
    user: str,
) -> Config:
    """The configuration of the demo's gateway. Nothing but ports, names and the issuer differs between two demos."""
    upstream = Upstream(
        host=HOST, port=upstream_port, database=database, user=user, password=f"env:{PASSWORD_VARIABLE}", tls="disable"
    )
    return Config(
        listen=Listen(address=f"{HOST}:{port}", tls=tls, workers=2, max_sessions=100),
        admin=Admin(
            address=f"{HOST}:{admin_port}", public_url=f"http://{HOST}:{admin_port}",
            # Everybody may look at requests; who may decide one is up to the rule.
            approvers=("dba", "engineering"), auditors=("auditors",),
        ),
        state_dir=str(directory / "state"),
        identity=(issuer,),
        connections={CONNECTION: Connection(upstream=upstream)},
        sessions=Sessions(drain=2.0),
        policy="policy.yaml",
        log_level="warning",
    )


def interlock(config: Config) -> None:
    """Raises NotADemo when anything is not on loopback, trusts a real issuer, or existed before this demo."""
    for what, address in (("listen", config.listen.address), ("admin", config.admin.address)):
        at = units.parse_address(address)
        if at.path or not units.is_loopback(at.host):
            raise NotADemo(f"{what}.address is {address}: a demo listens on 127.0.0.1 only")
    for issuer in config.identity:
        if not issuer.development:
            raise NotADemo(f"{issuer.name} is a real identity provider: a demo trusts its own issuer only")
    for name, connection in config.connections.items():
        if not units.is_loopback(connection.upstream.host):
            raise NotADemo(f"{name} is on {connection.upstream.host}: a demo uses its own database only")
    if Path(config.state_dir).exists():
        raise NotADemo(f"{config.state_dir} exists: a demo starts with a state directory of its own")


def write(directory: Path, config: Config) -> Path:
    """Check and write hoopfast.yaml and policy.yaml. Returns the former's path. Raises NotADemo or ConfigError."""
    interlock(config)
    path = directory / "hoopfast.yaml"
    parse_policy(POLICY, "policy.yaml", list(config.connections))
    content: dict[str, Any] = msgspec.to_builtins(config)
    text = "# hoopfast.yaml of the demo, written at its start.\n" + yaml.safe_dump(content, sort_keys=False, width=120)
    write_private(directory / "policy.yaml", POLICY.encode())
    write_private(path, text.encode())
    if problems := configuration.validate(config, str(path)):
        raise ConfigError(problems)
    return path


def write_private(path: Path, content: bytes) -> None:
    """A new file that only its owner can read, from its first byte on."""
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(content)
