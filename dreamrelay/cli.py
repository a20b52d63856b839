"""The command line: four scripts and ``dreamrelay COMMAND``.

python-fire reads the arguments; the settings check them before anything starts, because fire itself
would complain of an unknown flag only after the program has ended. The only place that prints.
"""

import asyncio
import difflib
import gc
import io
import logging
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin
from urllib.parse import urlencode

import fire
from fire.core import FireExit
from fire.decorators import SetParseFn

from dreamrelay import __version__
from dreamrelay.config import (
    LOG_LEVELS,
    SECTIONS,
    BenchSettings,
    BridgeSettings,
    DemoSettings,
    ListSettings,
    ProducerSettings,
    RelaySettings,
    SelftestSettings,
    Settings,
    Show,
    WorkerSettings,
)
from dreamrelay.errors import ConfigError, DreamRelayError
from dreamrelay.importer import Entry

REPORT_SECONDS = 0.5
PLAIN_REPORT_SECONDS = 10.0
PROGRAMS = {
    "relay": Entry("dreamrelay.relay.app:Relay", "the relay", "relay"),
    "qr": Entry("dreamrelay.relay.qr:drawn", "the QR code", "relay"),
    "worker": Entry("dreamrelay.worker:Worker", "the worker", "worker"),
    "producer": Entry("dreamrelay.producer:Producer", "the producer", "producer"),
    "bridge": Entry("dreamrelay.bridge:Bridge", "the bridge", "producer"),
    "demo": Entry("dreamrelay.demo:run_demo", "the demo", "relay,pocket"),
    "chaos": Entry("dreamrelay.chaos.run:run_chaos", "the disasters", "relay,producer"),
    "list": Entry("dreamrelay.media.present:look", "the list", "producer"),
    "selftest": Entry("dreamrelay.media.selftest:run", "the self-test", "producer"),
    "bench": Entry("dreamrelay.glass:run_glass", "the measurement", "relay,pocket,producer"),
}
"""What each command runs, imported when it is asked for."""

CLEAR_LINE = "\r\x1b[K"

SWITCHES = ("--binary", "--quiet", "--json")


# -- what the commands do -------------------------------------------------------------------------


def _made(name: str, settings: Settings) -> Any:
    """Import a program and make it.

    What is imported stays, so no garbage is looked for in it, now or later: that takes a tenth of
    the time until the program is there.
    """
    gc.disable()
    try:
        return PROGRAMS[name].load()(settings)
    finally:
        gc.freeze()
        gc.enable()


def relay(settings: RelaySettings) -> int:
    """Run a relay until Ctrl-C."""

    running = _made("relay", settings)
    running.bind()

    def ready() -> None:
        people = sys.stdout.isatty()
        url, lines = running.announcement(to_people=people)
        if not settings.verbose:
            if running.opening.made_token is not None:
                say(url)  # or nobody could ever come in
            return
        say(f"dreamrelay {__version__}: studio at {url}")
        say(f"  WebSocket at ws{url[4:].partition('?')[0]}; Ctrl-C ends it")
        for line in lines:
            say(f"  {line}")
        if settings.qr == "on" or (settings.qr == "auto" and people and "?token=" in url):
            say(PROGRAMS["qr"].load()(url, sys.stdout.encoding))

    asyncio.run(running.serve(ready))
    return 0


def worker(settings: WorkerSettings) -> int:
    """Run a worker until Ctrl-C."""
    if settings.websocket_port is not None:
        inside = _made("relay", RelaySettings.load({"port": settings.websocket_port}))
        with inside.running() as url:
            if settings.verbose:
                say(f"dreamrelay {__version__}: studio at {url}")
            certificate = inside.opening.certificate
            there = {
                "websocket_uri": f"ws{url.partition('?')[0][4:]}",
                "token": inside.token or settings.token,
                "tls_fingerprint": certificate and certificate.fingerprint,
            }
            return _work(settings.model_copy(update=there))
    return _work(settings)


