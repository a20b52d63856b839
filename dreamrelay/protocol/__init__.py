"""The wire, without sockets: bytes in, events out; notices in, bytes out. No clock of its own
either.

A *dialect* is a way to put messages on the wire. The path of a connection picks it, never the
content. ``messages`` are the words that the hub understands, ``native`` and ``websocket_example``
the dialects.
"""
