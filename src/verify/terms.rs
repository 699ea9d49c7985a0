//! Whether what is said, and what is proven of it, meets the terms.

use h402_watch_engine::amount::Amount;
use h402_watch_engine::changes::EventKind;
use h402_watch_engine::judge::satisfies;
use h402_watch_engine::request::{AmountRule, Depth, Subject, Terms};
use h402_watch_engine::watch::Outcome;

use crate::artefact::{Artefact, Moved, Named, Settlement};
use crate::note::{Note, NoteCode};
use crate::proof::{Checked, Shown};
use crate::reason;
use crate::script::{self, Derivation};
use crate::wrong::{Code, Wrong, ensure};

/// The headers that have to lie on a coinbase before its coin can be spent (consensus: `COINBASE_MATURITY` less its own block).
const MATURITY: usize = 99;

/// Checks an artefact against its terms; returns what it leaves to its author's word.
pub(crate) fn check(artefact: &Artefact, checked: &Checked) -> Result<Vec<Note>, Wrong> {
    let mut check = Check { artefact, payees: Payees::new(artefact), notes: Vec::new() };
    if let Some(tx) = artefact.transaction() {
        let shown = checked.find(&tx.tx);
        check.sender(&tx.tx, tx.sender.as_deref(), shown);
        for moved in &tx.transfers {
            check.transfer(moved, Sender { stated: tx.sender.as_deref(), is_stated: true, shown })?;
        }
    }
    for one in artefact.named() {
        check.height(&one, checked.find(one.tx));
    }
    check.event();
    let Some(settlement) = artefact.settlement() else { return Ok(check.notes) };
    let paid = !matches!(settlement.outcome, Outcome::Failed(_));
    for one in artefact.named() {
        let shown = checked.find(one.tx);
        if paid {
            check.paid(&one, shown)?;
        }
        check.depth(&one, shown)?;
    }
    match &settlement.outcome {
        Outcome::Failed(reason) => check.notes.extend(reason::check(artefact, settlement, reason, checked)?),
        outcome => sum(artefact, settlement, outcome)?,
    }
    Ok(check.notes)
}

struct Check<'a> {
    artefact: &'a Artefact,
    payees: Payees,
    notes: Vec<Note>,
}

/// Who sent a transaction: as is stated, and as is shown.
#[derive(Clone, Copy)]
struct Sender<'a> {
    stated: Option<&'a str>,
    /// Whether it would be stated, if it were known.
    is_stated: bool,
    shown: Option<&'a Shown>,
}

/// Whether those who paid are those who should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payer {
    Fits,
    Differs,
    /// It would fit, and nothing shows who sent the transaction.
    Unshown,
}

impl Payer {
    /// The payer is the transfer's `from`, or who sent the transaction.
    fn of(artefact: &Artefact, moved: &Moved, sender: Sender<'_>) -> Self {
        let Some(payer) = &artefact.terms.payer else { return Self::Fits };
        if moved.transfer.from.as_ref() == Some(payer) {
            return Self::Fits;
        }
        match (sender.shown.filter(|shown| shown.is_read), sender.stated) {
            (Some(shown), _) if shown.sender.as_deref() == Some(payer.as_str()) => Self::Fits,
            (Some(_), _) => Self::Differs,
            (None, Some(stated)) if stated == payer.as_str() => Self::Unshown,
            (None, None) if !sender.is_stated => Self::Unshown,
            (None, _) => Self::Differs,
        }
    }
}

/// Who may be paid: the payee of the terms, or whom its descriptor derives.
enum Payees {
    One,
    Derived(Option<Derivation>),
    /// A descriptor of a network that is not known here.
    NotKnown,
}

impl Payees {
    fn new(artefact: &Artefact) -> Self {
        let Subject::Descriptor { descriptor, .. } = &artefact.subject else { return Self::One };
        match artefact.network.strip_prefix("bip122:").and_then(script::network) {
            Some(network) => Self::Derived(Derivation::new(descriptor, network)),
            None => Self::NotKnown,
        }
    }
}