def _work(settings: WorkerSettings) -> int:
    # A spinning OpenMP thread costs ten times the work on a busy machine; set before torch loads.
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with stop_on_signal() as calls:
        program = _made("worker", settings)
        calls(program.stop)
        if settings.verbose:
            where = shown(settings.source or settings.spout_in or settings.websocket_uri)
            say(f"dreamrelay {__version__} worker: {settings.model_id_or_path} for {where}")
            if program.osc_port:
                ip = f"[{settings.osc_ip}]" if ":" in settings.osc_ip else settings.osc_ip
                say(f"  OSC: /prompt at {ip}:{program.osc_port}")
                if not program.started:
                    say("  it waits for OSC /start or /trigger (--start=on begins at once)")
            if program.no_window:
                say(f"  no window: {program.no_window}")
            if settings.streamdiffusion_path:
                say("  --streamdiffusion-path is not needed: the engines are in the package")
                if not (settings.source or settings.spout_in):
                    say("  for Spout add --spout-in=SourceImage --spout-out=StreamDiffusion")
        with status_line(lambda: work_report(program), settings.verbose):
            program.run()
        if program.replaced_by:
            say(f"replaced by {plain(program.replaced_by)}")
    return 0


def work_report(program: Any) -> str:
    """A worker's status line: how it goes, and what is waited for."""
    lanes = [lane for lane in program.lanes if not lane.over] or program.lanes
    each = [lane.statistics for lane in lanes]
    count, rate = sum(s.results.count for s in each), sum(s.results.rate for s in each)
    streams = f" of {len(each)} streams" if len(each) > 1 else ""
    text = f"{lanes[0].state}: {count} pictures{streams}, {rate:.1f} fps"
    age = f", age {max(s.age_ms for s in each if s.results.rate):.0f} ms" if rate else ""
    failed = sum(s.broken + s.failed for s in each)
    text += age + (f", {failed} failed" if failed else "")
    if any(lane.link is not None and not lane.link.connected for lane in lanes):
        text += ", no relay"
    return text + (f", {lanes[0].absent}" if lanes[0].absent else "")


def producer(settings: ProducerSettings, *positional: str, binary: bool = False) -> int:
    """Send frames until the end; or, with a picture's name, have one picture made and save it."""
    if positional:
        return _one_picture(settings, positional, binary=binary)
    program = _made("producer", settings)
    if settings.verbose:
        there = shown(settings.websocket_uri)
        say(f"dreamrelay {__version__} producer: {shown(program.url)} to {there}")

    def report() -> str:
        s = program.statistics
        state = ", no relay" if not s.connected else "" if s.on_air else ", not on air"
        state += f", {program.trouble}" if program.trouble else ""
        refused = f", {s.refused} refused" if s.refused else ""
        return (
            f"sent {s.sent}, acked {s.acked}, dropped {s.dropped}{refused},"
            f" {s.rate.rate:.1f} fps, age at the ack {s.age_ms:.0f} ms{state}"
        )

    if settings.mode == "prompt-interactive":
        threading.Thread(target=_ask_prompts, args=(program,), daemon=True).start()
    with stop_on_signal() as calls, status_line(report, settings.verbose):
        calls(program.stop)
        program.run()
    return 0 if program.statistics.acked else 1


def _ask_prompts(program: Any) -> None:
    """Each line that is typed becomes the prompt."""
    say("type a prompt and press Enter; Ctrl-C ends")
    for line in sys.stdin:
        if line.strip():
            program.change(prompt=line.strip())
            say(f"prompt: {line.strip()}")


