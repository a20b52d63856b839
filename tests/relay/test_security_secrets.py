"""Where tokens must not be seen: logs, error texts, answers, what programs print."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import segno
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from dreamrelay.errors import AuthError, EngineError
from dreamrelay.img2img import transform
from dreamrelay.link import Link, without_token
from dreamrelay.relay.guard import BlackOut
from dreamrelay.relay.qr import drawn
from tests.conftest import ProgramStarter
from tests.fakes.peers import Heard
from tests.relay.clients import answer, native
from tests.relay.strangers import TOKENS, as_stranger, open_relay
from tests.support import RunningRelay, picture, until

SECRET = TOKENS["all"]


@pytest.fixture(scope="module")
def strange() -> Iterator[RunningRelay]:
    with open_relay() as relay:
        yield relay


class TestLogs:
    def test_at_the_most_talkative_no_token_is_logged(
        self, strange: RunningRelay, caplog: pytest.LogCaptureFixture
    ) -> None:
        names = ("uvicorn.error", "uvicorn.access", "dreamrelay", "asyncio", "starlette")
        for name in names:
            caplog.set_level(logging.DEBUG, logger=name)
        headers = as_stranger("all")
        answer(strange, f"/?token={SECRET}", Accept="text/html")
        answer(strange, f"/streams?token={SECRET}")
        answer(strange, "/streams", **headers)
        answer(strange, "/streams", Cookie=f"dreamrelay_token_1={SECRET}")
        answer(strange, f"/streams/a/parameters?token={SECRET}", "PATCH", b"rubbish")
        with native(strange, "viewer", f"?token={SECRET}&name=somebody", "logged"):
            pass
        with connect(strange.websocket + "/", additional_headers=headers):
            pass
        with connect(f"{strange.websocket}/streams/a/viewer?auth=first") as websocket:
            websocket.send(json.dumps({"type": "auth", "token": SECRET}))
            websocket.recv(30)
        with pytest.raises(InvalidStatus):
            connect(f"{strange.websocket}/nowhere?token={SECRET}")
        until(lambda: not strange.hub.streams["logged"].connections)
        ours = [r for r in caplog.records if r.name.startswith(("uvicorn", "dreamrelay"))]
        assert any("WebSocket" in r.getMessage() for r in ours)  # it was talkative
        assert any("uthorization" in r.getMessage() for r in ours)
        text = "\n".join(r.getMessage() for r in ours)
        assert SECRET not in text
        assert "***" in text

    @pytest.mark.parametrize(
        "line",
        [
            "< GET /?token=a%2Fb%2Bc%3D&x=1 HTTP/1.1",
            "< GET /?token=a%2fb%2bc%3d&x=1 HTTP/1.1",
            "< GET /?token=a/b+c=&x=1 HTTP/1.1",
            "< GET /?token=something-else&x=1 HTTP/1.1",
        ],
    )
    def test_as_addresses_write_it_too_and_what_is_nearly_one(self, line: str) -> None:
        record = logging.LogRecord("x", 20, "", 0, line, (), None)
        assert BlackOut(["a/b+c="]).filter(record)
        assert record.getMessage() == "< GET /?token=***&x=1 HTTP/1.1"

    def test_no_stranger_fills_the_log(self) -> None:
        black_out = BlackOut([], clock=lambda: 5.0)
        passed = [
            black_out.filter(logging.LogRecord("x", level, "", 0, "Invalid request", (), None))
            for level in [logging.WARNING] * 50 + [logging.ERROR, logging.INFO]
        ]
        assert passed == [True] * 5 + [False] * 45 + [True, True]

    def test_what_is_blacked_out(self) -> None:
        record = logging.LogRecord("x", 20, "", 0, "GET %s by %s", ("/?token=abc", "def"), None)
        assert BlackOut(["abc", "def"]).filter(record)
        assert record.getMessage() == "GET /?token=*** by ***"
        record = logging.LogRecord("x", 20, "", 0, "100% of %s", ("it",), None)
        record.msg = "%d %%"
        record.args = (5,)
        assert BlackOut(["abc"]).filter(record)
        assert record.getMessage() == "5 %"


class TestAnswers:
    @pytest.mark.parametrize("path", ["/", "/streams", "/nowhere", "/metrics", "/openapi.json"])
    def test_no_answer_repeats_it(self, strange: RunningRelay, path: str) -> None:
        for token in (SECRET, "wrong-token-of-a-stranger"):
            _, headers, body = answer(strange, f"{path}?token={token}")
            assert token.encode() not in body
            assert not [v for v in headers.values() if token in v]

    def test_no_page_sends_it_on(self, strange: RunningRelay) -> None:
        for path in ("/", "/streams/a/view", "/streams", "/static/dreamrelay.js"):
            _, headers, _ = answer(strange, path, Accept="text/html")
            assert headers["referrer-policy"] == "no-referrer"


class TestOurPrograms:
    def test_a_link_shows_it_in_a_header(self) -> None:
        link = Link(f"ws://h/?token={SECRET}&a=1", "s", "viewer", Heard())
        assert SECRET not in link.uri + link.shown_uri
        assert link.uri == "ws://h/streams/s/viewer?a=1"
        assert without_token("ws://h/x?token=a&token=b") == ("ws://h/x", "a")
        assert without_token("ws://h/x?a=%20") == ("ws://h/x?a=%20", None)

    @pytest.mark.parametrize("given", ["token", "address"])
    def test_and_the_relay_takes_it(self, strange: RunningRelay, given: str) -> None:
        heard = Heard()
        uri = strange.websocket + (f"?token={SECRET}" if given == "address" else "")
        token = SECRET if given == "token" else None
        link = Link(uri, "linked", "viewer", heard, token=token)
        link.start()
        until(lambda: heard.welcomes)
        link.close()

    def test_a_refused_one_is_not_repeated(self, strange: RunningRelay) -> None:
        heard = Heard()
        link = Link(strange.websocket, "s", "viewer", heard, token="not-the-right-one")
        link.start()
        error = until(lambda: heard.errors)[0]
        assert "401" in str(error)
        assert "not-the-right-one" not in str(error)
        link.close()

    @pytest.mark.parametrize("where", ["token", "address"])
    def test_one_picture_there_and_back(
        self, strange: RunningRelay, tmp_path: Path, where: str
    ) -> None:
        path = tmp_path / "picture.jpg"
        path.write_bytes(picture())
        for secret, expected in ((SECRET, EngineError), ("not-the-right-one", AuthError)):
            uri = strange.websocket + (f"/?token={secret}" if where == "address" else "")
            token = secret if where == "token" else None
            with pytest.raises(expected) as caught:
                transform(uri, path, "x", token=token)
            assert secret not in str(caught.value)

    def test_a_given_one_is_not_printed_into_a_journal(self, programs: ProgramStarter) -> None:
        relay = programs("server.py", "--port=0", "--trust_local=False", "--verbose=3",
                         DREAMRELAY_RELAY_TOKEN=SECRET)  # fmt: skip
        relay.line("everybody needs the token that you gave")
        assert SECRET not in relay.output

    def test_a_made_one_is_printed_with_its_code(self, programs: ProgramStarter) -> None:
        relay = programs("server.py", "--port=0", "--trust_local=False", "--qr=on",
                         PYTHONIOENCODING="utf-8")  # fmt: skip
        link = relay.line(r"studio at (http://\S+/\?token=\S{20,})")[1]
        relay.line("everybody needs the token in that link")
        last = drawn(link).splitlines()[-1]
        until(lambda: last in relay.lines)
        assert drawn(link) in relay.output

    def test_a_quiet_relay_says_the_link_all_the_same(self, programs: ProgramStarter) -> None:
        relay = programs("server.py", "--port=0", "--trust_local=False", "--quiet")
        relay.line(r"^http://\S+/\?token=\S{20,}$")


class TestCode:
    def test_it_is_the_link(self) -> None:
        link = f"https://192.0.2.1:8765/?token={SECRET}"
        rows = [line for line in drawn(link, "ascii").splitlines()]
        matrix = segno.make(link, error="l", micro=False).matrix_iter(border=2)
        assert [[cell == "  " for cell in cells(row)] for row in rows] == [
            [bool(dark) for dark in row] for row in matrix
        ]

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "rubbish", None])
    def test_where_there_are_no_blocks(self, encoding: str | None) -> None:
        assert drawn("http://h/", encoding).isascii()

    def test_half_blocks_are_half_as_high(self) -> None:
        high, low = drawn("http://h/", "ascii"), drawn("http://h/")
        assert len(low.splitlines()) == (len(high.splitlines()) + 1) // 2


def cells(row: str) -> list[str]:
    return [row[at : at + 2] for at in range(0, len(row), 2)]
