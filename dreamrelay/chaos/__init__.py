"""``dreamrelay demo --chaos``: one disaster after the other, with real processes, and what a viewer
saw of each. It begins in ``run``; nothing is imported here, so that ``programs`` can change the
clock before anybody has looked at it.
"""
