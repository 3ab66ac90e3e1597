"""Reports, job history, and changes of answers. Reads only."""
