"""nbgrader's configuration for a class: copy it to the folder of the course.

Functions are to be written where their bodies are missing already, so that nothing is removed from
the cells of an assignment.
"""

c = get_config()  # noqa: F821 - which nbgrader defines

c.CourseDirectory.course_id = "rnn-scratch"
c.GenerateAssignment.preprocessors = [
    "nbgrader.preprocessors.LockCells",
    "nbgrader.preprocessors.ComputeChecksums",
    "nbgrader.preprocessors.SaveCells",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.Execute.timeout = 600  # seconds for a cell: one trains