def _one_picture(settings: ProducerSettings, positional: Sequence[str], *, binary: bool) -> int:
    from dreamrelay.img2img import transform
    from dreamrelay.trust import Trust

    uris = [word for word in positional[1:] if word.startswith(("ws://", "wss://"))]
    texts = [word for word in positional[1:] if word not in uris]
    uri = uris[0] if uris else settings.websocket_uri
    picture = Path(positional[0])
    say(f"sending {picture} to {uri.partition('?')[0]}")
    answer = transform(
        _with_stream(uri, settings),
        picture,
        " ".join(texts) or settings.prompt,
        binary=binary,
        token=settings.token,
        trust=Trust(settings.tls_fingerprint, settings.tls_ca),
    )
    name = "output_client_binary" if binary else "output_client_base64"
    path = Path(f"{name}.{answer.suffix}")
    path.write_bytes(answer.data)
    say(f"made with {answer.prompt!r}: {path} ({len(answer.data) / 1024:.0f} kB)")
    return 0


def shown(url: str) -> str:
    """An address without the password, or the token, that may be in it: journals keep it."""
    from dreamrelay.media.address import parse

    return str(parse(url))


def _with_stream(uri: str, settings: ProducerSettings) -> str:
    if settings.stream == "default":
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}{urlencode({'stream': settings.stream})}"


def bridge(settings: BridgeSettings) -> int:
    """Bridge until Ctrl-C."""
    program = _made("bridge", settings)
    if settings.verbose:
        say(f"dreamrelay {__version__} bridge: {shown(settings.websocket_uri)}")
    with stop_on_signal() as calls, status_line(program.report, settings.verbose):
        calls(program.stop)
        program.run()
    return 0


def demo(settings: DemoSettings) -> int:
    """Show everything at once; 0 only if transformed pictures arrived."""
    stopped = threading.Event()
    with stop_on_signal() as calls:
        calls(stopped.set)
        program = PROGRAMS["chaos" if settings.chaos else "demo"].load()
        code: int = program(settings, say, stopped)
    return code


def list_(settings: ListSettings) -> int:
    """Say what there is to open."""
    from dreamrelay.media.present import as_json, as_text

    kinds = PROGRAMS["list"].load()(settings.seconds)
    say(as_json(kinds) if settings.as_json else as_text(kinds))
    return 0


def selftest(settings: SelftestSettings) -> int:
    """Try a technology; 0 only if all of it works."""
    works = PROGRAMS["selftest"].load()(settings.what, say, seconds=settings.seconds)
    return 0 if works else 1


def capacity_(settings: Show) -> int:
    """Say what a show needs."""
    from dreamrelay import capacity

    found = capacity.plan(settings, capacity.Costs.load())
    say(capacity.as_json(found) if settings.as_json else capacity.as_text(found))
    return 0


def bench(settings: BenchSettings) -> int:
    """Measure from glass to glass; 0 only if all ways of seeing saw something."""
    stopped = threading.Event()
    with stop_on_signal() as calls:
        calls(stopped.set)
        code: int = PROGRAMS["bench"].load()(settings, say, stopped)
    return code


COMMANDS: dict[str, tuple[type[Settings], Callable[..., int]]] = {
    "relay": (RelaySettings, relay),
    "worker": (WorkerSettings, worker),
    "producer": (ProducerSettings, producer),
    "bridge": (BridgeSettings, bridge),
    "demo": (DemoSettings, demo),
    "list": (ListSettings, list_),
    "selftest": (SelftestSettings, selftest),
    "bench": (BenchSettings, bench),
    "capacity": (Show, capacity_),
}


# -- from arguments to settings -------------------------------------------------------------------


