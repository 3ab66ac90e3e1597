"""Grades outputs by expectations. Calls no model."""
