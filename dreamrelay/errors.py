"""The exceptions, drawn as a tree.

DreamRelayError
├── ConfigError        a setting is wrong                    exit 2, one line
├── ProtocolError      a peer's message cannot be understood close 1002 / HTTP 400
├── AuthError          a peer may not do this                close 1008 / HTTP 401, 403
├── LimitError         a peer wants more than it may have    close 1008 / HTTP 408, 413, 429, 503
├── ParameterError     a patch was refused, whole            HTTP 422, ``error``, OSC ``/error``
├── DeviceError        a camera, screen, file or port fails  its program retries or ends with exit 1
├── MissingExtra       a package is not installed            exit 2, says what to install
├── EngineError        a model cannot be loaded or run       the stream shows it
└── ClosedError        the other side has gone               reconnect

Every text says what was expected, what came and what to do, on one line. Programs read the
attributes and ``code``; only people read the text.
"""

from collections.abc import Mapping


class DreamRelayError(Exception):
    """Base of all errors that dreamrelay raises on purpose."""

    code = "error"
    """Stable word for programs: the ``code`` of an ``error`` message."""

    exit_code = 1
    """What a command line ends with when nothing catches this."""


class ConfigError(DreamRelayError):
    """A setting is missing or wrong; the program does not start."""

    code = "config"
    exit_code = 2


class ProtocolError(DreamRelayError):
    """A peer sent something that its dialect does not allow."""

    code = "protocol"


class AuthError(DreamRelayError):
    """A peer may not do what it asked for."""

    code = "auth"

    def __init__(self, text: str, *, status: int = 403) -> None:
        super().__init__(text)
        self.status = status
        """401 when a token would help, 403 when it would not."""


class LimitError(DreamRelayError):
    """A peer wants more than a peer may have."""

    code = "limit"

    def __init__(self, text: str, *, status: int = 429) -> None:
        super().__init__(text)
        self.status = status
        """408 too slow, 413 too large, 429 too often or too many, 503 no room for anybody."""


class ParameterError(DreamRelayError):
    """A patch was refused; nothing of it was applied."""

    code = "parameter"

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        """Parameter name to what was wrong with its value."""
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "; ".join(f"{name}: {problem}" for name, problem in self.problems.items())


class DeviceError(DreamRelayError):
    """A camera, a screen, a file or a port does not do what it should."""

    code = "device"

    def __init__(self, text: str, *, final: bool = False) -> None:
        super().__init__(text)
        self.final = final
        """True where trying again cannot help, as with another system's technology."""


class MissingExtra(DreamRelayError):
    """A feature needs packages that are not installed."""

    code = "missing-extra"
    exit_code = 2

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(feature, extra)
        self.feature = feature
        self.extra = extra

    def __str__(self) -> str:
        return f'{self.feature} needs more packages: pip install "dreamrelay[{self.extra}]"'


class EngineError(DreamRelayError):
    """A model cannot be loaded, or a frame cannot be computed."""

    code = "engine"


class ClosedError(DreamRelayError):
    """The other side of a link or a mailbox has gone."""

    code = "closed"
