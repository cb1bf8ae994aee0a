"""`warn`: from the first seconds at a few stations to how strongly each place will shake, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scifm.applications.accounts import keep_account
from scifm.applications.early_warning.forecasting import Progress, WarnRecipe, forecasts_of
from scifm.applications.early_warning.peaks import widened
from scifm.applications.early_warning.telling import account_of, arrays_of
from scifm.config import config_hash
from scifm.data.origins import StoreOrigin
from scifm.data.run_origin import RunOrigin
from scifm.data.store import Store
from scifm.errors import ConfigError, SignatureError
from scifm.fields.window import Window
from scifm.findings.account import Account
from scifm.models.folder import ModelPlace, digest, find_model, pace_of
from scifm.models.registry import load_operator
from scifm.runs import Run

__all__ = ["warn"]


def warn(
    run: Run | str | Path, recipe: WarnRecipe | None = None, *, out: str | Path, progress: Progress | None = None
) -> Account:
    """Forecast wavefields from what stations see first, and tell how good a warning that is.

    Args:
        run: a run, or a model, of a network that forecasts velocities in a plane.
        recipe: which events, stations and draws; the defaults when left out.
        out: folder of the account.
        progress: told how many forecasts of how many are done.

    Returns:
        The account, also written to account.json in `out`.

    Raises:
        ConfigError: if a setting makes no sense, or nothing says which events.
        RunError: if there is no readable model, or the folder holds something else or cannot be written.
        SignatureError: if the network forecasts no fields of a plane.
        StoreError: if the store cannot be read.
    """
    recipe, place = recipe or WarnRecipe(), find_model(run)
    operator, (store, window) = load_operator(place.folder), _asked_of(place, recipe)
    names = operator.signature
    if names.num_spatial_dims != 2 or names.state != names.outputs:
        raise SignatureError(
            f"A warning is a map, from a network that forecasts fields of a plane; this one answers {names.outputs} in "
            f"{names.num_spatial_dims} dimensions, of which {names.state or 'none'} are states."
        )
    parent = config_hash(place.run.config) if place.run is not None else digest(place.folder)
    record = {"kind": "warn", **recipe.to_dict(), "about": {"parent": parent, "samples": store.content}}
    work = Run.claim(out, record)
    with work.locked():
        work.set_status("running")
        test = forecasts_of(operator, store, window, recipe, split=recipe.split, progress=progress)
        width = None
        if recipe.calibrate_split:
            own = store if recipe.store is None else _own_store(place, "intervals are widened on events of its split")
            about: dict[str, Any] = {"split": recipe.calibrate_split, "progress": progress}
            seen = forecasts_of(operator, own, window, recipe, **about)
            width = widened(seen.draws.velocity, seen.peaks.velocity, recipe.level, least=test.least)
        account = account_of(test, recipe, window, width, model=str(place.path), store=str(store.path))
        work.note_time()
        keep_account(work, account, arrays_of(test, recipe, width))
    return account


def _own_store(place: ModelPlace, why: str) -> Store:
    """Return the store that a model was trained on.

    Raises:
        ConfigError: if it says none; tells what it is wanted for.
        StoreError: if it is not where it was.
    """
    recorded = RunOrigin.of_model(place)
    origin = None if recorded is None else recorded.resolved()
    if not isinstance(origin, StoreOrigin):
        raise ConfigError(
            f"'{place.path}' does not say which stored wavefields it was trained on, and {why}: give a store (--store "
            'FOLDER), and leave such intervals out (--set calibrate_split="").'
        )
    return origin.store


def _asked_of(place: ModelPlace, recipe: WarnRecipe) -> tuple[Store, Window]:
    """Return the store and the window of a recipe: how many frames are seen, and at which stations."""
    recorded = RunOrigin.of_model(place)
    usual = Window() if recorded is None else Window.of(recorded.record)
    store = _own_store(place, "events are of it") if recipe.store is None else Store.open(recipe.store)
    if store.card.times is None:
        raise SignatureError(f"The samples of '{store.path}' are steady; a warning is of what evolves.")
    given, stride = recipe.given or pace_of(place.folder).history, usual.stride
    left = (len(store.card.times) - 1) // stride - given + 1
    if left < 1:
        raise ConfigError(
            f"{given} frames are seen, and the events of '{store.path}' have {len(store.card.times)}: nothing is left "
            "to be forecast. Give longer ones, or a smaller given."
        )
    stations = usual.stations if recipe.stations is None else recipe.stations
    spacing = recipe.station_spacing or (usual.station_spacing if stations else 1)
    steps = min(recipe.steps or left, left)
    return store, Window(given, steps, stride, stations=stations, station_spacing=spacing)
