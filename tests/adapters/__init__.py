"""Tests of the adapters: every test runs with httpx and httpx2, and in both worlds where there are two."""
