"""Result lines to answers, answers to output files, and output files back to answers."""
