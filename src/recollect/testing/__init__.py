"""For the tests of programs that use Recollect: a local model server, and a clock that stands still."""

from recollect.testing.answer import Answer, Failure
from recollect.testing.clock import FrozenClock
from recollect.testing.server import ResponsesServer

__all__ = ["Answer", "Failure", "FrozenClock", "ResponsesServer"]
