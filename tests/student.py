"""A student's copy of a notebook: what is to be written in it, and the functions that may be."""

import functools

from make import lessons

GRADING = "grading.graded("
# The README's edit: a network without its memory.
EDIT = ('"W_xh"] + h', '"W_xh"] + 0 * h')
TRAINING = "model, curve = train()"  # in the cell that trains for the first time


@functools.cache
def solutions(backend, lesson="build"):
    """What the student's copy has in place of each function to write, and the function."""
    parts = lessons.text_of(lesson)
    pieces = {
        name: (lessons.find(backend, name)[0], after)
        for name, after in lessons.writes(parts, backend).items()
    }
    return {
        name: (lessons.stub(piece, after), piece.source) for name, (piece, after) in pieces.items()
    }


def written(cell, backend, lesson="build"):
    """The cell with the functions that are to be written in it."""
    for stub, source in solutions(backend, lesson).values():
        cell = cell.replace(stub, source)
    return cell
