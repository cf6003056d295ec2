"""Stubs and solutions for the functions that students write in a notebook."""

import functools

from make import lessons

GRADING = "grading.graded("
TRAINING = "model, curve = train()"  # line that starts the long training run


@functools.cache
def solutions(backend, lesson="build"):
    """Return the stub and solution of each student-written function, keyed by function name."""
    parts = lessons.read_parts(lesson)
    pieces = {
        name: (lessons.find(backend, name)[0], num_statements)
        for name, num_statements in lessons.find_tasks(parts, backend).items()
    }
    return {
        name: (lessons.stub(piece, num_statements), piece.source)
        for name, (piece, num_statements) in pieces.items()
    }


def written(cell, backend, lesson="build"):
    """Return a cell's source, with each stub replaced by its solution."""
    for stub, source in solutions(backend, lesson).values():
        cell = cell.replace(stub, source)
    return cell


def imports(backend):
    """Return the imports of a backend's `scratch.py`, as rendered in the notebooks."""
    return lessons.make_code(lessons.Part("imports", "", 0, []), backend, set()).source
