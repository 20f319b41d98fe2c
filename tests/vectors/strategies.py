"""Hypothesis strategies for every value that travels."""

from typing import Any

from hypothesis import strategies as st

from clanmesh_protocol import messages, records, signalling, streams
from clanmesh_protocol.endpoints import Endpoint, is_candidate
from clanmesh_protocol.tokens import Token

UINT64 = st.integers(0, 2**64 - 1)
UINT32 = st.integers(0, 2**32 - 1)
KEY = st.binary(min_size=32, max_size=32)
SIGNATURE = st.binary(min_size=64, max_size=64)
SHORT_ID = st.binary(min_size=8, max_size=8)
COMMIT = st.sampled_from([20, 32]).flatmap(lambda size: st.binary(min_size=size, max_size=size))
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)
ACCOUNT = st.from_regex(r"[a-z_][a-z0-9_-]{0,30}", fullmatch=True)
TAGS = st.sets(LABEL, max_size=16).map(lambda tags: tuple(sorted(tags)))
LINE = st.text(
    st.characters(min_codepoint=0x20, exclude_characters="\x7f", exclude_categories=["Cs"]), max_size=30
)
IP = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16).filter(is_candidate)).filter(
    lambda ip: not ip.startswith(bytes(10) + b"\xff\xff")
)
ENDPOINT = st.builds(Endpoint, IP, st.integers(1, 65_535))


def tuples(of: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[tuple[Any, ...]]:
    """Tuples of at most `most` values."""
    return st.lists(of, max_size=most).map(tuple)


ADMINS = st.lists(
    st.builds(records.Admin, KEY, st.integers(1, 1000)), min_size=1, max_size=8, unique_by=lambda admin: admin.node
).map(tuple)
OPERATIONS = st.one_of(
    st.builds(records.Genesis, LABEL, ADMINS, st.none() | KEY, tuples(LINE, 5)),
    st.builds(records.SignerAdd, LINE),
    st.builds(records.SignerRemove, LINE),
    st.builds(records.Checkpoint, LABEL, COMMIT),
    st.sets(COMMIT, min_size=2, max_size=17)
    .map(sorted)
    .flatmap(lambda heads: st.builds(records.Resolution, LABEL, st.just(heads[-1]), st.just(tuple(heads[:-1])))),
)
CONTENTS = st.one_of(
    st.builds(records.Credential, KEY, LABEL, TAGS, UINT64, st.none() | KEY),
    st.builds(records.Revocation, KEY, LINE),
    st.builds(
        records.Status,
        st.none() | COMMIT,
        st.none() | COMMIT,
        st.sampled_from(records.RolloutState),
        UINT64,
        st.sampled_from(records.SecretsState),
        tuples(COMMIT, 4),
    ),
    st.builds(
        records.Node,
        KEY,
        KEY,
        st.lists(st.tuples(st.integers(0, 255), KEY), min_size=1, max_size=4).map(tuple),
        tuples(ENDPOINT, 8),
        st.integers(0, 65_535),
        KEY,
        UINT32,
        SIGNATURE,
    ),
    st.builds(records.Head, st.none() | COMMIT, COMMIT, st.binary(max_size=1900)),
    st.builds(
        records.Secret,
        UINT64,
        st.none() | KEY,
        ACCOUNT,
        ACCOUNT,
        st.integers(0, 0o777),
        tuples(LABEL, 4),
        tuples(st.builds(records.Wrap, KEY, st.binary(min_size=80, max_size=80)), 4),
        st.binary(min_size=24, max_size=24),
        st.binary(max_size=300),
        st.integers(0, 32_768),
        tuples(KEY, 4),
    ),
    st.builds(records.Suspicion, tuples(st.tuples(KEY, UINT64), 20)),
    st.builds(records.Invite, KEY, st.none() | LABEL, TAGS, st.integers(1, 1000), UINT64),
    st.builds(records.Redemption, KEY, KEY, KEY, LABEL, UINT64, SIGNATURE, SIGNATURE),
    st.builds(records.Directive, st.integers(0, 255), LABEL, UINT64, COMMIT, LINE),
)

SEEN = st.builds(signalling.Seen, st.none() | ENDPOINT, st.none() | ENDPOINT)
CALLS = st.builds(
    signalling.Call,
    KEY,
    KEY,
    UINT64,
    st.integers(0, 255),
    st.integers(0, 255),
    tuples(st.builds(signalling.Candidate, st.integers(0, 255), ENDPOINT), 8),
    SIGNATURE,
).filter(lambda call: call.caller != call.callee)
_PREFIX = st.lists(st.integers(0, 63), max_size=3).map(bytes)
_ROOT = st.binary(min_size=16, max_size=16)
FRAMES = st.one_of(
    st.builds(messages.Ping, UINT32, SHORT_ID, SHORT_ID, _ROOT),
    st.builds(messages.Ack, UINT32, SHORT_ID, SHORT_ID, _ROOT),
    st.builds(messages.PingRequest, UINT32, KEY),
    st.builds(messages.IndirectResult, UINT32, st.booleans()),
    st.builds(messages.RecordFrame, st.binary(max_size=200)),
    st.builds(messages.IHave, tuples(SHORT_ID, 8)),
    st.builds(messages.Want, tuples(SHORT_ID, 8)),
    st.builds(messages.Leaf, _PREFIX, tuples(SHORT_ID, 8)),
    SEEN,
    CALLS,
)
DIGESTS = st.builds(messages.Digest, _PREFIX, st.lists(SHORT_ID, min_size=64, max_size=64).map(tuple))
HEADERS = st.builds(
    messages.Header, st.sampled_from(messages.Seal), st.integers(0, 255), st.integers(0, 255), SHORT_ID, _ROOT
)

_RECORD = st.binary(min_size=98, max_size=300)
STREAM_FRAMES = st.one_of(
    st.builds(streams.Greeting, st.just(1), KEY, KEY),
    st.builds(streams.Hello, _ROOT, KEY, st.from_regex(r"[a-z]{1,16}", fullmatch=True), SIGNATURE),
    st.just(streams.Accept()),
    st.builds(streams.Refuse, LABEL, LINE),
    st.builds(streams.Join, KEY, KEY, KEY, LABEL, SIGNATURE, SIGNATURE),
    st.builds(streams.Welcome, _ROOT, LABEL),
    st.builds(streams.Bundle, tuples(_RECORD, 5)),
    st.builds(streams.WantRecords, tuples(SHORT_ID, 20)),
    st.builds(streams.RecordData, _RECORD),
    st.builds(streams.Log, tuples(LINE, 5)),
    st.just(streams.End()),
    st.builds(streams.WantRelay, KEY, st.booleans()),
    st.builds(streams.Relayed, tuples(ENDPOINT, 8), st.integers(0, 3600), KEY),
    st.builds(streams.Release, KEY),
)
TOKENS = st.builds(Token, _ROOT, LABEL, KEY, KEY, KEY, KEY, UINT64, _ROOT, UINT64, tuples(ENDPOINT, 6))
