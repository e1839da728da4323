"""`app.py` on eventlet's own WSGI server: ``python -m tests.habitat.eventlet_server PORT before|after``.


``before`` patches before everything, ``after`` once kubelb and its clients are imported. (gunicorn has no eventlet
worker any more.)
"""

import sys

sys.modules["trio"] = None  # eventlet's resolver leads to it while sockets are patched, which trio cannot be loaded in

import eventlet  # noqa: E402

if sys.argv[2] == "before":
    eventlet.monkey_patch()

from eventlet import wsgi  # noqa: E402
from tests.habitat.app import application  # noqa: E402

if sys.argv[2] == "after":
    eventlet.monkey_patch()

wsgi.server(eventlet.listen(("127.0.0.1", int(sys.argv[1]))), application, log_output=False)
