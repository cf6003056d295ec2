"""A student's path: the functions of a copy written, as in `scratch.py`, and a line edited.

`python tests/tools/student.py torch`, in the folder of a clone, opens the student's copy, writes
its functions, runs all its cells, and demands that each function passes its grading. Then it edits
the recurrent cell, trains again, and demands another curve.
"""

import functools
import sys

from make import chapter

from rnn_scratch.show import source_code

GRADING = "grading.graded("
# The README's edit: a network without its memory.
EDIT = ('"W_xh"] + h', '"W_xh"] + 0 * h')
TRAINING = "model, curve = train(after_epoch=measure)"  # in the cell that trains for the first time


@functools.cache
def solutions(backend):
    """What the student's copy has in place of each function to write, and the function."""
    parts = chapter.parse(chapter.TEXTS / "chapter.md")
    pieces = {
        name: (source_code.find(backend, name)[0], after)
        for name, after in chapter.writes(parts, backend).items()
    }
    return {
        name: (chapter.stub(piece, after), piece.source) for name, (piece, after) in pieces.items()
    }


def written(cell, backend):
    """The cell with the functions that are to be written in it."""
    for stub, source in solutions(backend).values():
        cell = cell.replace(stub, source)
    return cell


def main(backend):
    """Take the whole path in one framework."""
    import nbformat
    from nbclient import NotebookClient

    path = chapter.TEXTS / f"{backend}-student.ipynb"
    where = {"metadata": {"path": str(chapter.TEXTS)}}

    def run(edit, end):
        notebook = nbformat.read(path, as_version=4)
        notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        for cell in notebook.cells:
            cell.source = written(cell.source, backend).replace(*edit)
        if end:
            last = next(n for n, cell in enumerate(notebook.cells) if TRAINING in cell.source)
            del notebook.cells[last + 1 :]
        NotebookClient(notebook, timeout=600, resources=where).execute()
        text = {
            cell.source: "".join(o.get("text", "") for o in cell.outputs) for cell in notebook.cells
        }
        gradings = {source: output for source, output in text.items() if GRADING in source}
        (curve,) = (output for source, output in text.items() if TRAINING in source)
        return gradings, curve

    gradings, curve = run(("", ""), end=False)
    assert len(gradings) == len(solutions(backend)) >= 7
    for source, output in gradings.items():
        print(output.strip())
        assert "equal to the reference, in" in output, source
    gradings, edited = run(EDIT, end=True)
    off = [output.strip() for output in gradings.values() if "is off by" in output]
    print("after an edit of the cell:", *off, sep="\n")
    assert off
    assert off[0].startswith("rnn: not yet equal")
    print("the curve before and after:", curve, edited, sep="\n")
    assert curve != edited


if __name__ == "__main__":
    main(sys.argv[1])
