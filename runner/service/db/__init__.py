"""What the service keeps: its database, and the files of uploads and results."""
