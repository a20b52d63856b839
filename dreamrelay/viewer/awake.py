"""The screen saver waits while the window is open. Child only.

Windows: a flag of the thread. macOS: the system's own ``caffeinate``. Linux: the desktop is asked
over D-Bus (GNOME, KDE, Xfce and others answer). Not where nobody answers there, as under a bare
window manager: ``xset s off -dpms`` is for those.
"""

import ctypes
import logging
import os
import subprocess
import sys

logger = logging.getLogger(__name__)

SERVICE, PATH = "org.freedesktop.ScreenSaver", "/org/freedesktop/ScreenSaver"
ANSWER_MS = 500

# winbase.h
ES_SYSTEM_REQUIRED, ES_DISPLAY_REQUIRED, ES_CONTINUOUS = 0x1, 0x2, 0x80000000


def keep_awake() -> str | None:
    """Ask for it, until this process ends; why it could not be had, else None."""
    if sys.platform == "win32":
        wanted = ES_CONTINUOUS | ES_DISPLAY_REQUIRED | ES_SYSTEM_REQUIRED
        done = ctypes.windll.kernel32.SetThreadExecutionState(wanted)
        return None if done else "Windows refused to keep the screen on"
    if sys.platform == "darwin":
        try:
            subprocess.Popen(["/usr/bin/caffeinate", "-d", "-w", str(os.getpid())])
        except OSError as error:
            return f"caffeinate does not start: {error.strerror}"
        return None
    return _ask_desktop()


def _ask_desktop() -> str | None:
    if not os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return "there is no session bus to ask"
    from PySide6.QtDBus import QDBusConnection, QDBusMessage  # noqa: PLC0415 - Linux only

    # The desktop takes it back by itself once this connection ends.
    question = QDBusMessage.createMethodCall(SERVICE, PATH, SERVICE, "Inhibit")
    question.setArguments(["dreamrelay", "pictures are shown"])
    answer = QDBusConnection.sessionBus().call(question, timeout=ANSWER_MS)
    if answer.type() == QDBusMessage.MessageType.ReplyMessage:
        return None
    return answer.errorMessage() or "the desktop did not answer"
