"""Settings: where they come from, which goes first, and what is said of a wrong one."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamrelay.config import (
    SECTIONS,
    BridgeSettings,
    DemoSettings,
    ProducerSettings,
    RelaySettings,
    Settings,
    WorkerSettings,
)
from dreamrelay.errors import ConfigError
from tests.support import ROOT

EXAMPLE = ROOT / "dreamrelay.example.toml"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a file where the programs look for one."""
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "dreamrelay.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def load(settings: type[Settings], **flags: Any) -> Any:
    return settings.load(flags, environ={})


class TestPrecedence:
    def test_file_then_environment_then_flags(self, write: Any) -> None:
        assert RelaySettings.load(environ={}).port == 8765
        write("[relay]\nport = 1\nhost = '0.0.0.0'\nmax_connections = 3\n")
        environ = {"DREAMRELAY_RELAY_PORT": "2", "DREAMRELAY_RELAY_HOST": "::1"}
        assert RelaySettings.load(environ={}).port == 1
        assert RelaySettings.load(environ=environ).port == 2
        loaded = RelaySettings.load({"port": 3}, environ=environ)
        assert (loaded.port, loaded.host, loaded.max_connections) == (3, "::1", 3)

    def test_which_file(self, write: Any, tmp_path: Path) -> None:
        write("[relay]\nport = 1\n")
        other = write("[relay]\nport = 2\n", "other.toml")
        third = write("[relay]\nport = 3\n", "third.toml")
        environ = {"DREAMRELAY_CONFIG": str(other)}
        assert RelaySettings.load(environ={}).port == 1
        assert RelaySettings.load(environ=environ).port == 2
        assert RelaySettings.load(environ=environ, path=third).port == 3

    def test_other_sections_and_variables_do_not_matter(self, write: Any) -> None:
        write("[relay]\nport = 1\n[worker]\nprompt = 'x'\n")
        environ = {"DREAMRELAY_WORKER_STREAM": "w", "PORT": "5", "DREAMRELAYPORT": "6"}
        assert RelaySettings.load(environ=environ).port == 1
        assert WorkerSettings.load(environ=environ).stream == ["w"]


