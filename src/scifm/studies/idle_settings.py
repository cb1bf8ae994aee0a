"""Which settings of a study would have no effect, and are refused: nothing a user says is passed over in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scifm.config import refuse_idle

if TYPE_CHECKING:
    from scifm.studies.recipe import StudyRecipe

__all__ = ["refuse_idle_settings"]


def refuse_idle_settings(recipe: StudyRecipe) -> None:
    """Refuse settings that nothing in this study asks for.

    Raises:
        ConfigError: names the first of them.
    """
    drawn = [source for source in recipe.sources if source.store is None]
    tasks = [target for target in recipe.targets if target.store is None]
    if not drawn:
        why = "no source draws samples: each has a store"
        refuse_idle(recipe.data, ("num_samples", "stream_blocks"), why, prefix="data.")
    if not tasks:
        refuse_idle(recipe, ("pool_size",), "no task draws samples: each has a store")
    if not drawn and not tasks:
        refuse_idle(recipe.data, ("num_points", "extent"), "every store has its own grid", prefix="data.")
    origins = [*map(recipe.origin, recipe.sources), *map(recipe.origin, recipe.targets)]
    if not any(origin.signature.evolves for origin in origins):
        refuse_idle(recipe.data, ("stride",), "no store here holds trajectories", prefix="data.")
    if not recipe.can_be_drawn:
        refuse_idle(recipe, ("num_examples",), "only fields of two dimensions with a forcing are drawn")
    for source in drawn:
        if len(source.systems) == 1:
            why = f"it weighs the systems of a mixture, and source '{source.name}' has one"
            refuse_idle(source.systems[0], ("weight", "loss_weight"), why)
    for table, training in (("training", recipe.training), ("adapt.training", recipe.adapt.training)):
        for name, why in (
            ("keep_every", "a study drops the saved states of a run that is complete"),
            ("strategy", "one process carries out a run of a study"),
        ):
            refuse_idle(training, (name,), why, prefix=f"{table}.")
