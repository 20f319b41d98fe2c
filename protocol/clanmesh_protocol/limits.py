"""Every number of the protocol, with its unit and its reason.

The first part is specification: changing one of these breaks peers. The second part is this implementation's
own choice of bounds that others cannot see.
"""

from typing import Final

# --- Specification constants ---------------------------------------------------------------------------

KEY_BYTES: Final = 32  # Ed25519 and X25519 public keys alike
SIGNATURE_BYTES: Final = 64
RECORD_ID_BYTES: Final = 32  # BLAKE2b-256
CLAN_ID_BYTES: Final = 16  # BLAKE2b-128 of the genesis: collisions need 2^64 work and gain nothing
SHORT_ID_BYTES: Final = 8  # record ids in IHAVE and WANT; a collision costs one redundant record

RECORD_VERSION: Final = 1
RECORD_HEADER_BYTES: Final = 1 + KEY_BYTES + SIGNATURE_BYTES
RECORD_BYTES_MAX: Final = 65_536 + 1024  # the largest sealed secret and its envelope
RECORD_DATAGRAM_BYTES_MAX: Final = 1000  # larger ones are announced and fetched over a stream
SLOT_BYTES_MAX: Final = 32
MSGPACK_DEPTH_MAX: Final = 4  # the deepest payload of ours is 3; a stack is never at a peer's mercy

NAME_BYTES_MAX: Final = 32  # of a clan, a node, a secret: fits a DNS label and a slot
TAGS_MAX: Final = 16
TAG_BYTES_MAX: Final = 32
ADMINS_MAX: Final = 32
SIGNERS_MAX: Final = 64
SIGNER_LINE_BYTES_MAX: Final = 1024  # an RSA-4096 line of authorized_keys is 736
ENDPOINTS_MAX: Final = 8
PREKEYS_MAX: Final = 4
SUSPICIONS_MAX: Final = 20
BAD_COMMITS_MAX: Final = 4  # failed revisions that a status still names
DIRECTIVE_REASON_BYTES_MAX: Final = 128  # one sentence for a person
ABANDONED_MAX: Final = 16  # heads that one resolution leaves behind: as many as an author has refs
RECIPIENTS_MAX: Final = 256  # wraps of one secret; 256 x 112 B leave half of a record to the value
SECRET_VALUE_BYTES_MAX: Final = 32_768
INVITE_USES_MAX: Final = 1000
FORERUNNERS_MAX: Final = 64  # keys that one device had before: set up anew each month for five years
ADMIN_WEIGHT_MAX: Final = 1000
REPLACED_MAX: Final = 2  # credentials that one names as replaced: more than one only after two admins raced
SETTINGS_MAX: Final = 64
SETTING_VALUE_BYTES_MAX: Final = 256
OPERATION_MAX: Final = 255
OPERATION_ROUTINE_MIN: Final = 128  # operations from here on need the routine threshold, lower ones a majority

SLOTS_PER_AUTHOR_MAX: Final = {
    0: 4096,  # authority operations, one slot each: decades of monthly changes
    1: 4096,
    2: 4096,
    3: 1,
    4: 1,
    5: 16,  # refs
    6: 1024,  # secrets
    7: 1,
    8: 1,
    9: 16,
    10: 1024,  # invites
    11: 4096,  # redemptions a member admitted
    12: 4096,  # approvals of operations: as many as there can be operations
    13: 1,
    14: 16,  # proofs of equivocation, one for each author caught
    15: 64,  # directives; as for a kind that is not known, so that versions before this one keep the same
}
# Of records about the authority by keys without a say, in all: 300 kB, and 30 ms of each fold.
VOID_RECORDS_MAX: Final = 1024
SLOTS_PER_AUTHOR_UNKNOWN_KIND_MAX: Final = 64
SLOTS_PER_AUTHOR_UNKNOWN_KINDS_MAX: Final = 256  # of all of them together: 240 kB, where each kind alone is 60 kB

PAYLOAD_BYTES_MAX: Final = {
    0: 4096,
    1: 768,
    2: 256,
    3: 256,
    4: 800,
    5: 2048,
    6: 65_536,
    7: 900,
    8: 64,
    9: 800,
    10: 768,
    11: 512,
    12: 64,
    13: 64,
    14: 4096,  # two records: of credentials, operations and node records, not of secrets
    15: 800,  # as for a kind that is not known
}
PAYLOAD_BYTES_UNKNOWN_KIND_MAX: Final = 800

DATAGRAM_VERSION: Final = 1
DATAGRAM_BYTES_MAX: Final = 1200  # passes every path with the IPv6 minimum MTU of 1280
DATAGRAM_HEADER_BYTES: Final = 29
DATAGRAM_TAG_BYTES: Final = 16
FRAMES_PER_DATAGRAM_MAX: Final = 64
DIGEST_BUCKETS: Final = 64
CALL_CANDIDATES_MAX: Final = 8  # as many as a node record has endpoints

STREAM_VERSION: Final = 1
STREAM_FRAME_BYTES_MAX: Final = 262_144  # four of the largest records; a bundle of many small ones
STREAM_NONCE_BYTES: Final = 32
STREAM_WANTS_MAX: Final = 1024  # short ids of one request; the asker asks again for the rest
STREAM_LINES_MAX: Final = 1000  # of one LOG frame
STREAM_LINE_BYTES_MAX: Final = 4096
STORE_LINE_BYTES_MAX: Final = 128  # a name of 64 and 44 of base64, with what stands between and behind
PACK_COMMITS_MAX: Final = 16  # that a pack may build upon; more would be more talk than pack
ASK_BYTES_MAX: Final = 16
TRIED_STATE_BYTES_MAX: Final = 16
TRIED_WHY_BYTES_MAX: Final = 1024  # some lines of a terminal
RELAY_LIFETIME_S_MAX: Final = 3600  # of a pair at a relay without being asked for again
RELAY_TOKEN_BYTES: Final = 32
RELAY_DATAGRAM_BYTES_MAX: Final = 2048  # of WireGuard's on a stream: an Ethernet frame's, and some room
BIND_BYTES: Final = 48  # and the answer has as many, so that nobody gains by asking in another's name
BIND_MAC_BYTES: Final = 16
PURPOSE_BYTES_MAX: Final = 16
REFUSAL_CODE_BYTES_MAX: Final = 32
REFUSAL_WHY_BYTES_MAX: Final = 256  # one sentence for a person
STREAM_RECORDS_MAX: Final = 50_000  # records of one bundle; a clan of 1000 has about 5000
TOKEN_VERSION: Final = 1
TOKEN_BYTES_MAX: Final = 512  # before bech32m; its QR code still fits a terminal of 80 columns
TOKEN_ENDPOINTS_MAX: Final = 6
DISCOVERY_BYTES: Final = 16  # the secret under the mDNS tag

CONTROL_FRAME_BYTES_MAX: Final = 4_194_304  # the peers of 1000 nodes are about 600 kB

PORT_DEFAULT: Final = 51871  # gossip (UDP) and streams (TCP)
TUNNEL_PORT_DEFAULT: Final = 51872  # WireGuard
