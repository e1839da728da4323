"""For the child processes of tests, by PYTHONPATH: what they dial is looked at as in their parent."""

import loopback

loopback.install("child")
