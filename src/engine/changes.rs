//! What a step of the engine altered: the unit of commit, and what is wanted of the sources after it.

use serde::{Deserialize, Serialize};

use crate::id::{Address, AssetId, Header, NetworkId, SpendKey, Timestamp, TxId, WatchId};
use crate::look_ups::LookedUp;
use crate::record::Recorded;
use crate::request::{Expiry, Subject};

/// All that one or several steps altered. It is committed whole or not at all (invariant 2), and nothing in it may
/// leave the process before that (invariant 1).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Watches as they are now. One whose `archived` is set has left the engine's memory.
    pub watches: Vec<Recorded>,
    /// Claims as they are now; `None` was released.
    pub claims: Vec<(ClaimKey, Option<Claim>)>,
    /// New entries of the event log, in order, without a gap to the last committed one.
    pub events: Vec<Event>,
    /// Headers that joined the chain of a network.
    pub headers: Vec<(NetworkId, Header)>,
    /// Heights whose header left a network's chain, or fell out of its bounded window. Applied before `headers`.
    pub headers_removed: Vec<(NetworkId, u64)>,
    /// Networks whose finality marks moved.
    pub finality: Vec<(NetworkId, FinalityMarks)>,
    /// Networks of which more watches were looked up, or other ones, wherever there is something else to commit.
    pub looked_up: Vec<(NetworkId, LookedUp)>,
    /// What the sources are asked to do once this is committed, in order.
    pub asks: Vec<(NetworkId, Ask)>,
}

impl Changes {
    /// Whether there is nothing to commit. `looked_up` never comes alone.
    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
            && self.claims.is_empty()
            && self.events.is_empty()
            && self.headers.is_empty()
            && self.headers_removed.is_empty()
            && self.finality.is_empty()
    }
}

/// The highest blocks that a network gave its tags to, by height; and what time has still to decide.
///
/// They move up, and a fork that leaves the chain below one takes it down to the fork point: what the network said of a
/// block says nothing of another block at its height (invariant 6). No fork goes below `finalized`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalityMarks {
    /// `confirmed`
    pub confirmed: Option<u64>,
    /// `safe`
    pub safe: Option<u64>,
    /// `finalized`
    pub finalized: Option<u64>,
    /// The instant up to which deadlines and late windows are being worked off, while one step could not do them all.
    pub timing_out: Option<Timestamp>,
}

/// Something that a source should look for in each block from now on.
///
/// An interest is open from the `Ask::Open` that names it to the `Ask::Close`; the engine counts the watches behind it
/// and names it once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Interest {
    /// The transaction itself.
    Tx(TxId),
    /// Transfers of the asset to the address.
    Recipient {
        /// In what.
        asset: AssetId,
        /// To whom.
        address: Address,
    },
    /// The use or the cancellation of an authorization.
    Authorization {
        /// The contract.
        asset: AssetId,
        /// Who signed it.
        authorizer: Address,
        /// Its single-use number.
        #[serde(with = "crate::text")]
        nonce: String,
    },
    /// Whichever transaction uses this up.
    Spend(SpendKey),
    /// The end of a transaction's validity: reported with `Observation::Expired` once it has come, and again when a look-up or
    /// `Ask::Locate` names the transaction.
    Expiry {
        /// The transaction.
        tx: TxId,
        /// What ends it.
        expiry: Expiry,
    },
    /// Inclusion proofs ([`crate::input::TxFact::proof`]) for all that is reported of blocks.
    Proofs,
}

/// What the engine wants of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Look for this from the next block on.
    Open(Interest),
    /// No longer.
    Close(Interest),
    /// Look up what the chain and the mempools hold of this watch's subject already, and answer with
    /// `Observation::LookedUp`. Its interests were opened before. A descriptor's look-up that shows addresses to be used is
    /// followed by one for the addresses that come after them.
    LookUp(LookUp),
    /// A transaction left the chain: report it with `Observation::Seen`, or with `Observation::Missing`. A watch that is
    /// extended beyond its deadline waits for that.
    Locate {
        /// Which.
        tx: TxId,
    },
}

/// One look-up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookUp {
    /// The watch to answer for.
    pub watch: WatchId,
    /// What to look for.
    pub subject: Subject,
    /// Who is paid: one address, or those of a descriptor's that were not looked up before.
    pub pay_to: Vec<Address>,
    /// In what.
    pub asset: AssetId,
    /// Blocks that state an earlier time need not be searched for an address; `None`: only the mempools.
    pub since: Option<Timestamp>,
    /// The lowest block that can hold it, where that is known: the client's word, or what lies above the head that the watch
    /// was made under. It may lie below the headers that are kept.
    pub from_height: Option<u64>,
}

/// The transfer that a claim is on: network + transaction + transfer index (DESIGN §3, claims).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClaimKey {
    /// The network.
    pub network: NetworkId,
    /// The transaction.
    pub tx: TxId,
    /// Which of its transfers.
    pub index: u32,
}

/// How firmly a transfer is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimState {
    /// Held by a watch that has no outcome yet.
    Reserved,
    /// It paid a watch that settled with success or partial.
    Consumed,
    /// Reported as late to a watch that had failed; a watch that is open may still take it.
    Late,
}

/// A transfer that belongs to a watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Whose it is.
    pub watch: WatchId,
    /// How firmly.
    pub state: ClaimState,
}

/// An entry of the event log: one artefact in its envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the log, from 1, without gaps (invariant 5).
    pub sequence: u64,
    /// The watch.
    pub watch: WatchId,
    /// The watch's network.
    pub network: NetworkId,
    /// Its place among the artefacts of its watch, from 1.
    pub index: u32,
    /// What happened.
    pub kind: EventKind,
    /// When this engine learned of it. Not part of the artefact.
    pub observed_at: Timestamp,
    /// The artefact: canonical JSON.
    pub artefact: Vec<u8>,
    /// The SHA-256 of `artefact`.
    pub receipt_hash: [u8; 32],
    /// The signature over `artefact`: a detached JWS. Empty as the engine returns it, which holds no key; the driver fills it
    /// in before the commit.
    pub signature: String,
}

/// What an event reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EventKind {
    /// In a mempool.
    Seen,
    /// Depth 0 was asked, and the terms hold in the mempool.
    Accepted,
    /// In a block of the chain.
    Included,
    /// One more block on top (`Report::EveryDepth`).
    Depth,
    /// Its block left the chain.
    Orphaned,
    /// No mempool holds it any more.
    Evicted,
    /// Another transaction took its place, and still meets the terms.
    Replaced,
    /// The outcome was written.
    Settled,
    /// After a failed or partial outcome the money came all the same.
    Late,
    /// After an outcome the chain took the money back for good.
    Reversed,
    /// No reorg can reach it any more.
    Finalized,
}

impl EventKind {
    /// The word that stands in artefacts and interfaces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Accepted => "accepted",
            Self::Included => "included",
            Self::Depth => "depth",
            Self::Orphaned => "orphaned",
            Self::Evicted => "evicted",
            Self::Replaced => "replaced",
            Self::Settled => "settled",
            Self::Late => "late",
            Self::Reversed => "reversed",
            Self::Finalized => "finalized",
        }
    }
}
