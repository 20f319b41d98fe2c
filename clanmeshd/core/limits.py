"""The core's own numbers, with unit and reason. Peers need not agree on any of them.

Those that peers must agree on stand in `clanmesh_protocol.limits`.
"""

from typing import Final

# --- Failure detection ---------------------------------------------------------------------------------

PROBE_INTERVAL_S: Final = 1.0  # one probe a second keeps an idle node under 300 B/s
WATCHED: Final = 5  # members that each one watches: it is probed about once a second, by five in turn
WATCHED_ALL_MAX: Final = 6  # others of a clan so small that everybody watches everybody
SWEEP_EVERY: Final = 5  # every so many probes go to one that is not watched: its path and round trip stay known
PROBE_GREETING_INTERVAL_S: Final = 0.05  # until each member was tried once after a start: 10 in half a second
PROBE_GREETING_SOON_S: Final = 1.0  # faster in clans that would take longer, 50 members at 50 a second;
PROBE_GREETING_INTERVAL_S_MIN: Final = 0.01  # but no faster than this, which is 20 kB/s,
PROBE_GREETING_S: Final = 10.0  # unless it would take longer than that: in clans of over 1000
GREETINGS_AGAIN: Final = 3  # tries of one whom others reach, or that answered a hello: with a tenth lost, 2 in a
# million need more
PROBE_TIMEOUT_S_MIN: Final = 0.2  # a LAN answers in 1 ms; a busy machine's scheduler may not
PROBE_TIMEOUT_S_MAX: Final = 0.5  # twice the round trip to the far side of the Earth
INDIRECT_TIMEOUT_S: Final = 0.7  # for those asked: one probe of theirs and two ways to us
INDIRECT_PEERS: Final = 3  # SWIM's choice: more adds bytes, hardly certainty
CONFIRM_INTERVAL_S: Final = 0.25  # pings to a suspect: 8 in the refutation window, lost together in 2 of 10^6
CONFIRM_FAILED_S: Final = 1.0  # unanswered for so long, an asked-for confirmation counts as a suspicion of our own
DOUBT_S: Final = 0.5  # two pings more before a vote; and as many, where pings are lost, that chance alone
DOUBT_S_MAX: Final = 2.0  # lets one vote of so few in vain:
DOUBT_CHANCE: Final = 0.002  # with that of the probe before them, 10 rash votes a minute in a clan of 1000
TURN_S_PER_MEMBER: Final = 0.002  # between votes that others' votes have caused: a record is everywhere in 20 ms
TURNS_S_MAX: Final = 1.0  # within the refutation window, so that the verdict of none comes later for it
REFUTATION_S: Final = 2.0  # a suspect's time to be heard; an order above the slowest dissemination seen
REFUTATION_PAIR_S: Final = 2.5  # of a clan of two, where nobody else can vouch
WITNESSES_MAX: Final = 3  # distinct signed suspicions that `down` needs at most
UNWITNESSED_S: Final = 30.0  # with too few live witnesses left (a power cut) own evidence is enough by then
SUSPECT_INTERVAL_S: Final = 1.0  # pings to one that stays suspect after its window
DOWN_INTERVAL_S: Final = 5.0  # one member that is down is tried again each time, for ever: partitions heal alone
REVIVAL_INTERVAL_S: Final = 0.1  # when one comes back, the other lost ones are tried at this pace, once each,
REVIVAL_S: Final = 5.0  # and faster when they are so many that it would take longer: half of 1000 at 100 a second
CONFIRMATIONS_PER_S: Final = 5.0  # that others' suspicions can make us do
CONFIRMATIONS_S: Final = 50.0  # for all members, in clans where those 5 would take longer: 20 a second with 1000
CONFIRMATIONS_BURST: Final = 20.0  # as many as one suspicion record can name
CONFIRM_AGAIN_S: Final = 3.0  # a member that just answered a confirmation is not asked again for others' sake
LOCAL_HEALTH_MAX: Final = 8  # Lifeguard's S: patience grows up to ninefold
PROBE_SLOWDOWN_MAX: Final = 3  # and the pace falls to a third: slower, a lone node would take minutes to see it
PAUSE_S: Final = 1.0  # a deadline met so late says that *we* were away: no verdict stands on that time
SUSPICION_TTL_S: Final = 60  # votes of a voter that fell silent lapse
SUSPICION_REPEAT_S: Final = 25.0  # standing votes are said again before they lapse
SUSPICION_INTERVAL_S: Final = 0.2  # several votes of one moment share a record
WITHDRAWAL_S: Final = 5.0  # votes that are taken back are in no hurry: without a ping that fails none counts
PINGS_OUTSTANDING_MAX: Final = 512  # numbers we remember; the oldest go first
RELAYS_MAX: Final = 64  # indirect probes we do for others at once
RELAYS_EACH_MAX: Final = 16  # and for one of them: who asks without end keeps nobody else from being answered
PING_NUMBER_MAX: Final = 0xFFFF_FFFF

