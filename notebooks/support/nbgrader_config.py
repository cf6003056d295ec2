"""nbgrader's configuration for a class: copy this file to the folder of the course.

Student notebooks already lack the bodies of the functions to write, so nbgrader need not remove
solutions from the cells of an assignment.
"""

c = get_config()  # noqa: F821 - nbgrader defines this function

c.CourseDirectory.course_id = "rnn-scratch"
c.GenerateAssignment.preprocessors = [
    "nbgrader.preprocessors.LockCells",
    "nbgrader.preprocessors.ComputeChecksums",
    "nbgrader.preprocessors.SaveCells",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.Execute.timeout = 600  # seconds per cell; some cells train a network
