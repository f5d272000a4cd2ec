"""`python -m gdn` is the command `gdn`."""

from gdn.cli import main

if __name__ == "__main__":
    main()
