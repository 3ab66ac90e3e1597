"""Families of graders: pure functions of an answer and its row."""
