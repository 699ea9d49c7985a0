//! What verification came to: what was checked, what was shown, and what is left to the author's word.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::artefact::Artefact;
use crate::note::{Note, NoteCode};
use crate::proof::{Checked, Shown, Unshown};

/// An artefact in which nothing is wrong, and how much of it was shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `receipt.json` or `settled.json`.
    pub artefact: &'static str,
    /// The watch.
    pub watch: String,
    /// Its place among the watch's artefacts.
    pub index: u64,
    /// The network, CAIP-2.
    pub network: String,
    /// What happened.
    pub event: &'static str,
    /// The outcome, of a settlement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// What has come, in the asset's smallest unit: of a settlement what counted; of a receipt what the watch has in all, as its
    /// author says.
    pub received: String,
    /// What the transfers that it tells add up to: those that its proofs are of.
    pub moved: String,
    /// The digest of the artefact.
    pub receipt_hash: String,
    /// Who vouches for it.
    pub signature: Signed,
    /// What its proofs show.
    pub inclusion: Inclusion,
    /// What else is left to the word of whoever signed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// Who vouches for an artefact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Signed {
    /// A key that is believed.
    Signed {
        /// Its name.
        kid: String,
    },
    /// There is a signature, and no keys were given to check it with.
    NotChecked {
        /// The key that it says it is of.
        kid: String,
    },
    /// There is no signature.
    Absent,
}

/// What the proofs of an artefact show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Inclusion {
    /// All that it says of transactions in blocks.
    Proven {
        /// Those.
        transactions: Vec<InBlock>,
    },
    /// Some of it.
    Partly {
        /// The transactions that are shown to be in their blocks.
        transactions: Vec<InBlock>,
        /// What is not shown.
        unproven: Vec<Unproven>,
    },
    /// Nothing.
    NotProven {
        /// Why not.
        unproven: Vec<Unproven>,
    },
    /// It says nothing of a transaction in a block.
    Nothing,
}

/// A transaction that is in a block of that hash. That the block is on the chain is for a node to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InBlock {
    /// The transaction.
    pub tx: String,
    /// The height of its block.
    pub height: u64,
    /// The hash of its block.
    pub hash: String,
    /// The time that the block states.
    pub time_ms: u64,
    /// The headers on top of it.
    pub headers: usize,
    /// On Bitcoin: the block and the headers took about 2^this hashes to make, rounded down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work_bits: Option<u32>,
}

/// What a proof does not show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unproven {
    /// The transaction.
    pub tx: String,
    /// Its transfer, if it is that alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Why not.
    pub why: String,
}

impl Report {
    pub(crate) fn new(artefact: &Artefact, signature: Signed, checked: Checked, notes: Vec<Note>) -> Self {
        let mut notes = notes;
        notes.extend(anchored(&checked));
        let mut told = BTreeSet::new();
        notes.retain(|note| told.insert(note.clone()));
        Self {
            artefact: artefact.file_name(),
            watch: artefact.watch.to_string(),
            index: artefact.index,
            network: artefact.network.clone(),
            event: artefact.event().as_str(),
            outcome: artefact.outcome(),
            reason: artefact.reason(),
            received: artefact.received.to_string(),
            moved: artefact.moved().to_string(),
            receipt_hash: artefact.receipt_hash.clone(),
            signature,
            inclusion: Inclusion::new(checked),
            notes,
        }
    }

    /// Whether all that can be shown is: the transactions are in their blocks, if it names any, and no term of the payment is left
    /// to the author's word. That the blocks are on the chain is for a node to say.
    pub fn is_fully_shown(&self) -> bool {
        let shown = matches!(self.inclusion, Inclusion::Proven { .. } | Inclusion::Nothing);
        shown && !self.notes.iter().any(|note| note.code.leaves_a_term())
    }
}

/// What shows that the blocks are on the chain: work, at best.
fn anchored(checked: &Checked) -> Option<Note> {
    let first = checked.shown.first()?;
    let said = match (first.work_bits, first.weak_work) {
        (Some(_), None) => "that the block is on the chain, its work alone shows",
        (_, Some(weak)) => weak,
        (None, None) => "that the block is on the chain is for a node to say",
    };
    Some(Note::new(NoteCode::BlockNotAnchored, said))
}

/// A text as it may be printed: whatever is no visible character, or turns the direction of writing, is escaped, so that a text
/// stays on its line and looks like what it is. Texts in artefacts are whatever their author wrote; file names are whatever theirs did.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => out.push(character),
            // What is not printable, and what is drawn onto the character before.
            _ => out.extend(character.escape_debug()),
        }
    }
    out
}

impl Inclusion {
    fn new(checked: Checked) -> Self {
        let transactions: Vec<_> = checked.shown.into_iter().map(InBlock::new).collect();
        let unproven: Vec<_> = checked.unshown.into_iter().map(Unproven::new).collect();
        match (transactions.is_empty(), unproven.is_empty()) {
            (true, true) => Self::Nothing,
            (true, false) => Self::NotProven { unproven },
            (false, true) => Self::Proven { transactions },
            (false, false) => Self::Partly { transactions, unproven },
        }
    }
}

impl InBlock {
    fn new(shown: Shown) -> Self {
        Self {
            tx: shown.tx,
            height: shown.block.height,
            hash: shown.block.hash.to_string(),
            time_ms: shown.time_ms,
            headers: shown.headers,
            work_bits: shown.work_bits,
        }
    }
}

impl Unproven {
    fn new(unshown: Unshown) -> Self {
        Self { tx: unshown.tx, index: unshown.index, why: unshown.why }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ok {} {}", self.artefact, self.outcome.unwrap_or(self.event))?;
        if let Some(reason) = self.reason {
            write!(f, " ({reason})")?;
        }
        write!(f, " {} {}, {}", self.moved, self.inclusion, self.signature)?;
        for note in &self.notes {
            write!(f, "; {note}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Inclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transactions, unproven, word) = match self {
            Self::Nothing => return f.write_str("without a transaction in a block"),
            Self::Proven { transactions } => (transactions.as_slice(), [].as_slice(), "proven in "),
            Self::Partly { transactions, unproven } => {
                (transactions.as_slice(), unproven.as_slice(), "partly proven in ")
            }
            Self::NotProven { unproven } => ([].as_slice(), unproven.as_slice(), "not proven"),
        };
        f.write_str(word)?;
        for (n, one) in transactions.iter().enumerate() {
            if n > 0 {
                f.write_str(" and ")?;
            }
            write!(f, "block {} {}", one.height, plain(&one.hash))?;
            match one.headers {
                0 => {}
                1 => f.write_str(" with 1 header on top")?,
                headers => write!(f, " with {headers} headers on top")?,
            }
            if let Some(bits) = one.work_bits {
                write!(f, ", work 2^{bits}")?;
            }
        }
        for one in unproven {
            let (tx, why) = (plain(&one.tx), plain(&one.why));
            match one.index {
                Some(index) => write!(f, ", transfer {index} of {tx} {why}")?,
                None => write!(f, ", {tx}: {why}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signed { kid } => write!(f, "signed by {}", plain(kid)),
            Self::NotChecked { kid } => write!(f, "its signature by {} not checked", plain(kid)),
            Self::Absent => f.write_str("not signed"),
        }
    }
}
