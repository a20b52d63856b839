"""The relay's certificate: the operator's own, or one that is made here and vouches for itself.

A made one is kept, so that its fingerprint stays the same from start to start, in a file that
nobody but its owner reads.
"""

import datetime
import ipaddress
import logging
import os
import re
import socket
import ssl
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dreamrelay.config import RelaySettings
from dreamrelay.errors import ConfigError
from dreamrelay.relay.auth import write_private
from dreamrelay.trust import fingerprint_of

logger = logging.getLogger(__name__)

DAYS = 397
"""What browsers take at most."""

RENEW_DAYS = 30

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")

_NAME = re.compile(r"[A-Za-z0-9.:_-]{1,253}")


@dataclass(frozen=True, slots=True)
class Certificate:
    """What to serve TLS with, and its fingerprint for people."""

    context: ssl.SSLContext
    fingerprint: str


def certificate_of(settings: RelaySettings, names: Iterable[str]) -> Certificate:
    """The certificate that the settings ask for.

    Args:
        names: under which the relay is reached, beside this machine's own.

    Raises:
        ConfigError: the settings contradict each other, or a file cannot be used.
    """
    if settings.tls_cert is None:
        if settings.tls_key is not None:
            raise ConfigError("--tls-key goes with --tls-cert")
        kept = {"state": default_file(), "none": None}
        file = kept.get(settings.tls_keep, Path(settings.tls_keep))
        return made_certificate([*LOCAL_NAMES, socket.gethostname(), *names], file)
    if settings.tls == "auto":
        raise ConfigError("choose one: --tls=auto or --tls-cert")
    key = None if settings.tls_key is None else Path(settings.tls_key)
    return own_certificate(Path(settings.tls_cert), key)


def own_certificate(certificate: Path, key: Path | None) -> Certificate:
    """Load the operator's certificate (a chain in PEM) and key, which may be in the same file.

    Raises:
        ConfigError: a file cannot be read, or they do not belong together.
    """
    context = _context()
    try:
        context.load_cert_chain(certificate, key, password="")  # never ask on a terminal
        pem = certificate.read_text(encoding="ascii", errors="replace")
        first = pem[pem.index("-----BEGIN CERTIFICATE") :].partition("-----END CERTIFICATE-----")
        der = ssl.PEM_cert_to_DER_cert(first[0] + first[1])
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigError(
            f"--tls-cert={certificate} with --tls-key={key or certificate}: {reason}"
        ) from None
    return Certificate(context, fingerprint_of(der))


def made_certificate(names: Iterable[str], kept: Path | None) -> Certificate:
    """Load the certificate that was made before, or make one.

    Args:
        names: host names and addresses it is for.
        kept: the file with it and its key; None keeps it in memory only.

    Raises:
        ConfigError: others may read the file.
    """
    wanted = tuple(dict.fromkeys(name for name in names if _NAME.fullmatch(name)))
    pem = _kept(kept, wanted) if kept is not None else None
    if pem is None:
        pem = _make(wanted)
        if kept is not None:
            try:
                write_private(kept, pem)
            except OSError as error:
                logger.warning("the certificate cannot be kept in %s: %s", kept, error.strerror)
    der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    return Certificate(_loaded(pem), fingerprint_of(der))


def default_file() -> Path:
    """Where the made certificate is kept: with the state of this user's programs."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "dreamrelay" / "relay-certificate.pem"


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


def _loaded(pem: bytes) -> ssl.SSLContext:
    """A context with this; Python loads keys from files only, so there is one for a moment."""
    context = _context()
    with tempfile.TemporaryDirectory(prefix="dreamrelay-") as folder:  # its mode is 0700
        file = Path(folder) / "certificate.pem"
        write_private(file, pem)
        context.load_cert_chain(file)
    return context


def _kept(file: Path, names: tuple[str, ...]) -> bytes | None:
    """The file's content, if it is still good and for these names."""
    try:
        pem = file.read_bytes()
        mode = file.stat().st_mode & 0o777
        certificate = x509.load_pem_x509_certificate(pem)
        serialization.load_pem_private_key(pem, None)
    except (OSError, ValueError, TypeError):
        return None
    if sys.platform != "win32" and mode & 0o077:
        raise ConfigError(f"{file}: others may read the key in it (mode {mode:o}): delete it")
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    has = {str(name.value) for name in extension.value}
    fits = left > datetime.timedelta(days=RENEW_DAYS) and set(names) <= has
    return pem if fits else None


def _make(names: tuple[str, ...]) -> bytes:
    """A key and a certificate of it by itself, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dreamrelay")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([_alternative(n) for n in names]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
