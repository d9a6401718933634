"""Every error, one tree by who is at fault, each with a stable code.

    TrapstreetError
      Refused               the caller is wrong; nothing changed; never retried
        Malformed             bytes or values that are not what the format says
          StatementNotCanonical
        SignatureInvalid      a signature does not fit key and bytes
        OpeningInvalid        an opening does not fit its commitment
        Unauthenticated       no valid API key
        Forbidden             the key lacks the scope
        NotFound              none, or not yours: the two look the same
        Conflict              out of order, or already there
          AlreadyRegistered
        PolicyRefused         understood, but not allowed by a rule or setting
        UnsupportedMedia      a body of another media type
        TooLarge              over a stated limit
        TooSlow               a body that does not come in time
        TooMany               over a stated rate
      ProofError            a proof, checkpoint, receipt or bundle does not hold
      Unavailable           something outside failed; the same call may succeed later
        DatabaseAway
        SuspectUnreachable    no connection, no answer in time
        SuspectMisbehaved     an answer that breaks the rules of its protocol
        TrainingFailed        the training child ended without a model

The code is what programs match on and is listed in docs/errors.md; the message is for people and says what to change.
A bug is not in this tree: it is a plain ValueError or AssertionError.
"""

from typing import ClassVar


class TrapstreetError(Exception):
    """Anything the service tells its caller, with a stable `code` and a message that says what to change."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, pointer: str = "", state: str = "") -> None:
        """Keep the message, a JSON pointer to the value at fault, and the current state where order matters."""
        super().__init__(message)
        self.message = message
        self.pointer = pointer
        self.state = state


class Refused(TrapstreetError):
    """The caller is wrong and nothing changed."""

    code = "refused"


class Malformed(Refused):
    """Bytes or values are not what the format says."""

    code = "malformed"


class StatementNotCanonical(Malformed):
    """A statement's bytes are not the one canonical form of its value."""

    code = "statement_not_canonical"


class SignatureInvalid(Refused):
    """A signature does not fit its key and bytes."""

    code = "signature_invalid"


class OpeningInvalid(Refused):
    """An opening does not fit its commitment."""

    code = "opening_invalid"


class Unauthenticated(Refused):
    """No API key, or none that is valid."""

    code = "unauthenticated"


class Forbidden(Refused):
    """The API key lacks the scope this call needs."""

    code = "forbidden"


class NotFound(Refused):
    """No such object, or not yours: the answer is the same bytes."""

    code = "not_found"

    def __init__(self, message: str = "there is no such object here", *, pointer: str = "", state: str = "") -> None:
        """Take no detail by default, so that another vendor's object looks like none."""
        super().__init__(message, pointer=pointer, state=state)


class Conflict(Refused):
    """The step does not fit the current state."""

    code = "conflict"


class AlreadyRegistered(Conflict):
    """The same statement was registered before; `receipt` is the first one."""

    code = "already_registered"

    def __init__(self, message: str, *, registration_id: str, receipt: str) -> None:
        """Carry the first registration's id and receipt."""
        super().__init__(message)
        self.registration_id = registration_id
        self.receipt = receipt


class PolicyRefused(Refused):
    """Understood, but a rule or a setting does not allow it."""

    code = "policy_refused"


class UnsupportedMedia(Refused):
    """The body is of another media type than this endpoint takes."""

    code = "unsupported_media_type"


class TooLarge(Refused):
    """The body or value is over its stated limit; nothing was stored."""

    code = "too_large"


class TooSlow(Refused):
    """The body did not come in time; nothing was stored."""

    code = "too_slow"


class TooMany(Refused):
    """Over a stated rate or count."""

    code = "too_many"


class ProofError(TrapstreetError):
    """A proof, checkpoint, receipt or bundle does not hold."""

    code = "proof_invalid"


class Unavailable(TrapstreetError):
    """Something outside failed; the same call may succeed later."""

    code = "unavailable"


class DatabaseAway(Unavailable):
    """The database did not answer."""

    code = "database_away"


class SuspectUnreachable(Unavailable):
    """The suspect's endpoint gave no connection or no answer in time."""

    code = "suspect_unreachable"


class SuspectMisbehaved(Unavailable):
    """The suspect's endpoint answered against its own protocol; `reason` is a stable word for the transcript."""

    code = "suspect_misbehaved"

    def __init__(self, message: str, *, reason: str = "bad_answer") -> None:
        """Carry the stable word that the transcript records."""
        super().__init__(message)
        self.reason = reason


class TrainingFailed(Unavailable):
    """The training child ended without a model."""

    code = "training_failed"
