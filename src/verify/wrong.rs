//! What can be wrong with an artefact: a code for programs, a sentence for people.

use serde::Serialize;

use crate::codes::codes;
use crate::report::plain;

codes! {
    /// Which rule is broken. The codes are stable: programs may tell errors apart by them.
    Code {
        /// No JSON of objects, lists, texts and whole numbers.
        NotJson = "not_json",
        /// JSON in another spelling than the canonical one.
        NotCanonical = "not_canonical",
        /// An artefact, or a version of it, that is not known.
        Version = "version",
        /// A member that is missing, or not of its type.
        Shape = "shape",
        /// A member that the version does not have.
        UnknownMember = "unknown_member",
        /// Members that contradict each other.
        Inconsistent = "inconsistent",
        /// An evidence line that is none.
        EvidenceLine = "evidence_line",
        /// A set of public keys that can't be read.
        KeySet = "key_set",
        /// A signature that is not spelled as signatures of artefacts are.
        SignatureFormat = "signature_format",
        /// A signature of a key that is not in the set.
        UnknownKey = "unknown_key",
        /// A signature that its key did not make over these bytes.
        Signature = "signature",
        /// Two different artefacts in one place of a watch.
        Fork = "fork",
        /// An artefact that does not name the one before it.
        HashChain = "hash_chain",
        /// Artefacts of one watch that tell different terms.
        ChainTerms = "chain_terms",
        /// A watch that settles twice, or goes on as if it had not.
        ChainSettlement = "chain_settlement",
        /// Proofs of other transactions than those that the artefact names.
        ProofTransaction = "proof_transaction",
        /// A proof of a kind that the network does not have, or that the artefact may not have.
        ProofKind = "proof_kind",
        /// A proof whose bytes can't be read.
        ProofEncoding = "proof_encoding",
        /// A header that is not the block's.
        ProofHeader = "proof_header",
        /// A header without the work that its network asks for.
        ProofWork = "proof_work",
        /// A branch that does not lead from the transaction to the header.
        ProofBranch = "proof_branch",
        /// A branch through a list of transactions that repeats its end.
        ProofDuplicate = "proof_duplicate",
        /// A transaction that may be an inner node of the tree.
        ProofNode = "proof_node",
        /// A coinbase that is none, or not where one stands.
        ProofCoinbase = "proof_coinbase",
        /// A block at another height.
        ProofHeight = "proof_height",
        /// Headers that don't stand on top of each other.
        ProofHeaders = "proof_headers",
        /// A proof that does not lead from the header to the transaction or its receipt.
        ProofTrie = "proof_trie",
        /// A transaction of another network.
        Network = "network",
        /// A transaction that ended otherwise.
        Execution = "execution",
        /// A transaction that somebody else sent.
        Sender = "sender",
        /// A transfer that the transaction did not make.
        Transfer = "transfer",
        /// Amounts that don't add up, or don't meet the terms.
        Amount = "amount",
        /// A transfer to somebody else than the terms say.
        Recipient = "recipient",
        /// A transfer of something else than the terms say.
        Asset = "asset",
        /// A payment by somebody else than the terms say.
        Payer = "payer",
        /// A block from before the time or the height that the terms say.
        TooEarly = "too_early",
        /// A block from after the deadline.
        Deadline = "deadline",
        /// Fewer headers on top than the terms ask.
        Depth = "depth",
        /// An authorization that the transaction did not use, or not so.
        Authorization = "authorization",
        /// A reason that the proven transaction contradicts.
        Reason = "reason",
        /// A transfer that two watches count.
        DoubleClaim = "double_claim",
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}: {}", code.as_str(), plain(said))]
pub struct Wrong {
    /// Which rule is broken.
    pub code: Code,
    /// How, in words; it may quote the artefact, see [`plain`].
    pub said: String,
}

impl Wrong {
    /// A broken rule, and how it is broken.
    pub fn new(code: Code, said: impl Into<String>) -> Self {
        Self { code, said: said.into() }
    }
}

/// Goes on if a rule holds.
pub(crate) fn ensure(holds: bool, code: Code, said: impl FnOnce() -> String) -> Result<(), Wrong> {
    if holds { Ok(()) } else { Err(Wrong::new(code, said())) }
}
