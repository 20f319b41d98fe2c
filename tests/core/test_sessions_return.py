"""A member who is forgotten and comes back within one run: nothing that must be unique begins anew."""

from clanmesh_protocol.messages import parse_header_untrusted
from tests.core.test_sessions import CLAN, node, prove, record_of, sealed, sessions


def test_no_nonce_is_used_twice_when_a_member_returns() -> None:
    left = sessions(0)
    members = [keys.node for keys in CLAN.keys]
    nonces = [parse_header_untrusted(sealed(left, 1)).nonce for _ in range(5)]
    left.set_members([node(0), node(2)])
    left.set_members(members)
    left.set_record(node(1), record_of(node(1)))
    nonces += [parse_header_untrusted(sealed(left, 1)).nonce for _ in range(5)]
    assert len(set(nonces)) == len(nonces)


def test_no_token_is_good_again_when_a_member_returns() -> None:
    left, right = sessions(0), sessions(1)
    tokens = [right.token(node(0))]
    prove(left, right, 0, 1)
    tokens.append(right.token(node(0)))
    right.set_members([node(1), node(2)])
    right.set_members(keys.node for keys in CLAN.keys)
    tokens.append(right.token(node(0)))
    assert len(set(tokens)) == 3
