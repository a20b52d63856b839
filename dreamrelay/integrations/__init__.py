"""Where other programs plug us in: Scope, DreamStream's Python interface, Modal."""
