"""One service over one data folder."""
