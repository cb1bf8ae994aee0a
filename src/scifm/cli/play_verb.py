"""``scifm play``: turn the knobs of a trained operator on a local page."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from scifm.cli.app import Imports, app, console

__all__ = ["play"]


@app.command()
def play(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    host: Annotated[str, typer.Option(help="Address to listen on; the default is this machine only.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8017,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = False,
    imports: Imports = None,
) -> None:
    """Serve a local page where knobs are sliders and the forcing is painted: prediction, reference, error, time.

    Prints the page's address; Ctrl-C ends it. Needs pip install 'scifm[play]'; works without internet.
    """
    from scifm.applications.playground.serving import is_loopback, serve

    if not is_loopback(host):
        console.print(
            f"[bold yellow]warning:[/bold yellow] others on the network can open the page on '{host}'; there is no "
            "password. The default, 127.0.0.1, is this machine only.",
            highlight=False,
            soft_wrap=True,
        )

    def announce(address: str) -> None:
        typer.echo(f"Playground of {run}: {address}  (Ctrl-C ends it)")
        if browser:
            webbrowser.open(address)

    serve(run, host=host, port=port, announce=announce)
