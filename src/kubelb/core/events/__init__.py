"""Records of what happened: the only thing that logs, metrics and listeners see.

Rooms emit them through a callable ``emit(event)`` that never blocks and never raises. No event exists for the ordinary
success of a request: those are counted where they happen. `base` says what an event is, and how a new kind is added.
"""

from kubelb.core.events.base import Emit as Emit
from kubelb.core.events.base import Event as Event
from kubelb.core.events.base import Level as Level
from kubelb.core.events.base import discard as discard
from kubelb.core.events.counters import OTHER as OTHER
from kubelb.core.events.counters import Attribute as Attribute
from kubelb.core.events.counters import Attributes as Attributes
from kubelb.core.events.counters import Counter as Counter
from kubelb.core.events.discovery import *  # noqa: F403 - each of them, without being named here too
from kubelb.core.events.endpoints import *  # noqa: F403
from kubelb.core.events.requests import *  # noqa: F403
