"""Result lines to answers, answers to output files, and back."""
