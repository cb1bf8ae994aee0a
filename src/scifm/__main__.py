"""``python -m scifm``: the command line."""

from scifm.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
