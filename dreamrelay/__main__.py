"""``python -m dreamrelay COMMAND``: the same as ``dreamrelay COMMAND``."""

from dreamrelay.cli import main

if __name__ == "__main__":
    main()