class TestOrigins:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("[relay]\nport = 'x'\n", "dreamrelay.toml: [relay] port: "),
            ("[relay]\nprot = 1\n", "dreamrelay.toml: [relay] prot: no such setting (did you mean"),
            (
                "[rely]\nport = 1\n",
                "dreamrelay.toml: [rely]: no such section (did you mean",
            ),
            ("port = 1\n", "dreamrelay.toml: [port]: no such section"),
            ("relay = 1\n", "dreamrelay.toml: expected a table [relay]"),
            ("[relay\n", "dreamrelay.toml: cannot be read: "),
        ],
    )
    def test_the_file(self, write: Any, text: str, expected: str) -> None:
        write(text)
        with pytest.raises(ConfigError) as caught:
            RelaySettings.load(environ={})
        assert str(caught.value).startswith(expected)
        assert "\n" not in str(caught.value)

    def test_a_file_that_cannot_be_read(self, write: Any, tmp_path: Path) -> None:
        (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
        for name in ("bad.toml", "missing.toml", "."):
            with pytest.raises(ConfigError, match="cannot be read"):
                RelaySettings.load(environ={"DREAMRELAY_CONFIG": str(tmp_path / name)})

    def test_the_environment(self) -> None:
        for variable in ("DREAMRELAY_RELAY_PORT", "DREAMRELAY_RELAY_PRT"):
            with pytest.raises(ConfigError) as caught:
                RelaySettings.load(environ={variable: "many"})
            assert str(caught.value).startswith(variable)

    def test_a_flag(self) -> None:
        for flag in ("port", "prt"):
            with pytest.raises(ConfigError) as caught:
                RelaySettings.load({flag: "many"}, environ={"DREAMRELAY_RELAY_PORT": "x"})
            assert str(caught.value).startswith(f"--{flag}: ")

    def test_says_what_came_but_not_all_of_it(self) -> None:
        with pytest.raises(ConfigError) as caught:
            load(RelaySettings, port="x" * 5000)
        assert "got 'xxx" in str(caught.value)
        assert len(str(caught.value)) < 300


class TestSpellings:
    @pytest.mark.parametrize(
        ("settings", "flags", "name", "value"),
        [
            (RelaySettings, {"host": "0.0.0.0"}, "host", "0.0.0.0"),
            (RelaySettings, {"port": "9000"}, "port", 9000),
            (RelaySettings, {"max-message-mb": 8}, "max_message_mb", 8.0),
            (WorkerSettings, {"websocket-port": 9000}, "websocket_port", 9000),
            (WorkerSettings, {"model": "a/b"}, "model_id_or_path", "a/b"),
            (WorkerSettings, {"model_id_or_path": "a/b"}, "model_id_or_path", "a/b"),
            (WorkerSettings, {"lora_dict": "{'a.pt': 0.5}"}, "lora_dict", {"a.pt": 0.5}),
            (WorkerSettings, {"lora_dict": {"a": 1}}, "lora_dict", {"a": 1.0}),
            (WorkerSettings, {"lora": "a:0.5,b"}, "lora_dict", {"a": 0.5, "b": 1.0}),
            (WorkerSettings, {"lora": "C:\\l\\a.pt:0.5"}, "lora_dict", {"C:\\l\\a.pt": 0.5}),
            (WorkerSettings, {"lora": "C:\\l\\a.pt"}, "lora_dict", {"C:\\l\\a.pt": 1.0}),
            (WorkerSettings, {"controlnet": "depth,canny=a"}, "controlnet", ["depth", "canny=a"]),
            (WorkerSettings, {"controlnets": ["depth"]}, "controlnet", ["depth"]),
            (WorkerSettings, {"ip_adapter": "none"}, "ip_adapter", None),
            (WorkerSettings, {"t_index_list": "[32, 45]"}, "t_index_list", [32, 45]),
            (WorkerSettings, {"t_index_list": "32,45"}, "t_index_list", [32, 45]),
            (WorkerSettings, {"t_index_list": (32, 45)}, "t_index_list", [32, 45]),
            (WorkerSettings, {"cfg_type": "none"}, "cfg_type", "none"),
            (WorkerSettings, {"do_add_noise": "True"}, "do_add_noise", True),
            (WorkerSettings, {"use_denoising_batch": False}, "use_denoising_batch", False),
            (WorkerSettings, {"offline": "true"}, "offline", True),
            (WorkerSettings, {"osc_port": ""}, "osc_port", None),
            (WorkerSettings, {"osc_port": "none"}, "osc_port", None),
            (WorkerSettings, {"width": ""}, "width", None),
            (WorkerSettings, {"prompt": 42}, "prompt", "42"),
            (WorkerSettings, {"stream": 7}, "stream", ["7"]),
            (WorkerSettings, {"stream": "stage, door,7"}, "stream", ["stage", "door", "7"]),
            (WorkerSettings, {"sink": "spout://My Show, ndi://x"}, "sink", ["spout://My Show", "ndi://x"]),
            (WorkerSettings, {"sink": "null://"}, "sink", ["null://"]),
            (ProducerSettings, {"region": "[100,100,512,512]"}, "region", [100, 100, 512, 512]),
            (ProducerSettings, {"region": (0, 0, 8, 8)}, "region", [0, 0, 8, 8]),
            (ProducerSettings, {"region": "0 0 8 8"}, "region", [0, 0, 8, 8]),
            (ProducerSettings, {"format": "JPEG"}, "format", "jpeg"),
            (ProducerSettings, {"format": "jpg"}, "format", "jpeg"),
            (ProducerSettings, {"format": "PNG"}, "format", "png"),
            (ProducerSettings, {"loop": "False"}, "loop", False),
            (ProducerSettings, {"duration": 0}, "duration", None),
            (ProducerSettings, {"duration": "none"}, "duration", None),
            (ProducerSettings, {"duration": "2.5"}, "duration", 2.5),
            (
                RelaySettings,
                {"allowed_origins": "https://A, http://b:1/"},
                "allowed_origins",
                ["https://a", "http://b:1"],
            ),
            (BridgeSettings, {"from": "pattern://bars"}, "source", "pattern://bars"),
            (DemoSettings, {"duration": 20}, "duration", 20.0),
        ],
    )  # fmt: skip
    def test_as_people_type_them(
        self, settings: type[Settings], flags: dict[str, Any], name: str, value: Any
    ) -> None:
        assert getattr(settings.load(flags, environ={}), name) == value

    @pytest.mark.parametrize(
        ("settings", "flags"),
        [
            (RelaySettings, {"port": 65536}),
            (RelaySettings, {"port": -1}),
            (RelaySettings, {"port": 1.5}),
            (RelaySettings, {"port": True}),
            (RelaySettings, {"host": True}),
            (RelaySettings, {"greeting": "never"}),
            (RelaySettings, {"max_message_mb": "nan"}),
            (RelaySettings, {"max_message_mb": float("inf")}),
            (RelaySettings, {"stall_seconds": 0}),
            (RelaySettings, {"max_connections": 0}),
            (RelaySettings, {"allowed_origins": "['a'"}),
            (WorkerSettings, {"stream": "a b"}),
            (WorkerSettings, {"stream": "a,,b"}),
            (WorkerSettings, {"stream": "a,b,a"}),
            (WorkerSettings, {"stream": []}),
            (WorkerSettings, {"batch": 0}),
            (WorkerSettings, {"seed": -1}),
            (WorkerSettings, {"lora_dict": "a:much"}),
            (WorkerSettings, {"lora_dict": "{1:"}),
            (WorkerSettings, {"t_index_list": "a,b"}),
            (WorkerSettings, {"guidance_scale": "high"}),
            (ProducerSettings, {"mode": "telepathy"}),
            (ProducerSettings, {"region": "[1,2,3]"}),
            (ProducerSettings, {"region": "[0,0,0,5]"}),
            (ProducerSettings, {"fps": 0}),
            (ProducerSettings, {"fps": "nan"}),
            (ProducerSettings, {"duration": -1}),
            (ProducerSettings, {"format": "bmp"}),
        ],
    )
    def test_what_cannot_be(self, settings: type[Settings], flags: dict[str, Any]) -> None:
        with pytest.raises(ConfigError) as caught:
            settings.load(flags, environ={})
        assert str(caught.value).startswith(f"--{next(iter(flags))}: ")
        assert "\n" not in str(caught.value)

    @given(
        st.sampled_from(SECTIONS).flatmap(
            lambda s: st.tuples(st.just(s), st.sampled_from(list(s.model_fields)))
        ),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
        | st.lists(st.integers(), max_size=5) | st.dictionaries(st.text(max_size=3), st.floats()),
    )  # fmt: skip
    def test_any_value_is_taken_or_refused_in_one_line(
        self, which: tuple[type[Settings], str], value: Any
    ) -> None:
        settings, name = which
        text = ""
        try:
            settings.load({name: value}, environ={})
        except ConfigError as error:
            text = str(error)
        assert not text or text.startswith(f"--{name}: ")
        assert "\n" not in text


class TestExample:
    def test_it_parses_to_the_defaults(self) -> None:
        for settings in SECTIONS:
            loaded = settings.load(environ={}, path=EXAMPLE)
            assert loaded == settings(), settings.section

    def test_it_names_every_setting_and_says_what_it_is(self) -> None:
        text = EXAMPLE.read_text(encoding="utf-8")
        table = tomllib.loads(text)
        assert set(table) == {settings.section for settings in SECTIONS}
        for settings in SECTIONS:
            assert list(table[settings.section]) == list(settings.model_fields)
            part = text.partition(f"\n[{settings.section}]\n")[2].partition("\n[")[0]
            for name, field in settings.model_fields.items():
                assert field.description
                line = re.search(rf"^{name} = .*?  # (.*)$", part, re.MULTILINE)
                assert line, f"[{settings.section}] {name}"
                assert line.group(1) == field.description, f"[{settings.section}] {name}"


@pytest.mark.parametrize(
    ("letter", "value", "name"),
    [
        ("m", "some/model", "model_id_or_path"),
        ("p", "a cat", "prompt"),
        ("n", "blurry", "negative_prompt"),
        ("f", 2, "frame_buffer_size"),
        ("a", "none", "acceleration"),
        ("c", "full", "cfg_type"),
        ("g", 1.5, "guidance_scale"),
    ],
)
def test_the_seeds_letters_mean_what_they_meant(letter: str, value: Any, name: str) -> None:
    settings = WorkerSettings.load({letter: value}, environ={})
    assert getattr(settings, name) == value
