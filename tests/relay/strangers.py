"""A relay behind a proxy that is not there: everybody is a stranger, from any address one likes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dreamrelay.config import RelaySettings
from dreamrelay.relay.auth import write_private
from tests.support import RunningRelay, start_relay

TOKENS = {name: f"{name}-token-of-the-tests" for name in ("publish", "work", "view", "control")}
TOKENS |= {"all": "token-for-all-of-the-tests", "stage": "token-for-the-stage-only"}
"""For each permission, for all, and one to publish on the stream ``stage`` alone."""


def as_stranger(name: str = "all", address: str = "192.0.2.1") -> dict[str, Any]:
    """The headers of somebody from that address who shows that token."""
    return {"Authorization": f"Bearer {TOKENS[name]}", "X-Forwarded-For": address}


@contextmanager
def open_relay(**settings: Any) -> Iterator[RunningRelay]:
    """A relay with a token for each permission, to which nobody is local."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "tokens.toml"
        entry = f'[stage]\ntoken = "{TOKENS["stage"]}"\nmay = ["publish"]\nstreams = ["stage"]\n'
        write_private(file, entry.encode())
        given: dict[str, Any] = {
            "port": 0,
            "behind_proxy": True,
            "token": TOKENS["all"],
            "tokens_file": str(file),
            **{f"{name}_token": TOKENS[name] for name in ("publish", "work", "view", "control")},
            **settings,
        }
        with start_relay(RelaySettings(**given)) as relay:
            yield relay
