"""One service over one data folder: start, stop, sockets, connections, bounds."""
