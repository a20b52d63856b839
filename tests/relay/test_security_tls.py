"""HTTPS with a certificate that the relay makes, and programs of ours that know it by its print."""

import os
import socket
import ssl
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509

from dreamrelay.config import ProducerSettings, RelaySettings
from dreamrelay.errors import AuthError, ConfigError, DeviceError
from dreamrelay.img2img import transform
from dreamrelay.link import Link
from dreamrelay.producer import Producer
from dreamrelay.relay import tls
from dreamrelay.relay.app import Relay
from dreamrelay.relay.tls import made_certificate
from dreamrelay.trust import Trust, fingerprint_of
from tests.conftest import ProgramStarter
from tests.fakes.peers import Heard
from tests.fakes.running import Running
from tests.relay.clients import closed
from tests.relay.strangers import TOKENS
from tests.support import RunningRelay, picture, start_relay, until

WRONG = ":".join(["AB"] * 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def secure(folder: Path) -> Iterator[RunningRelay]:
    with start_relay(
        RelaySettings(port=0, tls="auto", tls_keep=str(folder / "relay.pem"))
    ) as relay:
        yield relay


@pytest.fixture(scope="module")
def hurried(folder: Path) -> Iterator[RunningRelay]:
    settings = RelaySettings(
        port=0, tls="auto", tls_keep=str(folder / "relay.pem"), request_seconds=0.5
    )
    with start_relay(settings) as relay:
        yield relay


@pytest.fixture(scope="module")
def fingerprint(folder: Path, secure: RunningRelay) -> str:
    pem = (folder / "relay.pem").read_text()
    return fingerprint_of(ssl.PEM_cert_to_DER_cert(pem[: pem.index("-----BEGIN PRIVATE")]))


def heard(relay: RunningRelay, trust: Trust | None) -> tuple[Link, Heard]:
    listener = Heard()
    link = Link(relay.websocket, "default", "viewer", listener, trust=trust)
    link.start()
    return link, listener


class TestOurPrograms:
    @pytest.mark.parametrize("form", [str, str.lower, lambda f: f.replace(":", "")])
    def test_a_link_that_was_told_the_fingerprint(
        self, secure: RunningRelay, fingerprint: str, form: Any
    ) -> None:
        link, listener = heard(secure, Trust(form(fingerprint)))
        until(lambda: listener.welcomes)
        assert secure.url.startswith("https://")
        link.close()

    def test_another_certificate_is_told_nothing(self, secure: RunningRelay) -> None:
        """Not even the token: who sits between would have it."""
        listener = Heard()
        link = Link(
            secure.websocket, "x", "viewer", listener, token=TOKENS["all"], trust=Trust(WRONG)
        )
        link.start()
        error = until(lambda: listener.errors)[0]
        assert isinstance(error, AuthError)
        assert "another relay" in str(error)
        assert "x" not in secure.hub.streams
        link.close()

    def test_a_certificate_that_nobody_vouches_for_ends_the_link(
        self, secure: RunningRelay
    ) -> None:
        link, listener = heard(secure, None)
        error = until(lambda: listener.errors)[0]
        assert isinstance(error, AuthError)
        assert "--tls-fingerprint" in str(error)
        assert not listener.losses
        link.close()

    def test_one_that_an_authority_vouches_for(self, secure: RunningRelay, folder: Path) -> None:
        link, listener = heard(secure, Trust(ca=str(folder / "relay.pem")))
        until(lambda: listener.welcomes)
        link.close()

    def test_a_producer(self, secure: RunningRelay, fingerprint: str) -> None:
        settings = ProducerSettings(
            source="pattern://bars",
            websocket_uri=secure.websocket,
            tls_fingerprint=fingerprint,
            duration=None,
            stream="safe",
        )
        running = Running(Producer(settings))
        until(lambda: running.program.statistics.acked)
        assert running.stop() is None
        assert secure.hub.streams["safe"].tracks["input"].last is not None

    def test_one_picture(self, secure: RunningRelay, fingerprint: str, tmp_path: Path) -> None:
        path = tmp_path / "picture.jpg"
        path.write_bytes(picture())
        with pytest.raises(Exception, match="no worker is connected"):
            transform(secure.websocket, path, "x", trust=Trust(fingerprint))
        for trust in (Trust(WRONG), None):
            with pytest.raises(AuthError):
                transform(secure.websocket, path, "x", trust=trust)

    @pytest.mark.parametrize("given", ["", "AB", "x" * 64, WRONG + ":AB"])
    def test_what_is_no_fingerprint(self, given: str) -> None:
        with pytest.raises(ConfigError, match="64 hexadecimal digits"):
            Trust(given)

    def test_a_fingerprint_without_tls_is_a_mistake(self) -> None:
        with pytest.raises(ConfigError, match="goes with wss"):
            Link("ws://h", "s", "viewer", Heard(), trust=Trust(WRONG))

    @pytest.mark.parametrize("content", [None, "no certificate"])
    def test_a_file_of_no_authorities(self, tmp_path: Path, content: str | None) -> None:
        path = tmp_path / "ca.pem"
        if content:
            path.write_text(content)
        with pytest.raises(ConfigError, match="PEM"):
            Link("wss://h", "s", "viewer", Heard(), trust=Trust(ca=str(path)))

    def test_a_program_prints_what_another_needs(
        self, programs: ProgramStarter, tmp_path: Path
    ) -> None:
        kept = f"--tls_keep={tmp_path / 'kept.pem'}"
        relay = programs("server.py", "--port=0", "--tls=auto", kept)
        address = relay.line(r"(wss://\S+)/")[1]
        printed = relay.line(r"SHA-256 (\S+)")[1]
        client = programs(
            "client.py",
            "--mode=pattern",
            f"--websocket_uri={address}",
            f"--tls-fingerprint={printed}",
            "--duration=0.5",
        )
        assert client.wait(60) == 0, client.output


class TestCertificate:
    def test_it_is_for_this_machine_and_its_names(self) -> None:
        made = made_certificate(["localhost", "127.0.0.1", "studio.example", "no name"], None)
        assert made.context.minimum_version >= ssl.TLSVersion.TLSv1_2
        assert len(made.fingerprint) == 32 * 3 - 1

    def test_it_is_kept_and_nobody_else_may_read_it(self, tmp_path: Path) -> None:
        path = tmp_path / "state" / "relay.pem"
        first = made_certificate(["localhost"], path)
        assert made_certificate(["localhost"], path).fingerprint == first.fingerprint
        if sys.platform != "win32":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert [p.name for p in path.parent.iterdir()] == ["relay.pem"]
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        assert life.days <= 398  # browsers take no more

    def test_another_name_and_age_make_another(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "relay.pem"
        first = made_certificate(["localhost"], path).fingerprint
        second = made_certificate(["localhost", "new.example"], path).fingerprint
        assert first != second
        assert made_certificate(["localhost"], path).fingerprint == second
        monkeypatch.setattr(tls, "RENEW_DAYS", 9999)
        assert made_certificate(["localhost"], path).fingerprint != second

    @pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff" * 100])
    def test_a_broken_one_is_made_anew(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "relay.pem"
        path.write_bytes(content)
        path.chmod(0o600)
        made = made_certificate(["localhost"], path)
        assert made_certificate(["localhost"], path).fingerprint == made.fingerprint

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes of files")
    def test_a_key_that_others_may_read_is_not_used(self, tmp_path: Path) -> None:
        path = tmp_path / "relay.pem"
        made_certificate(["localhost"], path)
        os.chmod(path, 0o644)
        with pytest.raises(ConfigError, match="others may read"):
            Relay(RelaySettings(tls="auto", tls_keep=str(path)))

    def test_where_it_cannot_be_kept_it_is_made_all_the_same(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").write_text("")
        made_certificate(["localhost"], tmp_path / "file" / "relay.pem")
        assert "cannot be kept" in caplog.text

    def test_ones_own(self, tmp_path: Path) -> None:
        both = tmp_path / "both.pem"
        made = made_certificate(["localhost"], both)
        pem = both.read_text()
        at = pem.index("-----BEGIN PRIVATE")
        certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
        certificate.write_text(pem[:at])
        key.write_text(pem[at:])
        for settings in (
            {"tls_cert": str(both)},
            {"tls_cert": str(certificate), "tls_key": str(key)},
        ):
            relay = Relay(RelaySettings(port=0, **settings))
            assert relay.opening.certificate is not None
            assert relay.opening.certificate.fingerprint == made.fingerprint
            assert relay.opening.link(1).startswith("https://")

    @pytest.mark.parametrize(
        "settings",
        [
            {"tls_cert": "none.pem"},
            {"tls_cert": __file__},
            {"tls_key": "none.pem"},
            {"tls": "auto", "tls_cert": "none.pem"},
        ],
    )
    def test_files_that_do_not_work(self, settings: dict[str, str]) -> None:
        with pytest.raises(ConfigError) as caught:
            Relay(RelaySettings(**settings))
        assert "--tls-" in str(caught.value)
        assert "\n" not in str(caught.value)


class TestDoor:
    def bare(self, relay: RunningRelay) -> socket.socket:
        parts = urlsplit(relay.url)
        return socket.create_connection((parts.hostname or "", parts.port or 0), 10)

    def test_who_does_not_begin_with_tls_is_not_waited_for(self, hurried: RunningRelay) -> None:
        for said in (b"", b"\x16\x03\x01\x02\x00"):
            with self.bare(hurried) as bare:
                bare.sendall(said)
                closed(bare)  # else this raises a TimeoutError

    def test_who_speaks_in_the_clear_gets_nothing(self, secure: RunningRelay) -> None:
        with self.bare(secure) as bare:
            bare.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200" not in closed(bare)

    def test_sockets_are_counted_while_tls_is_agreed(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("dreamrelay.relay.app.SPARE_CONNECTIONS", 3)
        settings = RelaySettings(
            port=0, tls="auto", tls_keep=str(folder / "relay.pem"), max_connections=1
        )
        with start_relay(settings) as relay:
            bares = [self.bare(relay) for _ in range(8)]
            assert closed(bares[0]) == b""  # the oldest made room
            for bare in bares:
                bare.close()
            until(lambda: _answers(relay))

    def test_old_tls_is_refused(self, secure: RunningRelay) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        with self.bare(secure) as bare, pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(bare)


def _answers(relay: RunningRelay) -> bool:
    parts = urlsplit(relay.url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((parts.hostname or "", parts.port or 0), 5) as bare,
            context.wrap_socket(bare) as wrapped,
        ):
            wrapped.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            return b"200 OK" in wrapped.recv(100)
    except OSError:
        return False


def test_nobody_there_is_no_question_of_trust(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(picture())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(DeviceError):
        transform(f"wss://127.0.0.1:{port}", path, None, trust=Trust(WRONG))
