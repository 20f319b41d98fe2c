"""What can be wrong with bytes that somebody else made.

Every class names who is at fault: a `ProtocolError` is always the sender's. The receiver drops the input,
counts it under `code`, writes one debug line and answers nothing. No receiver state has changed when one
of these is raised.
"""

from typing import ClassVar


class ProtocolError(Exception):
    """The sender broke a rule of the protocol."""

    code: ClassVar[str] = "protocol"


class MalformedError(ProtocolError):
    """The bytes have no meaning: truncated, of a wrong type, with something behind their end."""

    code = "malformed"


class LimitError(ProtocolError):
    """The bytes have a meaning but are larger or more numerous than the protocol allows."""

    code = "limit"


class VersionError(ProtocolError):
    """The bytes are of a later version of the protocol than this one."""

    code = "version"


class SignatureError(ProtocolError):
    """The signature does not hold for this content, author and clan."""

    code = "signature"


class StaleError(ProtocolError):
    """The register already holds something newer."""

    code = "stale"


class UnauthorizedError(ProtocolError):
    """The author is not a member, or may not say this."""

    code = "unauthorized"


class ExpiredError(ProtocolError):
    """The content was good once; its time is over."""

    code = "expired"
