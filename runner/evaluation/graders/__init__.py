"""One module for each family of graders. A grader is a pure function of an answer and its row."""
