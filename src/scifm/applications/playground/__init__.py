"""The playground: one local page on which a trained operator answers beside the reference solver."""

from scifm.applications.playground.serving import create_application, serve
from scifm.applications.playground.trained import Playground

__all__ = ["Playground", "create_application", "serve"]
