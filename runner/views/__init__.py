"""Text for people and programs, made from values: plans, tables, JSON lines, reports."""
