"""Grades outputs against expectations: graders, metrics, intervals, comparisons and gates. Calls no model."""
