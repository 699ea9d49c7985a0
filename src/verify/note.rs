//! What an artefact leaves to the word of whoever signed it: a code for programs, a sentence for people.

use std::fmt;

use serde::Serialize;

use crate::codes::codes;
use crate::report::plain;

codes! {
    /// What is left to the author's word. The codes are stable: a caller may demand that there is none of a kind.
    NoteCode {
        /// That the block is on the chain. So it is with all blocks: on Bitcoin the work tells what it costs to pretend, elsewhere
        /// nothing does.
        BlockNotAnchored = "block_not_anchored",
        /// How deep the block lies, or how final it is.
        DepthUnproven = "depth_unproven",
        /// That the block states a time that the terms allow.
        TimeUnproven = "time_unproven",
        /// The height of the block.
        HeightUnproven = "height_unproven",
        /// That the payer of the terms paid.
        PayerUnproven = "payer_unproven",
        /// Who sent the transaction; the terms don't ask.
        SenderUnproven = "sender_unproven",
        /// That the descriptor derives who was paid.
        RecipientUnproven = "recipient_unproven",
        /// That the payment carries the memo and names the references.
        MemoUnproven = "memo_unproven",
        /// That a transaction took the place of the one that is watched.
        SubjectUnproven = "subject_unproven",
        /// The same, where a receipt of its own told it.
        ReplacementTold = "replacement_told",
        /// That the transaction used, or cancelled, the authorization.
        AuthorizationUnproven = "authorization_unproven",
        /// What the reason of a failure says.
        ReasonUnproven = "reason_unproven",
        /// That nothing came which counts.
        AbsenceUnproven = "absence_unproven",
        /// What an event says of mempools, of depth, or of blocks that left the chain.
        EventUnproven = "event_unproven",
        /// What the watch has received beside the transfers that a receipt tells.
        ReceivedUnproven = "received_unproven",
        /// That the watch is older than the payment.
        CreationUnproven = "creation_unproven",
        /// That the coin of a coinbase can be spent.
        MaturityUnproven = "maturity_unproven",
    }
}

impl NoteCode {
    /// Whether a term of the payment rests on the author's word. The others are of what no artefact shows, and no term asks.
    pub fn leaves_a_term(self) -> bool {
        !matches!(
            self,
            Self::BlockNotAnchored
                | Self::SenderUnproven
                | Self::ReplacementTold
                | Self::AbsenceUnproven
                | Self::EventUnproven
                | Self::ReceivedUnproven
                | Self::CreationUnproven
                | Self::MaturityUnproven
        )
    }
}

/// One thing that is left to the author's word.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Note {
    /// Of which kind.
    pub code: NoteCode,
    /// What, in words; it may quote the artefact, see [`plain`].
    pub said: String,
}

impl Note {
    pub(crate) fn new(code: NoteCode, said: impl Into<String>) -> Self {
        Self { code, said: said.into() }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&plain(&self.said))
    }
}
