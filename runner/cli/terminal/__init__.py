"""How a terminal shows text, progress, tables and logs."""
