"""``python -m frostline``: the command."""

from frostline.cli import main

if __name__ == "__main__":
    main()
