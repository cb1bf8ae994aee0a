"""What an operator can be exported to: how each kind of file is written, and how it is run."""

from __future__ import annotations

import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scifm.errors import ConfigError, RunError, suggest

__all__ = ["EXPORT_FORMATS", "Answer", "ExportFormat", "exporting", "find_format"]

Answer = Callable[[Tensor, Tensor], Tensor]
"""The function a file holds: inputs and coefficients to outputs."""

_FAILURES = (RuntimeError, TypeError, ValueError, AssertionError)


@dataclass(frozen=True)
class ExportFormat:
    """One kind of file.

    Args:
        suffix: of its name.
        write: gives the content from a traced program and what is to be told about it.
        load: gives the function a file holds.
        packages: what must be installed besides torch.
    """

    suffix: str
    write: Callable[[torch.export.ExportedProgram, dict[str, Any]], bytes]
    load: Callable[[Path], Answer]
    packages: tuple[str, ...] = ()


def find_format(to: str) -> ExportFormat:
    """Return the format of this name.

    Raises:
        ConfigError: if there is none, or what it needs is not installed.
    """
    if to not in EXPORT_FORMATS:
        raise ConfigError(f"Export format {suggest(to, EXPORT_FORMATS)}")
    if not hasattr(torch.compiler, "is_exporting"):
        raise ConfigError(f"Exporting needs torch 2.7 or later; this is {torch.__version__}. Install a later torch.")
    for name in EXPORT_FORMATS[to].packages:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"Exporting to {to} needs the package '{name}', which is not installed: pip install 'scifm[export]', "
                "or export to torch-export."
            ) from error
    return EXPORT_FORMATS[to]


@contextmanager
def exporting(failure: str) -> Iterator[None]:
    """Keep exporters from talking, and turn their errors into a `RunError` that begins with `failure`."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except _FAILURES as error:
        said = next((line for line in str(error).splitlines() if line.strip()), "")
        raise RunError(
            f"{failure} ({type(error).__name__}: {said}). Choose another format, or another network."
        ) from error
    finally:
        logging.disable(before)


def _write_torch_export(traced: torch.export.ExportedProgram, about: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    torch.export.save(traced, content, extra_files={"scifm.json": json.dumps(about)})
    return content.getvalue()


def _load_torch_export(path: Path) -> Answer:
    return torch.export.load(path).module()


def _write_onnx(traced: torch.export.ExportedProgram, about: dict[str, Any]) -> bytes:
    made = torch.onnx.export(
        traced, dynamo=True, input_names=["inputs", "coefficients"], output_names=["outputs"], verbose=False
    )
    assert made is not None
    model = made.model_proto
    shape = model.graph.input[0].type.tensor_type.shape.dim
    names = {dim.dim_param: name for dim, name in zip(shape, ["batch", "", *about["axes"]], strict=True)}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param and dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]
    for key, value in about.items():
        model.metadata_props.add(key=key, value=json.dumps(value))
    content: bytes = model.SerializeToString()
    return content


def _load_onnx(path: Path) -> Answer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])

    def answer(inputs: Tensor, coefficients: Tensor) -> Tensor:
        fed = {"inputs": inputs.numpy(), "coefficients": coefficients.numpy()}
        given = {entry.name for entry in session.get_inputs()}
        return torch.from_numpy(session.run(None, {name: fed[name] for name in given})[0])

    return answer


EXPORT_FORMATS: dict[str, ExportFormat] = {
    "onnx": ExportFormat(".onnx", _write_onnx, _load_onnx, ("onnx", "onnxscript", "onnxruntime")),
    "torch-export": ExportFormat(".pt2", _write_torch_export, _load_torch_export),
}
"""What an operator can be exported to."""
