"""The relay: every dialect, the studio and HTTP on one port. It never decodes a pixel."""
