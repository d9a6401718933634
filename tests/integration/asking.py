"""What the tests ask of a suspect on loopback, and how: one attempt each, and briefly."""

from datetime import UTC, datetime
from ipaddress import ip_network

from app.keys.trigger_set import ImageInput
from app.suspects.addresses import NetworkRules
from app.suspects.probe import Manner, Question, Suspect
from app.suspects.transport import Limits

RULES = NetworkRules(allowed_networks=(ip_network("127.0.0.0/8"),), allow_http=True, ports=None)
BRIEF = Limits(connect_seconds=1, read_seconds=0.3, total_seconds=0.6)
ONCE = Manner(attempts=1, limits=BRIEF)


def now():
    return datetime(2026, 1, 31, 12, tzinfo=UTC)


def question(n):
    return Question(n, ImageInput(8, 8, 1, bytes([n % 256] * 64)).encode())


def scores(asked):
    """Vote for the class that is the first pixel modulo ten."""
    return [1.0 if label == asked[-1] % 10 else 0.0 for label in range(10)]


def suspect_of(simulator, **changes):
    return Suspect(**{"endpoint": simulator.url, "interface": simulator.interface, "class_count": 10} | changes)


BODY = b'{"instances":[' + str([[[7]] * 8] * 8).encode() + b"]}"
