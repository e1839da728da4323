"""Tests of the adapter for requests, on real sockets."""
