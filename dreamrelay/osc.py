"""OSC, the alternate prompt channel: one UDP port, one thread, messages to patches of parameters.

A thread of its own with a large socket buffer takes a burst of 2,000 messages whole and in order,
where the event loop's server loses half of it. Bundles are run at once: a time stamp in the future
must not stop the show. Nothing that comes in can end the server.
"""

import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_server import BlockingOSCUDPServer

from dreamrelay.errors import ConfigError

logger = logging.getLogger(__name__)

RECEIVE_BUFFER = 4 * 1024 * 1024
LONGEST_TEXT = 2000

Patch = dict[str, Any]


class _Server(BlockingOSCUDPServer):
    """python-osc's server, which logs a broken datagram in one line instead of a traceback."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.warning("OSC: a datagram from %s cannot be read; ignored", client_address[0])
        logger.debug("OSC: the broken datagram", exc_info=True)


class OscServer:
    """Listen for OSC messages and hand what they ask for to ``on_patch``.

    ``/prompt "text"`` sets the prompt, a second argument the negative prompt, as in the Spout
    service.

    Args:
        on_patch: called in the server's thread; returns at once.

    Raises:
        ConfigError: the port is in use.
    """

    def __init__(self, host: str, port: int, on_patch: Callable[[Patch], None]) -> None:
        self._on_patch = on_patch
        dispatcher = Dispatcher(strict_timing=False)
        dispatcher.map("/prompt", self._prompt)
        dispatcher.set_default_handler(self._unknown)
        try:
            self._server = _Server((host, port), dispatcher)
        except OSError as error:
            raise ConfigError(
                f"cannot listen for OSC on {host}:{port}: {error.strerror or error}"
                " (7000 is Resolume's own port too; try --osc-port=7001, or --osc-port=none)"
            ) from None
        self._server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="osc", daemon=True
        )

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening; idempotent."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(2)
        self._server.server_close()

    # Handlers return None: what they return would be sent back to the sender.

    def _prompt(self, _: str, *arguments: object) -> None:
        if not arguments or not all(isinstance(a, str | int | float) for a in arguments):
            logger.warning("OSC: /prompt: expected a text, got %.80r", arguments)
            return
        texts = [str(argument) for argument in arguments]
        if any(len(text) > LONGEST_TEXT for text in texts):
            logger.warning("OSC: /prompt: expected at most %d characters", LONGEST_TEXT)
            return
        names = ("prompt", "negative_prompt")
        self._on_patch(dict(zip(names, texts, strict=False)))

    def _unknown(self, address: str, *arguments: object) -> None:
        logger.info("OSC: no such address: %s %s", address[:80], arguments[:4])