# --- Status --------------------------------------------------------------------------------------------

STATUS_INTERVAL_S: Final = 1.0  # several changes of one second share a record
REFUTATION_INTERVAL_S: Final = 0.2  # accusers cannot make us sign more often
REFUTATIONS_PER_S: Final = 0.1  # nor for long: each costs the whole clan a record
REFUTATIONS_BURST: Final = 3.0  # all that an honest clan in trouble asks for
STATUS_REFRESH_S: Final = 300.0  # an unchanged status is said again after this
STATUS_REFRESH_S_PER_MEMBER: Final = 20.0  # or after this times the members: the clan's sum stays constant
STATUS_TTL_REFRESHES: Final = 3  # refreshes that may be lost before a status lapses
STATUS_ANNOUNCE_EVERY: Final = 8  # every so many pings to a peer name our status: what was lost is found

# --- Arrival -------------------------------------------------------------------------------------------

AWAY_S: Final = 5.0  # unheard or asleep for so long, a device may lack what was said: one that is there hears
# somebody each second, or in three where probes are slow
ARRIVAL_S_MIN: Final = 1.0  # after the first member is heard: by then each of 50 was asked, and told its root
ARRIVAL_S_MAX: Final = 5.0  # sets that differ are found to and traded in two; a member that never agrees, or an
# empty house, costs no more

# --- Sessions ------------------------------------------------------------------------------------------

REPLAY_WINDOW_BITS: Final = 1024  # datagrams that may overtake one another; RFC 6479's usual size
OUTCASTS_MAX: Final = 64  # keys that are out and may still ask why, the newest
OUTCASTS_TOLD_MAX: Final = 16  # records that such a one is shown in turn: one for each hello
HELLO_PLAINTEXT_BYTES: Final = 640  # a node record with four prekeys and eight IPv6 endpoints fits
HELLO_INTERVAL_S: Final = 5.0  # to one peer whose datagrams cannot be read: they may be a stranger's
HELLO_ANSWER_INTERVAL_S: Final = 2.0  # to one peer, as an answer: two nodes never keep each other greeting
HELLO_EVERY: Final = 4  # every so many probes of a lost peer carry our node record
UNPROVEN_ACKS_PER_S: Final = 10.0  # to one peer whose boot id is not proven yet
UNPROVEN_ACKS_BURST: Final = 20.0
PREKEY_LIFE_S: Final = 86_400.0  # a new prekey each day
PREKEY_KEPT_S: Final = 172_800.0  # the old ones for two: a device that slept is understood
PREKEY_SETTLE_S: Final = 60.0  # a new prekey is used for sending once its node record had time to spread
PREKEY_CHECK_S: Final = 3600.0  # the wall clock may jump: look again at least so often

# --- Tunnel keys ---------------------------------------------------------------------------------------

TUNNEL_KEY_DAYS: Final = 30  # a stolen key opens nothing that was recorded, and admits its thief for so long
TUNNEL_KEY_DAYS_MAX: Final = 9999
TUNNEL_KEY_JITTER: Final = 0.1  # of that life: how much earlier a device may change
TUNNEL_CHECK_S: Final = 0.25  # while a change is under way: whether all know the next key
TUNNEL_CHECK_IDLE_S: Final = 5.0  # later, when somebody takes long to learn of it
TUNNEL_SETTLE_S: Final = 2.0  # after all know, or after another's change: several round trips of any path
TUNNEL_TURN_S_MAX: Final = 120.0  # for those with lower ids: fifty that change at once take so long
TUNNEL_APPLY_S_MAX: Final = 60.0  # where there is no WireGuard, or one that always fails
TUNNEL_LEARN_S_MAX: Final = 7 * 86_400.0  # a member that is up and never learns holds nobody up for longer

EXPIRY_CHECK_S: Final = 3600.0  # memberships that may have expired
REST_MEMBERS: Final = 32  # wanted states of clans up to this are worked out with each change
REST_S_PER_MEMBER: Final = 0.001  # for each one more they rest in between, unless somebody was added or removed

# --- Trust ---------------------------------------------------------------------------------------------

FOLDING_SHARE: Final = 0.1  # of a core, for folds that peers call for, as long as they do
FOLDING_BURST_S: Final = 0.25  # of folding after quiet: 200 folds in a clan of 10, 8 in one of 1000
FOLDING_DEBT_S_MAX: Final = 0.5  # what one fold or a row of our own words leave owing: a rest of 5 s
FOLDING_URGENT_S: Final = 0.5  # a removal waits no longer, whatever is owed
FOLD_S: Final = 0.000_8  # with all that follows from one; twice what was measured: 0.4 ms, and with 1000
FOLD_S_PER_RECORD: Final = 0.000_014  # members, 2000 records, 14 ms
TRUST_RECORDS_PER_S: Final = 20.0  # of one author, on the authority: what is beyond comes with a later comparison
TRUST_RECORDS_BURST: Final = 2048.0  # one admin may take over a clan of 1000 at once, two records for each

