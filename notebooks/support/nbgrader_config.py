"""nbgrader configuration for a class; copy this file to the course folder.

Student notebooks already omit the bodies of the functions to write, so nbgrader need not remove
solutions when it generates an assignment.
"""

from nbformat import v4
from nbgrader.preprocessors import NbGraderPreprocessor

from rnn_scratch.support import grading


class Grade(NbGraderPreprocessor):
    """Write the grades of the functions' source code into a notebook, which is not executed."""

    def preprocess(self, nb, resources):
        """Replace the outputs of the cells that nbgrader grades."""
        grades = grading.grade_notebook(nb)
        for cell in nb.cells:
            match = grading.POINTS_CELL.search(cell.source)
            if match and match[1] in grades:
                is_right, message = grades[match[1]]
                data = {"text/plain": str(int(is_right))}
                result = v4.new_output("execute_result", data, execution_count=cell.execution_count)
                cell.outputs = [v4.new_output("stream", text=f"{message}\n"), result]
        return nb, resources


PREFIX = "nbgrader.preprocessors"
c = get_config()  # noqa: F821 - nbgrader defines this function

c.CourseDirectory.course_id = "rnn-scratch"
c.GenerateAssignment.preprocessors = [
    f"{PREFIX}.{name}"
    for name in ("LockCells", "ComputeChecksums", "SaveCells", "CheckCellMetadata")
]
# nbgrader's default executes the notebook, which could change the grader for later submissions.
c.Autograde.autograde_preprocessors = [
    Grade,
    f"{PREFIX}.SaveAutoGrades",
    f"{PREFIX}.CheckCellMetadata",
]
