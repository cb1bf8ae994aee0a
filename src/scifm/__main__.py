"""``python -m scifm``: the command line."""

from scifm import cli

__all__: list[str] = []

if __name__ == "__main__":
    cli.main()
