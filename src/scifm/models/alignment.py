"""Samples in the order of names of an operator, and what is said of those that do not fit it."""

from __future__ import annotations

from scifm.errors import SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.wording import plural

__all__ = ["in_names_of"]


def in_names_of(ours: Signature, batch: Batch, *, knows_form: bool) -> Batch:
    """Return a batch in the order of names of an operator; a coefficient the batch lacks becomes zero.

    Args:
        ours: the operator's names.
        batch: with others.
        knows_form: whether some of its training samples had just these fields, while others had others.

    Raises:
        SignatureError: if the batch holds a name the operator does not know, or lacks a field that is needed.
    """
    theirs = batch.signature
    if (ours.num_spatial_dims, ours.evolves) != (theirs.num_spatial_dims, theirs.evolves):
        answered, given = (
            f"{'evolving' if names.evolves else 'steady'} problems in {plural(names.num_spatial_dims, 'dimension')}"
            for names in (ours, theirs)
        )
        raise SignatureError(
            f"The operator answers {answered} and the data are of {given}. Use data of a matching system, or "
            "fine-tune on some of them."
        )
    unknown = ours.missing_from(theirs)
    if not unknown and knows_form:
        return batch.aligned(ours)
    absent = tuple(name for name in ours.inputs if name not in theirs.inputs)
    if unknown or absent:
        raise SignatureError(
            f"The operator knows inputs {ours.inputs}, coefficients {ours.coefficients}, outputs {ours.outputs}; "
            + (f"the data also hold {unknown}" if unknown else f"the data lack {absent}")
            + ". Without an example it cannot be asked about those: fine-tune on some samples, which gives the "
            "operator the channels it lacks, or rename what is only called otherwise (--set rename.NEW=OLD)."
        )
    if batch.targets is not None and set(theirs.outputs) != set(ours.outputs):
        raise SignatureError(f"The operator answers {ours.outputs}; the data hold {theirs.outputs}.")
    return batch.aligned(ours)