def main() -> None:
    """``dreamrelay COMMAND ...``"""
    arguments = sys.argv[1:]
    if arguments[:1] == ["--version"]:
        say(f"dreamrelay {__version__}")
        return
    if not arguments or arguments[0] not in COMMANDS:
        lines = [f"  {name:<10}{_summary(row[0])}" for name, row in COMMANDS.items()]
        say("usage: dreamrelay COMMAND [--flag=value ...]\n\n" + "\n".join(lines))
        if arguments[:1] in ([], ["--help"], ["-h"], ["help"]):
            sys.exit(0)
        near = difflib.get_close_matches(arguments[0], COMMANDS, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        print(f"dreamrelay: no such command: {arguments[0]}{hint}", file=sys.stderr)
        sys.exit(2)
    run(arguments[0], arguments[1:])


def run(name: str, arguments: Sequence[str] | None = None) -> None:
    """Run a command and end the process with its exit code.

    2 for what the command line or the settings got wrong, 1 for what failed later, each with one
    line.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Into a pipe Windows writes its old alphabet: a name in another one shall end nothing.
        sys.stdout.reconfigure(errors="backslashreplace")
    settings_type, program = COMMANDS[name]
    if any(word in ("--help", "-h") for word in arguments) or list(arguments) == ["help"]:
        say(help_text(settings_type))
        sys.exit(0)
    parsed: list[tuple[tuple[str, ...], dict[str, str]]] = []

    def command(*positional: str, **flags: str) -> None:
        parsed.append((positional, flags))

    try:
        words = _spelled_out(settings_type, arguments)
        # Text stays text: fire's own reading makes numbers, lists and tuples of prompts.
        fire.Fire(SetParseFn(str)(command), command=words, name=settings_type.usage)
        code = _start(settings_type, program, *parsed[0])
    except FireExit as stopped:
        code = stopped.code
    except DreamRelayError as error:
        print(f"dreamrelay: {plain(str(error))}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _spelled_out(settings_type: type[Settings], arguments: Sequence[str]) -> list[str]:
    """``--flag`` alone is ``--flag=True``, and of a list ``--flag=a --flag=b`` is ``--flag=a,b``.

    Switches never take the next word for their value; of others, fire would read ``--nonsense`` as
    ``--nsense=False``, and of a flag that is given twice it keeps the last.

    Raises:
        ConfigError: a flag that needs a value has none.
    """
    words: list[str] = []
    places: dict[str, int] = {}
    left = deque(arguments)
    while left:
        word = left.popleft()
        if not word.startswith("--") or word == "--":
            words.append(word)
            continue
        flag, equals, value = word.partition("=")
        name = settings_type.flag_name(flag.removeprefix("--"))
        kinds = _kinds(settings_type, name)
        if not equals:
            alone = word in SWITCHES or not left or re.match(r"--|-[a-zA-Z]", left[0])
            if alone and kinds and bool not in kinds:
                raise ConfigError(f"{flag}: expected a value behind it, as in {flag}=...")
            value = "True" if alone else left.popleft()
        if kinds & {list, dict} and name in places:
            words[places[name]] += f",{value}"
        else:
            places[name] = len(words)
            words.append(f"{flag}={value}")
    return words


def _kinds(settings_type: type[Settings], name: str) -> set[Any]:
    """What a setting may be, None aside; nothing, where there is no such setting."""
    field = settings_type.model_fields.get(name)
    if field is None:
        return set()
    parts = get_args(field.annotation) if isinstance(field.annotation, UnionType) else ()
    return {get_origin(part) or part for part in parts or (field.annotation,)} - {type(None)}


def _start(
    settings_type: type[Settings],
    program: Callable[..., int],
    positional: tuple[str, ...],
    flags: dict[str, str],
) -> int:
    extra: dict[str, Any] = {}
    if settings_type is ProducerSettings and "binary" in flags:
        extra["binary"] = flags.pop("binary") != "False"
        if not positional:
            raise ConfigError(
                "--binary goes with a picture: client.py image.png 'a prompt' --binary"
            )
    if positional and "what" in settings_type.model_fields and "what" not in flags:
        flags["what"], positional = positional[0], positional[1:]
    if positional and settings_type is not ProducerSettings:
        raise ConfigError(f"expected flags like --name=value, got {positional[0]!r}")
    if flags.pop("quiet", "False") != "False":
        flags["verbose"] = "0"
    settings = settings_type.load(flags)
    set_up_logging(int(getattr(settings, "verbose", 1)))
    return program(settings, *positional, **extra)


def help_text(settings_type: type[Settings]) -> str:
    """The flags with their defaults and meanings, as plain text."""
    usages = [f"{settings_type.usage} [--flag=value ...]", settings_type.other_usage]
    usage = "\n   or: ".join(filter(None, usages))
    lines = [f"usage: {usage}", "", _summary(settings_type), ""]
    short = {field: flag for flag, field in settings_type.aliases.items()}
    for name, field in settings_type.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "" if default in (None, [], {}) else f" [{default}]"
        choices = "|".join(str(choice) for choice in _choices(field.annotation))
        dashes = "-" if len(short.get(name, "")) == 1 else "--"
        also = f" (also {dashes}{short[name]})" if name in short else ""
        text = f"{field.description or ''}{choices and ' ' + choices}{shown}{also}"
        lines.append(f"  --{name:<36}{text}")
    section = settings_type.section
    file = f"[{section}] in dreamrelay.toml, or " if settings_type in SECTIONS else ""
    lines += ["", f"Also as {file}DREAMRELAY_{section.upper()}_NAME."]
    return "\n".join(lines)


def _choices(annotation: Any) -> tuple[object, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((found for part in get_args(annotation) if (found := _choices(part))), ())


def _summary(thing: object) -> str:
    return " ".join((thing.__doc__ or "").strip().partition("\n\n")[0].split())


# -- what people see ------------------------------------------------------------------------------


def say(text: str, end: str = "\n") -> None:
    """Print a line now, also into a pipe; one that was closed, or a full disk, ends no show."""
    try:
        print(text, end=end, flush=True)
    except OSError:  # of a closed pipe Windows has no more to say
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # or Python complains at its end
        os.close(nowhere)


_UNSEEN = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in (*range(32), *range(127, 160), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
}
"""Characters that move the cursor, end a line or turn its direction, and how they are shown."""


def plain(text: str) -> str:
    """A text of a peer's, on one line: it cannot pass for a line of ours, nor steer a terminal."""
    return text.translate(_UNSEEN)


class _Plain(logging.Formatter):
    """On a terminal a line begins where the status line stands, which is drawn again soon."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        clear = CLEAR_LINE if sys.stderr.isatty() else ""
        return clear + plain(super().formatMessage(record).rstrip())


def set_up_logging(verbose: int) -> None:
    """Log to standard error: 0 errors, 1 warnings, 2 what happens, 3 everything."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Plain("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("dreamrelay").setLevel(LOG_LEVELS[verbose])


@contextmanager
def stop_on_signal() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Have Ctrl-C (and SIGTERM) stop the program; the second one ends the process at once.

    Yields the function that is told what to call; a signal that came before (while a large package
    was imported) is kept for it.
    """
    seen: list[int] = []
    stops: list[Callable[[], None]] = []

    def calls(stop: Callable[[], None]) -> None:
        stops.append(stop)
        if seen:
            stop()

    def on_signal(number: int, _: object) -> None:
        seen.append(number)
        # Without us: a compiler may keep Python from running for as long as it likes.
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)
        for stop in stops:
            stop()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if sys.platform == "win32":
        numbers.append(signal.SIGBREAK)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield calls
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def status_line(report: Callable[[], str], verbose: int) -> Iterator[None]:
    """Keep one line up to date on a terminal; elsewhere say it now and then, and at the end."""
    if not verbose:
        yield
        return
    terminal = sys.stdout.isatty()
    done = threading.Event()

    def repeat() -> None:
        last = time.monotonic()
        while not done.wait(REPORT_SECONDS):
            if terminal:
                # One that is wrapped could not be written over.
                width = shutil.get_terminal_size().columns - 1
                say(f"{CLEAR_LINE}{report():.{width}}", end="")
            elif time.monotonic() - last >= PLAIN_REPORT_SECONDS:
                last = time.monotonic()
                say(report())

    thread = threading.Thread(target=repeat, name="status", daemon=True)
    thread.start()
    last_words = ""  # what went wrong is said by itself, without a count of nothing
    try:
        yield
        last_words = report() + "\n"
    finally:
        done.set()
        thread.join()
        say((CLEAR_LINE if terminal else "") + last_words, end="")
