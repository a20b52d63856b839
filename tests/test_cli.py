"""The command line: what is wrong is said in one line before anything starts."""

import gc
import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from dreamrelay import __version__, cli
from dreamrelay.config import (
    SECTIONS,
    BridgeSettings,
    DemoSettings,
    ProducerSettings,
    RelaySettings,
    Settings,
    WorkerSettings,
)
from dreamrelay.errors import AuthError, ConfigError, DeviceError
from tests.support import ROOT, RunningRelay

pytestmark = pytest.mark.usefixtures("restored_logging", "elsewhere")

COMMANDS = (
    "relay",
    "worker",
    "producer",
    "bridge",
    "demo",
    "list",
    "selftest",
    "bench",
    "capacity",
)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory without a dreamrelay.toml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DREAMRELAY_CONFIG", raising=False)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Settings, Any]]:
    """What would have been started; nothing is."""
    started: list[tuple[Settings, Any]] = []
    for name, (settings_type, _) in list(cli.COMMANDS.items()):

        def program(settings: Settings, *words: str, **extra: Any) -> int:
            started.append((settings, (words, extra)))
            return 0

        monkeypatch.setitem(cli.COMMANDS, name, (settings_type, program))
    return started


def run(name: str, *arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        cli.run(name, arguments)
    return ended.value.code


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return str(lines[0])


Started = list[tuple[Settings, Any]]


# -- help -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_names_every_flag(
    name: str, word: str, started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(name, word) == 0
    shown = capsys.readouterr().out
    settings_type = cli.COMMANDS[name][0]
    flags = {flag: field for flag, field in settings_type.aliases.items()}
    for field in settings_type.model_fields:
        spelled = [field, *(flag for flag, of in flags.items() if of == field)]
        assert any(f"  --{flag} " in shown for flag in spelled), field
    assert f"DREAMRELAY_{settings_type.section.upper()}_" in shown
    assert not started


def test_help_says_what_a_program_does_with_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("producer", "--help") == 0
    shown = capsys.readouterr().out
    assert "\n   or: python client.py IMAGE [PROMPT] [ws://HOST:PORT] [--binary]\n" in shown
    assert "a webcam or a test card.\n" in shown, "the whole sentence"


@pytest.mark.parametrize("name", ["relay", "worker", "producer", "bridge"])
def test_no_garbage_is_looked_for_while_a_program_is_made_and_it_is_again_after(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Making:
        enabled: ClassVar[list[bool]] = []

        def load(self) -> Callable[[Any], Any]:
            self.enabled.append(gc.isenabled())
            return self.make

        def make(self, settings: Any) -> Any:
            self.enabled.append(gc.isenabled())
            raise ConfigError("it cannot be made")

    monkeypatch.setitem(cli.PROGRAMS, name, Making())
    monkeypatch.setattr(gc, "freeze", lambda: None)  # what the tests made must go
    assert run(name) == 2
    assert Making.enabled == [False, False]
    assert gc.isenabled()


@pytest.mark.parametrize(("verbose", "said"), [(0, False), (1, True)])
def test_a_worker_without_a_window_says_why(
    verbose: int,
    said: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = SimpleNamespace(
        osc_port=None, replaced_by="", no_window="no display", run=lambda: None, stop=lambda: None
    )
    entry = SimpleNamespace(load=lambda: lambda settings: made)
    monkeypatch.setitem(cli.PROGRAMS, "worker", entry)
    monkeypatch.setattr(cli, "work_report", lambda _: "it ended")
    monkeypatch.setattr(gc, "freeze", lambda: None)  # what the tests made must go
    assert run("worker", f"--verbose={verbose}") == 0
    assert ("  no window: no display\n" in capsys.readouterr().out) == said


def test_help_and_refusals_import_nothing_heavy() -> None:
    code = """
import sys
from dreamrelay import cli
for name in cli.COMMANDS:
    for words in (["--help"], ["--nonsense=1"], ["--verbose=9"]):
        try:
            cli.run(name, words)
        except SystemExit as ended:
            print(ended.code, end=" ", file=sys.stderr)
heavy = {"torch", "PySide6", "diffusers", "numpy", "cv2", "uvicorn", "PIL"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    codes = [word for word in done.stderr.split() if word in ("0", "1", "2")]
    assert codes == ["0", "2", "2"] * len(COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [([], 0), (["--help"], 0), (["help"], 0), (["-h"], 0), (["wroker"], 2), (["--port=1"], 2)],
)
def test_without_a_command_they_are_listed(
    arguments: list[str],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["dreamrelay", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    out, err = capsys.readouterr()
    assert all(f"  {name} " in out for name in COMMANDS)
    assert ("did you mean worker?" in err) == (arguments == ["wroker"])


def test_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["dreamrelay", "--version"])
    cli.main()
    assert capsys.readouterr().out == f"dreamrelay {__version__}\n"


@pytest.mark.parametrize(
    "program", [["-m", "dreamrelay"], ["-m", "dreamrelay", "relay", "--help"], ["server.py", "-h"]]
)
def test_it_runs_as_a_module_and_as_a_script(program: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: " in done.stdout


# -- flags ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words", "field", "value"),
    [
        ("relay", "--port=9000", "port", 9000),
        ("relay", "--port 9000", "port", 9000),
        ("relay", "-p 9000", "port", 9000),
        ("relay", "--host 0.0.0.0", "host", "0.0.0.0"),
        ("worker", "--websocket-uri=ws://x", "websocket_uri", "ws://x"),
        ("worker", "--websocket_uri ws://x", "websocket_uri", "ws://x"),
        ("worker", "--model stabilityai/sd-turbo", "model_id_or_path", "stabilityai/sd-turbo"),
        ("worker", "--model_id_or_path=x", "model_id_or_path", "x"),
        ("worker", "--lora a:0.5,b", "lora_dict", {"a": 0.5, "b": 1.0}),
        ("worker", "--lora_dict={'C:/a.b':0.5}", "lora_dict", {"C:/a.b": 0.5}),
        ("worker", "--prompt=123", "prompt", "123"),
        ("worker", "--prompt=[cat]", "prompt", "[cat]"),
        ("worker", "--use_denoising_batch=False", "use_denoising_batch", False),
        ("worker", "--nouse_denoising_batch", "use_denoising_batch", False),
        ("worker", "--use_denoising_batch", "use_denoising_batch", True),
        ("worker", "--do_add_noise", "do_add_noise", True),
        ("worker", "--nodo_add_noise", "do_add_noise", False),
        ("worker", "--no-do-add-noise", "do_add_noise", False),
        ("worker", "--similar-image-filter=True", "enable_similar_image_filter", True),
        ("worker", "--t_index_list=[32,45]", "t_index_list", [32, 45]),
        ("worker", "--t_index_list 32,45", "t_index_list", [32, 45]),
        ("worker", "--osc-port=none", "osc_port", None),
        ("worker", "--osc_port 7001", "osc_port", 7001),
        ("worker", "--websocket_port=0", "websocket_port", 0),
        ("worker", "--sink=null://,spout://A B", "sink", ["null://", "spout://A B"]),
        ("worker", "--device cpu", "device", "cpu"),
        ("worker", "--cfg_type=none", "cfg_type", "none"),
        ("worker", "--delta -0", "delta", 0.0),
        ("worker", "--verbose 2", "verbose", 2),
        ("worker", "--quiet", "verbose", 0),
        ("producer", "--mode=prompt-interactive", "mode", "prompt-interactive"),
        ("producer", "--region=[100,100,512,512]", "region", [100, 100, 512, 512]),
        ("producer", "--region 100,100,512,512", "region", [100, 100, 512, 512]),
        ("producer", "--region=[-1920,0,512,512]", "region", [-1920, 0, 512, 512]),
        ("producer", "--format=JPEG", "format", "jpeg"),
        ("producer", "--format PNG", "format", "png"),
        ("producer", "--format=jpg", "format", "jpeg"),
        ("producer", "--loop=False", "loop", False),
        ("producer", "--noloop", "loop", False),
        ("producer", "--loop", "loop", True),
        ("producer", "--fps=29.97", "fps", 29.97),
        ("producer", "--duration=0", "duration", None),
        ("producer", "--duration none", "duration", None),
        ("producer", "--duration=2.5", "duration", 2.5),
        ("producer", "--camera_index 1", "camera_index", 1),
        ("producer", "--monitor_index=1", "monitor_index", 1),
        ("producer", "--prompt help", "prompt", "help"),
        ("producer", "--stream=7", "stream", "7"),
        ("bridge", "--from=spout://a", "source", "spout://a"),
        ("bridge", "--to spout://a", "sink", "spout://a"),
        ("bridge", "--spout-in=SourceImage", "spout_in", "SourceImage"),
        ("worker", "--sink=null:// --sink=a.png", "sink", ["null://", "a.png"]),
        ("worker", "--sink=null:// --sink a.png,b.png", "sink", ["null://", "a.png", "b.png"]),
        ("worker", "--lora=a:0.5 --lora b:0.7", "lora_dict", {"a": 0.5, "b": 0.7}),
        ("worker", "--osc-out=a:1 --osc_out=b:2", "osc_out", ["a:1", "b:2"]),
        ("worker", "--delta=0.5 --delta=0.7", "delta", 0.7),
        ("demo", "--duration=20", "duration", 20.0),
        ("demo", "--browser off", "browser", "off"),
    ],
)
def test_a_flag_in_each_spelling(
    name: str, words: str, field: str, value: object, started: Started
) -> None:
    arguments = words.split() if " --" in words else [words]
    if "=" not in words.split()[0]:
        arguments = words.split(" ", 1)
    assert run(name, *arguments) == 0
    ((settings, _),) = started
    assert getattr(settings, field) == value


@pytest.mark.parametrize(
    "text", ["a fox, red", "{x}", "(a)", "1e5", "True", "don't", "a=b", "-x y"]
)
def test_a_prompt_stays_as_it_was_typed(text: str, started: Started) -> None:
    assert run("worker", f"--prompt={text}") == 0
    ((settings, _),) = started
    assert isinstance(settings, WorkerSettings)
    assert settings.prompt == text


@pytest.mark.parametrize(
    ("name", "words", "text"),
    [
        ("worker", ["--modle=x"], "did you mean model"),
        ("worker", ["--osc-prot=7001"], "did you mean osc_port?"),
        ("relay", ["--lcm-lora-id=a/b"], "python main.py --lora=ID"),
        ("relay", ["--engine-dir=engines"], "DREAMRELAY_CACHE"),
        ("relay", ["--no-taesd"], "python main.py has it"),
        ("relay", ["--base-model=a/b"], "python main.py has it"),
        ("relay", ["--safety-checker"], "nothing here looks at what a picture shows"),
        ("worker", ["--mode=human"], "is a parameter here"),
        ("worker", ["--reload"], "stop the program and start it again"),
        ("worker", ["--debug"], "--verbose=3"),
        ("worker", ["--max-queue-size=4"], "python server.py has it"),
        ("worker", ["--ssl-keyfile=key.pem"], "python server.py has it"),
        ("producer", ["--websocket_url=ws://x"], "did you mean websocket_uri?"),
        ("producer", ["--xyzzy=1"], "--xyzzy: no such setting"),
        ("bridge", ["--form=x"], "did you mean from?"),
        ("producer", ["--nofps"], "--nofps: no such setting"),
        ("producer", ["--nonsense", "--noloop"], "--nonsense: no such setting"),
        ("relay", ["--port=http"], "--port: "),
        ("relay", ["--port=99999"], "--port: "),
        ("relay", ["--port"], "--port: "),
        ("relay", ["9000"], "expected flags like --name=value, got '9000'"),
        ("worker", ["--cfg_type=half"], "--cfg_type: "),
        ("worker", ["--width=10"], "--width: "),
        ("worker", ["--lora=a:much"], "--lora: "),
        ("worker", ["--lora"], "--lora: expected a value behind it"),
        ("worker", ["--spout-in", "--spout-out=B"], "--spout-in: expected a value behind it"),
        ("worker", ["--sink=null://", "--sink"], "--sink: expected a value behind it"),
        ("bridge", ["--from"], "--from: expected a value behind it"),
        ("worker", ["--t_index_list=[1,"], "not a list"),
        ("worker", ["--use_denoising_batch=perhaps"], "--use_denoising_batch: "),
        ("worker", ["--stream=a b"], "expected a stream's name"),
        ("producer", ["--mode=webcm"], "--mode: "),
        ("producer", ["--fps=0"], "--fps: "),
        ("producer", ["--fps=nan"], "--fps: "),
        ("producer", ["--duration=-1"], "--duration: "),
        ("producer", ["--duration=soon"], "--duration: "),
        ("producer", ["--region=[1,2,3]"], "expected [x, y, width, height]"),
        ("producer", ["--region=[0,0,0,9]"], "at least 1x1"),
        ("producer", ["--format=TIFF"], "--format: "),
        ("demo", ["--verbose=7"], "--verbose: "),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2_before_anything_starts(
    name: str, words: list[str], text: str, started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(name, *words) == 2
    line = error_of(capsys)
    assert line.startswith("dreamrelay: ")
    assert text in line
    assert not started


def test_an_error_of_the_program_is_one_line_with_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def program(_: Settings) -> int:
        raise DeviceError("no such camera")

    monkeypatch.setitem(cli.COMMANDS, "bridge", (BridgeSettings, program))
    assert run("bridge") == 1
    assert error_of(capsys) == "dreamrelay: no such camera"


def test_words_are_for_the_producer(started: Started) -> None:
    assert run("producer", "a.png", "a prompt", "--binary") == 0
    ((_, (words, extra)),) = started
    assert words == ("a.png", "a prompt")
    assert extra == {"binary": True}


# -- file and environment -------------------------------------------------------------------------


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("[relay]\nport = 1\nhost = 'file'\nstall_seconds = 3\n[worker]\nmodel = 'm'\n")
    environ = {"DREAMRELAY_RELAY_PORT": "2", "DREAMRELAY_RELAY_HOST": "environ"}
    settings = RelaySettings.load({"port": "3"}, environ=environ, path=file)
    assert (settings.port, settings.host, settings.stall_seconds) == (3, "environ", 3.0)
    assert WorkerSettings.load({}, environ={}, path=file).model_id_or_path == "m"


def test_a_file_in_the_working_directory_is_read(tmp_path: Path, started: Started) -> None:
    Path("dreamrelay.toml").write_text("[producer]\nfps = 24\nregion = [1, 2, 3, 4]\n")
    assert run("producer") == 0
    ((settings, _),) = started
    assert isinstance(settings, ProducerSettings)
    assert (settings.fps, settings.region) == (24.0, [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("[relay]\nprot = 1", "[relay] prot: no such setting (did you mean port?)"),
        ("[realy]\nport = 1", "did you mean [relay]?"),
        ("[relay]\nport = 'x'", "[relay] port: "),
        ("relay = 7", "expected a table [relay]"),
        ("[relay", "cannot be read"),
    ],
)
def test_a_wrong_file_is_named(
    tmp_path: Path, content: str, text: str, capsys: pytest.CaptureFixture[str], started: Started
) -> None:
    Path("dreamrelay.toml").write_text(content)
    assert run("relay") == 2
    line = error_of(capsys)
    assert "dreamrelay.toml" in line
    assert text in line


def test_a_file_that_is_asked_for_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"nowhere.toml: cannot be read"):
        RelaySettings.load({}, environ={"DREAMRELAY_CONFIG": "nowhere.toml"})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ({"DREAMRELAY_WORKER_WIDHT": "512"}, "DREAMRELAY_WORKER_WIDHT: no such setting"),
        ({"DREAMRELAY_WORKER_WIDTH": "wide"}, "DREAMRELAY_WORKER_WIDTH: "),
    ],
)
def test_a_wrong_variable_is_named(variable: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        WorkerSettings.load({}, environ=variable)


def test_variables_of_the_seeds_words_work_too() -> None:
    assert WorkerSettings.load({}, environ={"DREAMRELAY_WORKER_MODEL": "x"}).model_id_or_path == "x"


@pytest.mark.parametrize("settings_type", SECTIONS)
def test_every_default_is_legal_and_every_setting_explained(settings_type: type[Settings]) -> None:
    defaults = settings_type.load({}, environ={})
    again = settings_type.model_validate(json.loads(defaults.model_dump_json()))
    assert again == defaults
    for name, field in settings_type.model_fields.items():
        assert field.description, name
        assert str(field.description).endswith("."), name
    with pytest.raises(ValidationError):
        defaults.verbose = 2  # type: ignore[attr-defined]


def test_the_example_file_holds_every_setting_with_its_default() -> None:
    path = ROOT / "dreamrelay.example.toml"
    content = tomllib.loads(path.read_text())
    assert set(content) <= {settings_type.section for settings_type in SECTIONS}
    for settings_type in SECTIONS:
        assert settings_type.load({}, environ={}, path=path) == settings_type.load({}, environ={})


# -- signals and the line that is kept up to date -------------------------------------------------


SIGNALS = """
import signal
from dreamrelay import cli

calls = []
before = signal.getsignal(signal.SIGINT)
with cli.stop_on_signal() as tell:
    signal.raise_signal(signal.SIGINT)
    assert calls == []
    tell(lambda: calls.append("late"))
    assert calls == ["late"]
with cli.stop_on_signal() as tell:
    tell(lambda: calls.append("stop"))
    signal.raise_signal(signal.SIGTERM)
assert calls == ["late", "stop"]
assert signal.getsignal(signal.SIGINT) is before
"""


def test_a_signal_calls_what_it_was_told_and_one_that_came_before_is_not_forgotten() -> None:
    # In a process of its own: here, libraries of other tests have a say about signals as well.
    subprocess.run([sys.executable, "-c", SIGNALS], check=True, cwd=ROOT, timeout=60)


SECOND = """
import signal
from dreamrelay import cli

with cli.stop_on_signal():
    signal.raise_signal(signal.SIGINT)
    print("the first", flush=True)
    signal.raise_signal(signal.SIGINT)
    print("the second", flush=True)
"""


def test_a_second_signal_ends_the_process_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SECOND], cwd=ROOT, timeout=60, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert done.stdout == "the first\n"


def test_the_last_report_is_said_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with cli.status_line(lambda: "so many", 1):
        pass
    with cli.status_line(lambda: "never", 0):
        pass
    assert capsys.readouterr().out == "so many\n"


def test_a_failure_speaks_for_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DeviceError), cli.status_line(lambda: "sent 0", 1):
        raise DeviceError("no such camera")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("quiet", [False, True])
def test_a_producer_says_what_it_did_or_nothing(
    relay: RunningRelay, capsys: pytest.CaptureFixture[str], quiet: bool
) -> None:
    flags = ["--mode=pattern", f"--websocket_uri={relay.websocket}", "--duration=0.2"]
    assert run("producer", *flags, *["--quiet"] * quiet) == 0
    out, err = capsys.readouterr()
    assert err == ""
    if quiet:
        assert out == ""
    else:
        first, last = out.splitlines()
        assert first.endswith(f"producer: pattern://bars to {relay.websocket}")
        assert re.fullmatch(
            r"sent (\d+), acked \1, dropped 0, [\d.]+ fps, age at the ack \d+ ms", last
        )


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("producer", ["--source=http://me:s3cret@127.0.0.1:9/live?pwd=s3cret", "--nowait"]),
        ("bridge", ["--from=http://me:s3cret@127.0.0.1:9/live?pwd=s3cret", "--nowait"]),
    ],
)
def test_no_password_is_printed(
    name: str, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run(name, *flags, "--websocket_uri=ws://127.0.0.1:9/?token=s3cret")
    out, err = capsys.readouterr()
    assert f"{name}" in out
    assert "http://me:***@127.0.0.1:9/live?***" in err
    assert "s3cret" not in out + err


def test_a_terminal_gets_one_line_that_is_written_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "REPORT_SECONDS", 0.01)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    asked: list[int] = []
    three = threading.Event()

    def report() -> str:
        asked.append(1)
        if len(asked) == 3:
            three.set()
        return f"report {len(asked)}"

    with cli.status_line(report, 1):
        assert three.wait(30)
    out = capsys.readouterr().out
    assert out.startswith("\r\x1b[Kreport 1\r\x1b[Kreport 2")
    assert out.count("\n") == 1


def test_a_name_in_any_alphabet_can_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """As into a pipe on Windows."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252"))
    assert run("producer", "--source=video://日本.mp4", "--websocket_uri=ws://127.0.0.1:9") == 1
    assert rb"producer: video://\u65e5\u672c.mp4 to " in written.getvalue()


def test_whoever_reads_our_lines_may_go(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        cli.say("first")
        os.close(reader)
        with cli.status_line(lambda: "so many", 1):
            cli.say("second")
        cli.say("third")


def test_a_long_report_is_cut_and_a_warning_begins_a_line_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "REPORT_SECONDS", 0.01)
    monkeypatch.setenv("COLUMNS", "40")
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    asked = threading.Event()

    def report() -> str:
        asked.set()
        return "nothing comes" * 10

    cli.set_up_logging(1)
    try:
        with cli.status_line(report, 1):
            assert asked.wait(30)
        logging.getLogger("dreamrelay").warning("no relay")
    finally:
        logging.basicConfig(force=True)
    out, err = capsys.readouterr()
    first = out.split("\r\x1b[K")[1]
    assert first == ("nothing comes" * 10)[:39]
    assert out.endswith(f"{'nothing comes' * 10}\n"), "the last one is said in full"
    assert err == "\r\x1b[KWARNING no relay\n"


def test_demo_settings_know_no_end() -> None:
    assert DemoSettings.load({"duration": ""}, environ={}).duration is None
    assert DemoSettings.load({"duration": "0.0"}, environ={}).duration is None


class TestWhatPeersSay:
    """Texts of peers are on a line of ours, as what they are."""

    NASTY = "\x1b[2J\x1b]0;owned\x07\nERROR all is lost\r\u202egnihton\x9b1A"

    def test_in_the_log(self, capsys: pytest.CaptureFixture[str]) -> None:
        cli.set_up_logging(2)
        logging.getLogger("dreamrelay.worker").warning("the relay says: %s", self.NASTY)
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert "\\x1b[2J" in err
        assert err.rstrip("\n").isprintable()

    def test_a_traceback_keeps_its_lines(self, capsys: pytest.CaptureFixture[str]) -> None:
        cli.set_up_logging(2)
        try:
            raise ValueError("of ours")
        except ValueError:
            logging.getLogger("dreamrelay.worker").exception("oh\n")
        assert "ERROR oh\nTraceback" in capsys.readouterr().err

    def test_in_an_error(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def program(_: Settings) -> int:
            raise AuthError(self.NASTY)

        monkeypatch.setitem(cli.COMMANDS, "relay", (RelaySettings, program))
        assert run("relay") == 1
        assert error_of(capsys).isprintable()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ws://a:1/?token=secret", "ws://a:1/?***"),
        ("wss://a/x?b=1&token=secret&c=2", "wss://a/x?***"),
        ("rtsp://me:secret@camera/1?tcp=1", "rtsp://me:***@camera/1?***"),
        ("ws://localhost:8765", "ws://localhost:8765"),
        ("pattern://bars", "pattern://bars"),
    ],
)
def test_an_address_is_printed_without_its_secrets(address: str, said: str) -> None:
    assert cli.shown(address) == said
