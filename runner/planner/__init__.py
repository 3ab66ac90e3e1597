"""Input rows to requests: reads input and templates, writes only into the scratch folder it is given."""
