"""The tokens: where they come from, how they are compared, when one is made up."""

import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from dreamrelay.config import RelaySettings
from dreamrelay.errors import ConfigError
from dreamrelay.relay.app import Relay
from dreamrelay.relay.auth import Grant, Keyring, make_token, read_tokens, write_private

SECRET = "a-secret-of-the-tests"


def test_all_tokens_are_compared_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """In constant time each, and as many of them each time."""
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr("dreamrelay.relay.auth.hmac.compare_digest", compare)
    tokens = [make_token() for _ in range(5)]
    keys = Keyring((token, Grant.of(["view"], name=token)) for token in tokens)
    for shown in (*tokens, "", "x", "x" * 1000, "ä\ud800"):
        compared.clear()
        found = keys.find(shown)
        assert (found.name if found else None) == (shown if shown in tokens else None)
        assert compared == [(32, 32)] * 5  # digests: nothing tells how long the right one is


class TestTokensFile:
    def write(self, folder: Path, text: str) -> Path:
        path = folder / "tokens.toml"
        write_private(path, text.encode())
        return path

    def test_it_says_what_each_may_and_where(self, tmp_path: Path) -> None:
        path = self.write(
            tmp_path,
            '[stage]\ntoken="stage-token-0123456789"\nmay=["publish","view"]\nstreams=["a"]\n'
            '[desk]\ntoken="desk-token-0123456789"\nmay=["control"]\n',
        )
        (stage, first), (_, second) = read_tokens(path)
        assert stage == "stage-token-0123456789"
        assert first == Grant(frozenset({"publish", "view"}), frozenset({"a"}), "stage")
        assert second == Grant(frozenset({"control", "view"}), None, "desk")

    @pytest.mark.parametrize(
        "text",
        [
            "[a",
            "a = 1",
            '[a]\nmay=["view"]',
            '[a]\ntoken="short"\nmay=["view"]',
            '[a]\ntoken="with a space in it!!"\nmay=["view"]',
            '[a]\ntoken="0123456789abcdef"\nmay=["fly"]',
            '[a]\ntoken="0123456789abcdef"\nmay=[]',
            '[a]\ntoken="0123456789abcdef"\nmay="view"',
            '[a]\ntoken="0123456789abcdef"\nmay=["view"]\nstreams=[]',
            '[a]\ntoken="0123456789abcdef"\nmay=["view"]\nstreams=[1]',
            '[a]\ntoken="0123456789abcdef"\nmay=["view"]\nstraems=["a"]',
        ],
    )
    def test_what_is_wrong_is_said_without_the_secret(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(ConfigError) as caught:
            read_tokens(self.write(tmp_path, text))
        assert "tokens.toml" in str(caught.value)
        assert "0123456789abcdef" not in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be read"):
            Relay(RelaySettings(tokens_file=str(tmp_path / "none.toml")))

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes of files")
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
    def test_one_that_others_may_read_is_refused(self, tmp_path: Path, mode: int) -> None:
        path = self.write(tmp_path, "")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        os.chmod(path, mode)
        with pytest.raises(ConfigError, match="chmod 600"):
            read_tokens(path)

    def test_one_token_for_two_permissions_is_a_mistake(self) -> None:
        with pytest.raises(ConfigError, match="each token once"):
            Relay(RelaySettings(view_token=SECRET, work_token=SECRET))

    @pytest.mark.parametrize("token", ["short", "with space 0123456789", "ä" * 20, "x" * 600])
    def test_a_token_that_cannot_be_one(self, token: str) -> None:
        with pytest.raises(ConfigError) as caught:
            RelaySettings.load({"view_token": token}, environ={})
        assert "16-512" in str(caught.value)
        assert token not in str(caught.value)

    def test_from_the_environment(self) -> None:
        environ = {"DREAMRELAY_RELAY_WORK_TOKEN": SECRET}
        assert RelaySettings.load({}, environ=environ).work_token == SECRET


class TestMadeUp:
    @pytest.mark.parametrize(
        "settings",
        [{"host": "0.0.0.0"}, {"behind_proxy": True}, {"trust_local": False}],
        ids=lambda s: next(iter(s)),
    )
    def test_a_token_is_made_where_strangers_come_and_none_is_given(
        self, settings: dict[str, Any]
    ) -> None:
        relay = Relay(RelaySettings(port=0, **settings))
        made = relay.opening.made_token
        assert made is not None
        assert relay.opening.link(8765).endswith(f":8765/?token={made}")
        assert relay.opening.gate.keys.find(made) is not None
        assert Relay(RelaySettings(port=0, **settings)).opening.made_token != made

    def test_none_is_made_where_one_is_given(self) -> None:
        relay = Relay(RelaySettings(host="0.0.0.0", view_token=SECRET))
        assert relay.opening.made_token is None
        assert SECRET not in relay.opening.link(1)

    def test_by_default_the_relay_is_for_this_machine(self) -> None:
        opening = Relay(RelaySettings(port=0)).opening
        assert opening.link(8765) == "http://127.0.0.1:8765/"
        assert opening.made_token is None
        assert len(opening.gate.keys) == 0