impl Check<'_> {
    fn note(&mut self, code: NoteCode, said: String) {
        self.notes.push(Note::new(code, said));
    }

    /// A transfer that is claimed counts: it is of the asset, to the payee, by the payer.
    fn transfer(&mut self, moved: &Moved, sender: Sender<'_>) -> Result<(), Wrong> {
        let (terms, transfer) = (&self.artefact.terms, &moved.transfer);
        let index = transfer.index;
        ensure(transfer.asset == terms.asset, Code::Asset, || {
            format!("transfer {index} is of {}, not of {}", transfer.asset, terms.asset)
        })?;
        ensure(!transfer.amount.is_zero(), Code::Amount, || format!("transfer {index} is of nothing"))?;
        ensure(transfer.from.as_ref() != Some(&transfer.to), Code::Payer, || {
            format!("transfer {index} is to the one that it is from")
        })?;
        if let Subject::Authorization { authorizer, .. } = &self.artefact.subject {
            ensure(transfer.from.as_ref() == Some(authorizer), Code::Payer, || {
                format!("transfer {index} is not from {authorizer}, who signed the authorization")
            })?;
        }
        self.recipient(moved)?;
        match Payer::of(self.artefact, moved, sender) {
            Payer::Fits => {}
            // What only a mempool held no proof is asked for.
            Payer::Unshown if self.artefact.named().is_empty() => {}
            Payer::Unshown => {
                let said = format!("who sent the transaction of transfer {index} is not shown");
                self.note(NoteCode::PayerUnproven, said);
            }
            Payer::Differs => {
                let said = format!("transfer {index} is not from the payer of the terms");
                return Err(Wrong::new(Code::Payer, said));
            }
        }
        Ok(())
    }

    fn recipient(&mut self, moved: &Moved) -> Result<(), Wrong> {
        let to = moved.transfer.to.as_str();
        let wrong = |said: String| Err(Wrong::new(Code::Recipient, said));
        if matches!(self.payees, Payees::One) {
            let fits = to == self.artefact.terms.pay_to.as_str() && moved.path.is_none();
            return if fits { Ok(()) } else { wrong(format!("{to} is not who the terms say is paid")) };
        }
        let Some((branch, index)) = moved.path else {
            return wrong(format!("it is not said where the descriptor derives {to}"));
        };
        if branch != 0 {
            return wrong(format!("{branch}/{index} is for change: whoever pays there pays themselves"));
        }
        if let Payees::Derived(derivation) = &self.payees {
            let derived = derivation.as_ref().and_then(|derivation| derivation.address((branch, index)));
            let fits = derived.as_deref() == Some(to);
            return if fits {
                Ok(())
            } else {
                wrong(format!("the descriptor does not derive {to} at {branch}/{index}"))
            };
        }
        let said = format!("that the descriptor derives {to} is not checked on this network");
        self.note(NoteCode::RecipientUnproven, said);
        Ok(())
    }

    /// A sender that is stated, and not shown.
    fn sender(&mut self, tx: &str, stated: Option<&str>, shown: Option<&Shown>) {
        if let Some(stated) = stated
            && shown.is_none_or(|shown| shown.sender.is_none())
        {
            self.note(NoteCode::SenderUnproven, format!("that {stated} sent {tx} is not shown"));
        }
    }

    /// Blocks of long ago don't say how high they are.
    fn height(&mut self, one: &Named<'_>, shown: Option<&Shown>) {
        if shown.is_some_and(|shown| !shown.states_height) {
            let height = one.block.height;
            let said = format!("no block states its height before {height}; that of {} is not shown", one.tx);
            self.note(NoteCode::HeightUnproven, said);
        }
    }

    /// What counted towards an outcome.
    fn paid(&mut self, one: &Named<'_>, shown: Option<&Shown>) -> Result<(), Wrong> {
        for moved in &one.transfers {
            self.transfer(moved, Sender { stated: None, is_stated: false, shown })?;
        }
        let terms = &self.artefact.terms;
        let height = one.block.height;
        ensure(terms.from_height.is_none_or(|from| from <= height), Code::TooEarly, || {
            format!("{} is at height {height}, below the one that the terms say", one.tx)
        })?;
        if terms.bind() {
            let said = format!("that {} carries the memo and names the references, no proof shows", one.tx);
            self.note(NoteCode::MemoUnproven, said);
        }
        let Some(shown) = shown else {
            let said = format!("that the block of {} states a time that the terms allow, no proof shows", one.tx);
            self.note(NoteCode::TimeUnproven, said);
            return Ok(());
        };
        let time = shown.time_ms;
        ensure(terms.not_before.is_none_or(|from| from.0 <= time), Code::TooEarly, || {
            format!("the block of {} states {time} ms, which is before the time that the terms say", one.tx)
        })?;
        ensure(time <= terms.deadline.0, Code::Deadline, || {
            format!("the block of {} states {time} ms, which is after the deadline", one.tx)
        })?;
        if shown.is_coinbase && shown.headers < MATURITY {
            let said = format!("{} is a coinbase: that 100 blocks allow its coin to be spent, no headers show", one.tx);
            self.note(NoteCode::MaturityUnproven, said);
        }
        Ok(())
    }

    /// A settlement comes of blocks that are as deep as the terms ask.
    fn depth(&mut self, one: &Named<'_>, shown: Option<&Shown>) -> Result<(), Wrong> {
        let needed = match self.artefact.terms.depth {
            Depth::Blocks(blocks) => usize::try_from(blocks.saturating_sub(1)).unwrap_or(usize::MAX),
            Depth::Tag(_) => {
                self.note(NoteCode::DepthUnproven, format!("how final the block of {} is, no proof shows", one.tx));
                return Ok(());
            }
        };
        let found = shown.map_or(0, |shown| shown.headers);
        if found == 0 && needed > 0 {
            self.note(NoteCode::DepthUnproven, format!("no headers show how deep the block of {} is", one.tx));
            return Ok(());
        }
        ensure(found >= needed, Code::Depth, || {
            format!("{found} headers stand on the block of {}, where the terms ask {needed}", one.tx)
        })
    }

    /// What no proof could show of an event.
    fn event(&mut self) {
        let artefact = self.artefact;
        let (event, terms) = (artefact.event(), &artefact.terms);
        let what = match event {
            EventKind::Seen | EventKind::Accepted => Some("that a mempool held it"),
            EventKind::Evicted => Some("that no mempool holds it"),
            EventKind::Depth => Some("how many blocks are on top"),
            EventKind::Orphaned => Some("that the block left the chain"),
            EventKind::Reversed => Some("that the chain took it back"),
            EventKind::Finalized => Some("that no reorg can reach it"),
            EventKind::Included | EventKind::Replaced | EventKind::Late | EventKind::Settled => None,
        };
        if let Some(what) = what {
            self.note(NoteCode::EventUnproven, format!("{}: {what}, is the author's word", event.as_str()));
        }
        if artefact.settlement().is_none() && artefact.moved() != artefact.received {
            let said = format!("that the watch has {} in all is the author's word", artefact.received);
            self.note(NoteCode::ReceivedUnproven, said);
        }
        let adds_up = matches!(artefact.subject, Subject::Address | Subject::Descriptor { .. });
        let ageless = terms.not_before.is_none() && terms.from_height.is_none();
        if adds_up && ageless && matches!(event, EventKind::Settled | EventKind::Late) && !artefact.moved().is_zero() {
            let said = "the terms say no time and no height that payments have to be younger than: that the watch is older \
                        than they are, is the author's word";
            self.note(NoteCode::CreationUnproven, said.into());
        }
    }
}

fn sum(artefact: &Artefact, settlement: &Settlement, outcome: &Outcome) -> Result<(), Wrong> {
    let (terms, received) = (&artefact.terms, artefact.received);
    let amounts = settlement.transfers.iter().map(|counted| counted.moved.transfer.amount);
    let sum = amounts.fold(Amount::ZERO, Amount::saturating_add);
    ensure(sum == received, Code::Amount, || format!("the transfers add up to {sum}, not to {received}"))?;
    let met = satisfies(terms, received);
    match outcome {
        Outcome::Success => ensure(met, Code::Amount, || {
            format!("{received} was received, which does not meet the terms: {}", asked(terms))
        }),
        _ => ensure(!met && received < terms.amount, Code::Amount, || {
            format!("{received} was received, which is not less than the terms ask: {}", asked(terms))
        }),
    }
}

fn asked(terms: &Terms) -> String {
    let rule = match terms.amount_rule {
        AmountRule::Exact => "exactly",
        AmountRule::AtLeast => "at least",
        AmountRule::UpTo => "up to",
    };
    format!("{rule} {}", terms.amount)
}
