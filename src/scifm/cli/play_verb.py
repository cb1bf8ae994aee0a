"""``scifm play``: turn the knobs of a trained operator on a local page."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from scifm.cli.app import Imports, Model, app, say
from scifm.cli.recipes import Knobs, SystemName, asked
from scifm.errors import ConfigError

__all__ = ["play"]


@app.command()
def play(
    run: Annotated[Path, Model],
    system: SystemName = None,
    knob: Knobs = None,
    num_points: Annotated[int | None, typer.Option(min=2, help="Points a side, with --system; default: 64.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; the default is this machine only.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8017,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = False,
    imports: Imports = None,
) -> None:
    """Serve a local page where knobs are sliders and the forcing is painted: prediction, reference, error, time.

    A model alone does not tell what it was trained on: give --system.

    Prints the page's address; Ctrl-C ends it. Needs pip install 'scifm[play]'; works without internet.
    """
    from scifm.applications.playground.serving import is_loopback, serve
    from scifm.fields.grid import Grid
    from scifm.systems.catalog import system_from_dict

    if system is None and (knob or num_points):
        raise ConfigError("--knob and --num-points are for --system, which was not given: the run tells its own.")
    named = asked(None, None, system, knob).get("system")
    chosen = None if named is None else system_from_dict(named)
    grid = None
    if chosen is not None and num_points is not None:
        grid = Grid.square(num_points, num_spatial_dims=chosen.signature.num_spatial_dims)

    if not is_loopback(host):
        say(
            "warning:",
            "bold yellow",
            f"others on the network can open the page on '{host}'; there is no password. The default, 127.0.0.1, is "
            "this machine only.",
        )

    def announce(address: str) -> None:
        typer.echo(f"Playground of {run}: {address}  (Ctrl-C ends it)")
        if browser:
            webbrowser.open(address)

    serve(run, system=chosen, grid=grid, host=host, port=port, announce=announce)
