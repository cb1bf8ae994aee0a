"""``python -m scifm``: the command line."""

from scifm import cli

if __name__ == "__main__":
    cli.main()
