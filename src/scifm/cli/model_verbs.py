"""``scifm import-model`` and ``scifm push``: operators in from other programs, and out to the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scifm.cli.app import AsJson, Imports, Model, app, print_json, print_rows
from scifm.errors import ConfigError, RunError, suggest

if TYPE_CHECKING:
    from scifm.fields.normalization import Normalization

__all__ = ["import_model", "push"]

_FORMATS = ("neuralop", "reference")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _normalization(path: Path | None) -> Normalization | None:
    from scifm.fields.normalization import Normalization

    if path is None:
        return None
    try:
        return Normalization.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"The normalization '{path}' cannot be read ({type(error).__name__}: {error}).") from error


def _settings(texts: list[str] | None) -> dict[str, object]:
    from scifm.config import apply_overrides

    return {name: None if value == "none" else value for name, value in apply_overrides({}, texts or []).items()}


@app.command("import-model")
def import_model(
    file: Annotated[Path, typer.Argument(help="Weights: .safetensors, or what torch.save wrote (.pt, .tar).")],
    kind: Annotated[str, typer.Option(help="Whose: 'reference' (the paper's code) or 'neuralop' (its FNO).")],
    inputs: Annotated[str, typer.Option(help="Names of the input fields, in the order of the channels: a,b.")],
    outputs: Annotated[str, typer.Option(help="Names of the output fields.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new model.")],
    coefficients: Annotated[str, typer.Option(help="Names of the coefficients, channels behind the inputs.")] = "",
    normalization: Annotated[
        Path | None, typer.Option(help="A normalization.json of ours; numbers pass unchanged when left out.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of neuralop's FNO that its weights do not tell."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn someone else's weights into a model of ours, for finetune, evaluate and push."""
    from scifm.fields.batch import Signature
    from scifm.models.folder import holds_operator
    from scifm.models.foreign_files import read_state_dict
    from scifm.models.hub import save_operator
    from scifm.models.neuralop_weights import import_neuralop_weights, neuralop_dims
    from scifm.models.operator import Operator
    from scifm.models.reference_weights import import_reference_weights

    if kind not in _FORMATS:
        raise ConfigError(f"--kind {suggest(kind, _FORMATS)}")
    if overrides and kind != "neuralop":
        raise ConfigError("--set is for --kind neuralop; the reference's weights tell everything.")
    if holds_operator(out):
        raise ConfigError(f"'{out}' holds a model already: give another folder with --out.")
    state = read_state_dict(file)
    dims = neuralop_dims(state) if kind == "neuralop" else 2
    signature = Signature(_names(inputs), _names(coefficients), _names(outputs), num_spatial_dims=dims)
    numbers = _normalization(normalization)
    operator: Operator
    if kind == "neuralop":
        operator = import_neuralop_weights(state, signature, normalization=numbers, **_settings(overrides))
    else:
        operator = import_reference_weights(state, signature, normalization=numbers)
    save_operator(operator, out)
    if as_json:
        print_json({"path": str(out), "num_params": operator.num_params, **operator.describe()})
    else:
        knows = f"{', '.join([*signature.inputs, *signature.coefficients])} → {', '.join(signature.outputs)}"
        print_rows(f"Model {out}", [("knows", knows), ("weights", f"{operator.num_params:,}")])


@app.command()
def push(
    model: Annotated[Path, Model],
    repo_id: Annotated[str, typer.Argument(help="NAME/MODEL on the Hugging Face hub; made when it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="Hide a new repository from others.")] = False,
    branch: Annotated[str | None, typer.Option(help="Branch, instead of main.")] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the model card.")] = None,
    description: Annotated[str | None, typer.Option(help="What it was trained on and is good for.")] = None,
    license: Annotated[str | None, typer.Option(help="License of the weights, such as mit.")] = None,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Upload an operator to the Hugging Face hub. Log in first, with 'hf auth login'."""
    from scifm.models.hub import load_operator

    told = {"title": title, "description": description, "license": license}
    card = {name: value for name, value in told.items() if value is not None}
    address = load_operator(model).push_to_hub(repo_id, private=private, branch=branch, card=card)
    if as_json:
        print_json({"address": address})
    else:
        print_rows("Model", [("address", address)])
