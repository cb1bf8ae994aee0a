"""Compositions of the rooms below for one use: the playground, early warning, inverse problems, ground motion.

An application is a folder here and a verb of the command line. It may use every room below; nobody but the command
line may import it, so that it can go without a trace. What it needs beyond the package's own dependencies is an extra
(``pip install 'scifm[play]'``) that is loaded on use.
"""

from scifm.applications import playground

__all__ = ["playground"]
