"""Checks that several sections of the configuration share: addresses on the web, secret references, PEM files.

Each takes the value, its path and the report, and adds what is wrong; file names count from `base`. Used by config.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from hoopfast import secrets, units
from hoopfast.document import FILE_MAX_BYTES, Report


def split_url(url: str) -> tuple[str, str, str] | None:
    """(scheme, host, password) of a URL, None if it is not one."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        query_password = "password=" if "password" in parts.query else ""
        return parts.scheme, parts.hostname or "", parts.password or query_password
    except ValueError:
        return None


def check_url(
    url: str, path: str, report: Report, *, loopback: bool = True, must_be_local: bool = False, shown: bool = True,
) -> None:
    """https; or http to loopback, if `loopback` allows it. `shown` false: the URL itself may be a secret."""
    parts = split_url(url)
    if parts is None or not parts[1] or parts[0] not in {"https", "http"} or any(c.isspace() for c in url):
        report.add(path, "must be an https:// address")
        return
    scheme, host, password = parts
    where = f" (it names {host})" if shown else ""
    if password:
        report.add(path, "must not hold a password")
    if must_be_local and not units.is_loopback(host):
        report.add(path, f"must be loopback for a development issuer{where}")
    elif scheme == "http" and not (loopback and units.is_loopback(host)):
        exception = " (http:// only for loopback)" if loopback else ""
        report.add(path, f"must be https://{exception}{where}")


def check_reference(text: str, path: str, report: Report) -> None:
    """A secret must be a reference; the text is not repeated, for it may be the secret."""
    if not secrets.looks_like_reference(text):
        report.add(path, f"must be a reference, not the secret itself: {secrets.FORMS}")


def _read_pem(base: Path, name: str, path: str, report: Report) -> bytes | None:
    try:
        with (base / name).open("rb") as file:
            return file.read(FILE_MAX_BYTES)
    except OSError as e:
        report.add(path, f"{name} cannot be read: {e.strerror}")
        return None


def certificates(base: Path, name: str, path: str, report: Report) -> list[x509.Certificate]:
    """The certificates of a PEM file, [] after reporting that there are none."""
    data = _read_pem(base, name, path, report)
    if data is None:
        return []
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        report.add(path, f"{name} holds no certificate in PEM form")
        return []


def check_pair(base: Path, cert: str, key: str, path: str, report: Report) -> None:
    """Both files readable, the key not encrypted, and belonging to the (first) certificate."""
    chain = certificates(base, cert, f"{path}.cert", report)
    data = _read_pem(base, key, f"{path}.key", report)
    if data is None:
        return
    try:
        private = load_pem_private_key(data, None)
    except TypeError:
        report.add(f"{path}.key", f"{key} is encrypted; the gateway cannot ask for its passphrase")
        return
    except (ValueError, UnsupportedAlgorithm):
        report.add(f"{path}.key", f"{key} holds no private key in PEM form")
        return
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if chain and chain[0].public_key().public_bytes(*form) != private.public_key().public_bytes(*form):
        report.add(f"{path}.key", f"{key} does not belong to the certificate in {cert}")