# --- Words of one author --------------------------------------------------------------------------------

SOFT_RECORDS_PER_S: Final = 1.0  # of status and suspicion, which costs each of 1000 nodes a datagram or four
SOFT_RECORDS_BURST: Final = 20.0  # as many as who sees half a clan vanish says in the seconds of it

# --- Governance ----------------------------------------------------------------------------------------

UPKEEP_S: Final = 10.0  # how soon an admin's device takes over what a more senior one that went away would do
UPKEEP_IDLE_S: Final = 3600.0  # with nothing to do: wall clocks jump
ACKNOWLEDGE_S: Final = 86_400.0  # an unchanged head is acknowledged anew each day: that shows how old a view is
RENEWALS_AT_ONCE_MAX: Final = 16  # credentials prolonged at one upkeep: a clan of 1000 within a quarter of an hour
RESAID_PER_S: Final = 0.1  # operations that lost a race and are said again: two admins never chase each other
RESAID_BURST: Final = 8.0
RESAID_WAITING_MAX: Final = 64  # operations of our own that wait to be said again
RESAID_AGE_S_MAX: Final = 7 * 86_400.0  # a proposal that nobody completed for a week is a person's to repeat
PROOF_DELAY_S: Final = 0.5  # between two members who could publish the same proof of equivocation
PROOF_RANKS_MAX: Final = 20  # members that take turns; all others say it after the last of them
PROOFS_WAITING_MAX: Final = 16  # as many as one author has slots
FORMER_BOOTS_MAX: Final = 4  # runs of a peer that we remember: one that comes back from there runs twice
CLONE_FADES_S: Final = 3600.0  # a device that was seen to run twice is said to for so long

# --- Paths ---------------------------------------------------------------------------------------------

WIDE_ENDPOINTS_MAX: Final = 3  # tried with one ping of a member that does not answer; others each time
SETTLING_S: Final = 1.0  # after an endpoint became the live one: what round trips are then both daemons' start
RECENT_ANSWERS: Final = 4  # of which, or of twice as many, the quickest is shown: half a minute at five watched
LIVE_ENDPOINT_S: Final = 10.0  # a live endpoint proven so lately is not left for another that works too
ALONE_S: Final = 0.6  # after a start or a move without any member's datagram: a greeting is answered in 0.5
SILENT_S: Final = 3.0  # and later: three probes, or twelve where somebody is in doubt
OPEN_AGAIN_S: Final = 10.0  # that datagrams pass again, until the streams in their place are ended
CARRIERS_KEPT: Final = 4  # streams that carry datagrams where none pass: all of a family see such a device up
CARRIERS_TRIED: Final = 4  # members that are tried at once
CARRIERS_ROUND_MAX: Final = 16  # members that are tried one after the other, then there is a pause
CARRIERS_PAUSES_S: Final = (1.0, 2.0, 5.0, 15.0, 60.0)  # then the last for ever: mostly nobody is there at all
HINTS_MAX: Final = 4  # addresses of a peer that nobody proved, newest last
SUGGESTIONS_MAX: Final = 16  # addresses that are being tried
SUGGESTION_MEMBERS_MAX: Final = 8  # members tried at one suggested address at once
SUGGESTION_INTERVAL_S: Final = 0.25  # doubled with each pass over the lost members
SUGGESTION_PASSES_MAX: Final = 6

# --- Meeting -------------------------------------------------------------------------------------------

SEEN_TIMES: Final = 3  # a new word on so many ACKs: with a tenth lost, one in a thousand is missed until the next
SEEN_AGAIN_S: Final = 300.0  # a word that still holds, 33 bytes at most; less often than any router forgets it
SEEN_LIFE_S: Final = 900.0  # of a word that is not said again: two repetitions were lost, or the observer is gone
MOVED_PINGS: Final = 4  # members that are asked at once after a change of addresses: two must see the same
LEFT_S: Final = 30.0  # after a move, members may still see a tunnel where it was: until a keepalive of 25 s comes
OBSERVERS_MAX: Final = 32  # members whose word is kept, the newest: three would do
REFLECTIONS_MAX: Final = 4  # endpoints that follow from them; a call has room for eight of all kinds
CALLS_PER_S: Final = 2.0  # taken from one caller: one that tries hard makes one in 0.3 s, for a second or two
CALLS_BURST: Final = 16.0
CALLS_CHECKED_PER_S: Final = 10.0  # signatures of calls that came by one member: 0.5 ms a second
CALLS_CHECKED_BURST: Final = 100.0  # one relay for a clan that starts all at once
CALLS_CARRIED_PER_S: Final = 10.0  # for one caller, who may begin with many callees at once
CALLS_CARRIED_BURST: Final = 100.0
CALLS_WAITING_MAX: Final = 256  # for the engine, which takes them at once; the oldest go first
CARRIERS_REMEMBERED: Final = 8  # that were asked to reach one callee, and shall not be the next again

