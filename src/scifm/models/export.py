"""Operators as files that need nothing of ours: programs of torch.export, and ONNX.

A file holds one pure function in physical units, normalization included, for any batch size::

    inputs (batch, input field, *space), coefficients (batch, coefficient)  ->  outputs (batch, output field, *space)

Where an operator's arithmetic allows it, and that of our networks does, numbers of points are free as well and one file
serves every grid; else there is one file a grid. A file is run before it gets its name, at several batch sizes on
every grid asked for, and refused where it does not answer as the operator does.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import io
import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from scifm.config import Plain
from scifm.errors import ConfigError, RunError, SignatureError, suggest
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.fields.window import is_one_time, told_times
from scifm.models.operator import Operator
from scifm.models.parts.grids import band_limited_resize
from scifm.runs import write_atomically, write_json
from scifm.wording import plural

__all__ = ["EXPORT_FORMATS", "TOLERANCE", "ExportCheck", "ExportedFile", "export_operator", "find_format"]

Answer = Callable[[Tensor, Tensor], Tensor]
"""The function a file holds: inputs and coefficients to outputs."""

TOLERANCE = 1e-4
"""Largest relative L2 difference between the file and the operator, of any output field of any sample."""

_BATCH_SIZES = (1, 3, 7)
_SPREADS = (1.0, 0.5, 0.25, 0.0)  # of coefficients around their center: far from it a tensor may not be positive


@dataclass(frozen=True)
class ExportCheck:
    """The file and the operator on the same random samples.

    Args:
        difference: largest relative L2 difference of any output field of any sample.
        seconds_exported: median time of one answer for the whole batch by the file.
        seconds_original: the same by the operator, in the same process with as many threads.
    """

    num_points: tuple[int, ...]
    batch_size: int
    difference: float
    seconds_exported: float
    seconds_original: float


@dataclass(frozen=True)
class ExportedFile(Plain):
    """A file that was written and checked.

    Args:
        path: where it is.
        num_bytes: its size.
        num_points: points per axis it takes; None: any from `min_points` on.
        min_points: the fewest; ONNX has no way to refuse fewer, so who calls it must.
        checks: one for each grid and batch size.
    """

    path: Path
    num_bytes: int
    num_points: tuple[int | None, ...]
    min_points: tuple[int, ...]
    checks: tuple[ExportCheck, ...]

    def to_dict(self) -> dict[str, Any]:
        entries = super().to_dict()
        return {"file": Path(entries.pop("path")).name, **entries}


class _Program(nn.Module):
    """The operator as a function of tensors."""

    def __init__(self, operator: Operator, grid: Grid) -> None:
        super().__init__()
        self.operator, self.grid = operator, grid

    def forward(self, inputs: Tensor, coefficients: Tensor) -> Tensor:
        grid = self.grid.resized(tuple(inputs.shape[2:]))
        lead, frames = self.operator.domain.lead_times, inputs.unsqueeze(1)
        told = lead is not None and self.operator.sees_lead_time
        time = coefficients.new_full((inputs.shape[0], 1), lead[0]) if told and lead else None
        batch = Batch(self.operator.signature, grid, frames, coefficients, lead_time=time)
        return self.operator(batch).require_targets()[:, 0]

    def samples(self, num_points: tuple[int, ...], batch_size: int) -> tuple[Tensor, Tensor]:
        """Return smooth random fields and coefficients of the size the operator was trained on, the same every time."""
        operator, normalization = self.operator, self.operator.normalization
        weight = next(operator.parameters())
        generator = generator_for(0, "export", batch_size, *num_points)
        known = {"input_shift": [0.0] * len(operator.signature.inputs), **normalization.to_dict()}
        names = ("input_shift", "input_scale")
        numbers = {name: weight.new_tensor(known[name]) for name in names}
        shape = (batch_size, len(operator.signature.inputs), *(min(8, n) for n in num_points))
        fields = band_limited_resize(torch.randn(shape, generator=generator, dtype=weight.dtype), num_points)
        per_field = (-1, *(1,) * len(num_points))
        fields = numbers["input_shift"].view(per_field) + numbers["input_scale"].view(per_field) * fields
        drawn = 2 * torch.rand(batch_size, len(operator.signature.coefficients), generator=generator) - 1
        for spread in _SPREADS:
            coefficients = normalization.coefficients_of(spread * drawn.to(weight))
            if bool(torch.isfinite(self(fields, coefficients)).all()):
                return fields, coefficients
        raise RunError(
            "The operator's answers around the center of its normalization are not finite, so an exported file could "
            "not be compared with it. Export a run that has learned something."
        )


def export_operator(
    operator: Operator, folder: str | Path, *, to: str, grid: Grid, num_points: Sequence[tuple[int, ...]] = ()
) -> list[ExportedFile]:
    """Write an operator as files that run without this library, and ``export.json`` that describes them.

    Args:
        operator: any; it is left as it is. The files hold its precision.
        folder: where they go: ``operator.onnx`` or ``operator.pt2``, with the numbers of points in the name where the
            program is tied to them.
        to: a key of `EXPORT_FORMATS`.
        grid: sides and ends of the box.
        num_points: grids the files must answer on, points per axis; that of `grid` when left out.

    Returns:
        What was written, most often one file.

    Raises:
        ConfigError: if the format is unknown, or what it needs is not installed.
        SignatureError: if the operator cannot work on one of the grids, takes several frames or lead times, or was
            trained on samples with different fields or missing points.
        RunError: if the operator cannot be written in this format, the folder cannot be written, or a file answers
            otherwise than the operator; that file is deleted.
    """
    form = find_format(to)
    if operator.domain.forms:
        told = " and ".join(f"{{{', '.join(form)}}}" for form in operator.domain.forms)
        raise SignatureError(
            f"An exported file cannot say which fields a sample has; this operator was trained on samples with {told}. "
            "Load it with scifm.load_operator instead."
        )
    if operator.domain.gaps or operator.num_masks:
        raise SignatureError(
            "An exported file takes numbers alone and cannot be told where points are missing; this operator was "
            f"trained on samples with missing points of {', '.join(operator.domain.gaps.fields) or 'its fields'}. Load "
            "it with scifm.load_operator instead."
        )
    lead = operator.domain.lead_times
    if operator.history > 1 or (operator.sees_lead_time and (lead is None or not is_one_time(lead))):
        raise SignatureError(
            "An exported file takes one input frame and answers at one lead time; this operator takes "
            f"{plural(operator.history, 'frame')} and was trained at a lead time of "
            f"{'none' if lead is None else told_times(lead)}. Load it with scifm.load_operator instead."
        )
    program = _Program(copy.deepcopy(operator).cpu().eval(), grid)
    about, files = _about(program), []
    with torch.inference_mode():
        waiting = list(dict.fromkeys(num_points or [grid.num_points]))
        for points in waiting:
            program.samples(points, 1)  # a grid the operator refuses is refused before anything is written
        while waiting:
            try:
                traced = _traced(program, waiting[0], torch.export.Dim.AUTO)
            except RunError:  # numbers of points cannot be free
                traced = _traced(program, waiting[0], torch.export.Dim.STATIC)
            takes, fewest = _takes(traced)
            name = "x".join(map(str, takes)) if None not in takes else ""
            path = Path(folder) / f"operator{'-' if name else ''}{name}{form.suffix}"
            served = [waiting[0], *(points for points in waiting[1:] if _answers(traced, program, points))]
            with _exporting(f"A network of kind '{operator.kind}' cannot be written as {to}"):
                content = form.write(traced, {**about, "num_points": list(takes), "min_points": list(fewest)})
            checks = _write_checked(path, content, form, program, served)
            files.append(ExportedFile(path, len(content), takes, fewest, checks))
            waiting = [points for points in waiting if points not in served]
    entries = {"format": to, **about, "tolerance": TOLERANCE, "torch": str(torch.__version__)}
    write_json(Path(folder) / "export.json", {**entries, "files": [file.to_dict() for file in files]})
    return files


def _about(program: _Program) -> dict[str, Any]:
    from scifm import __version__

    operator, grid = program.operator, program.grid
    state = {name: tensor.contiguous() for name, tensor in operator.state_dict().items()}
    return {
        "scifm": __version__,
        "kind": operator.kind,
        **operator.signature.to_dict(),
        **({"lead_times": list(lead)} if (lead := operator.domain.lead_times) is not None else {}),
        "axes": list(grid.axis_names),
        "extent": list(grid.extent),
        "periodic": list(grid.periodic),
        "dtype": str(next(operator.parameters()).dtype).removeprefix("torch."),
        "weights_sha256": hashlib.sha256(save_tensors(state)).hexdigest(),  # that of a run's model.safetensors
    }


def _traced(program: _Program, num_points: tuple[int, ...], points: Any) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    space = dict.fromkeys(range(2, 2 + len(num_points)), points)
    shapes = {"inputs": {0: batch, **space}, "coefficients": {0: batch}}
    example = program.samples(num_points, 3)  # matrices a network keeps are made here, and are constants of the program
    failure = f"A network of kind '{program.operator.kind}' cannot be exported"
    with torch.inference_mode(False), torch.no_grad(), _exporting(failure):
        example = (example[0].clone(), example[1].clone())  # no tensors of inference mode
        return torch.export.export(program, example, dynamic_shapes=shapes, strict=False)


def _takes(traced: torch.export.ExportedProgram) -> tuple[tuple[int | None, ...], tuple[int, ...]]:
    """Return the numbers of points a program takes, None for any, and the fewest of each."""
    shapes = {node.name: node.meta["val"].shape for node in traced.graph.nodes if node.op == "placeholder"}
    takes, fewest = [], []
    for n in shapes["inputs"][2:]:
        is_fixed = isinstance(n, int) or bool(n.node.expr.is_number)
        takes.append(int(n) if is_fixed else None)
        fewest.append(int(n if is_fixed else traced.range_constraints[n.node.expr].lower))
    return tuple(takes), tuple(fewest)


def _answers(traced: torch.export.ExportedProgram, program: _Program, num_points: tuple[int, ...]) -> bool:
    try:
        traced.module()(*program.samples(num_points, 1))
    except (AssertionError, RuntimeError):  # its guards: the program is for other grids
        return False
    return True


def _write_checked(
    path: Path, content: bytes, form: ExportFormat, program: _Program, grids: list[tuple[int, ...]]
) -> tuple[ExportCheck, ...]:
    aside = path.with_name(f".unchecked-{path.name}")
    write_atomically(aside, content)
    try:
        with _exporting(f"The exported file '{path.name}' cannot be run"):
            answer = form.load(aside)
            checks = tuple(_check(answer, program, points, size) for points in grids for size in _BATCH_SIZES)
        worst = max(checks, key=lambda check: check.difference)
        if not worst.difference <= TOLERANCE:
            grid = " × ".join(map(str, worst.num_points))
            raise RunError(
                f"The exported file '{path.name}' differs from the operator by {worst.difference:.2g} on {grid} points "
                f"with {plural(worst.batch_size, 'sample')}; {TOLERANCE:g} is allowed. It was deleted; choose "
                "another format."
            )
        aside.replace(path)
    except OSError as error:
        raise RunError(
            f"Cannot write '{path}': {error.strerror or error}. Choose another folder with --out."
        ) from error
    finally:
        aside.unlink(missing_ok=True)
    return checks


def _check(answer: Answer, program: _Program, num_points: tuple[int, ...], batch_size: int) -> ExportCheck:
    samples = program.samples(num_points, batch_size)
    (exported, seconds), (original, seconds_original) = _timed(answer, samples), _timed(program, samples)
    norm, distance = (fields.double().flatten(2).norm(dim=2) for fields in (original, exported - original))
    relative = torch.where(distance == 0, distance, distance / norm)
    return ExportCheck(num_points, batch_size, float(relative.max()), seconds, seconds_original)


def _timed(answer: Answer, samples: tuple[Tensor, Tensor]) -> tuple[Tensor, float]:
    result, times = answer(*samples), []
    for _ in range(3):
        start = time.perf_counter()
        answer(*samples)
        times.append(time.perf_counter() - start)
    return result, statistics.median(times)


# --- what an operator can be exported to: how each kind of file is written, and how it is run -------------------------


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
def _exporting(failure: str) -> Iterator[None]:
    """Keep exporters from talking, and turn their errors into a `RunError` that begins with `failure`."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        message = next((line for line in str(error).splitlines() if line.strip()), "")
        raise RunError(
            f"{failure} ({type(error).__name__}: {message}). Choose another format, or another network."
        ) from error
    finally:
        logging.disable(before)


def _write_torch_export(traced: torch.export.ExportedProgram, about: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    torch.export.save(traced, content, extra_files={"scifm.json": json.dumps(about)})
    return content.getvalue()


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
    "torch-export": ExportFormat(".pt2", _write_torch_export, lambda path: torch.export.load(path).module()),
}
"""What an operator can be exported to."""
