"""Tests of the embedded service: real sockets, no test client, nothing of the client's code."""