# --- Records -------------------------------------------------------------------------------------------

VERIFICATIONS_PER_S: Final = 500.0  # per peer; 45 us each: one peer takes 2 % of a core at most
VERIFICATIONS_BURST: Final = 2000.0  # a first synchronisation with a clan of 400
FLOORS_OF_OTHERS_MAX: Final = (
    1024  # lapsed words of keys that are no members now and may become it again, the newest
)
PARKED_RECORDS_MAX: Final = 128  # records of authors that are no members yet
PARKED_BYTES_MAX: Final = 131_072
ECHOES_PER_S: Final = 20.0  # newer records given back to one peer that showed older ones
ECHOES_BURST: Final = 64.0

REPEATS_PER_S: Final = 0.1  # own words said again above what peers show of ours
REPEATS_BURST: Final = 128.0  # a restored device may have to repeat each secret that it set since
CLONE_WARNING_S: Final = 3600.0  # between two warnings that another device has our key

# --- Dissemination -------------------------------------------------------------------------------------

PUSH_ALL_PEERS_MAX: Final = 8  # with so many members the author itself reaches everyone
PUSH_RANDOM: Final = 1  # beside the two ring neighbours, in larger clans
RECENT_RECORDS_MAX: Final = 512  # of which we know who has them
RECENT_S: Final = 60.0  # by then each of 50 peers was pinged once; later it is anti-entropy's
TELL_STEPS_S: Final = (0.02, 0.06, 0.15, 0.35, 0.8)  # after a record came: the eager wave needs about 10 ms, and
# with a quarter of all datagrams lost a neighbour that missed it hears of it in 999 of 1000 cases
TELL_TICK_S: Final = 0.01  # what is due within such a time is told together: records often come in crowds
LAZY_PEERS: Final = 2  # told at random at the first step, whatever becomes of the ring
DRAWN_MAX: Final = 16  # looked at for those: with 1000 up, few know of a record at its beginning
LAZY_ROUNDS: Final = 3  # times that a recent record is named on pings to each peer
LAZY_TELLINGS: Final = 12  # and to all of them: what the wave and this have missed, comparing sets will find
IDS_PER_FRAME_MAX: Final = 64
WANTS_MAX: Final = 2048
WANTS_PER_PEER_MAX: Final = 1024  # no peer's inventions keep the others' records out
WANT_TIMEOUT_S: Final = 0.25  # doubled with each try
WANT_AGAIN_S: Final = 0.03  # unanswered for so long, whoever tells of it is asked too: a LAN takes 10 ms
WANT_TRIES_MAX: Final = 6  # later the next synchronisation brings it
ADVERTISERS_MAX: Final = 4
WANT_FETCH_TRY: Final = 3  # from this try on over a stream
FETCH_TIMEOUT_S: Final = 5.0  # a stream's turn before another advertiser is asked
FETCH_IDS_MAX: Final = 256  # of one effect
SERVED_RECORDS_PER_S: Final = 200.0  # to one peer that wants them, about 80 kB
SERVED_RECORDS_BURST: Final = 400.0
OUTBOX_FRAMES_MAX: Final = 512  # for one peer between two drains; the least urgent are dropped
REFUSED_MAX: Final = 1024  # ids not to be wanted again
REFUSED_S: Final = 30.0

FAREWELL_RECORDS_MAX: Final = 8  # told to a member that is none any more, so that it knows why
REVOCATIONS_SHOWN: Final = 2  # whole, beside the names: the newest are what a returning peer lacks most often
REVOCATIONS_NAMED_MAX: Final = 64  # to a peer that comes up, the newest: one frame

# --- Anti-entropy --------------------------------------------------------------------------------------

SYNC_DELAY_S: Final = 0.3  # a difference of roots that lasts so long is no wave still under way
SYNC_SECOND_DELAY_S: Final = 1.0  # more for the node with the higher id: one of a pair is enough
SYNC_INTERVAL_S: Final = 1.0  # between rounds with one peer
SYNC_BACKOFF_S_MAX: Final = 60.0  # rounds that change nothing come more and more seldom
LEAF_IDS_MAX: Final = 128  # of one leaf frame; larger parts are digested again
SYNC_FRAMES_PER_S: Final = 16.0  # digests and leaves to one peer
SYNC_FRAMES_BURST: Final = 80.0  # one whole digest answered by leaves
FETCH_INSTEAD: Final = 96  # records lacking from one peer, from which on a stream is cheaper
