//! Commands from clients: make a watch, end one.

use crate::amount::Amount;
use crate::canonical::{INTEGER_MAX, Json, digest};
use crate::changes::{Ask, EventKind};
use crate::id::{NetworkId, Timestamp, WatchId};
use crate::network::Network;
use crate::receipt::{self, Evidence};
use crate::request::{Depth, Expiry, Report, Subject, WatchRequest};
use crate::watch::{Outcome, Reason, Watch};
use crate::{Engine, Refused, descriptor};

/// The answer to a request for a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The watch.
    pub id: WatchId,
    /// Whether this request made it, or one before.
    pub new: bool,
}

/// A request, and the name of the watch that it makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    id: WatchId,
    request: WatchRequest,
}

impl From<WatchRequest> for Named {
    fn from(request: WatchRequest) -> Self {
        Self { id: watch_id(&request), request }
    }
}

impl Named {
    /// The request.
    pub fn request(&self) -> &WatchRequest {
        &self.request
    }

    /// The idempotency key that names the watch: the request's, or else its id.
    pub fn key(&self) -> &str {
        self.request.key().unwrap_or(self.id.as_str())
    }
}

impl Engine {
    /// Makes a watch, or finds the one that the same request made before.
    ///
    /// The caller has made sure that no archived watch has the same key.
    ///
    /// # Errors
    /// If the request can't be fulfilled; then nothing has changed.
    pub fn create(&mut self, now: Timestamp, named: impl Into<Named>) -> Result<Created, Refused> {
        let named = named.into();
        self.find(&named).unwrap_or_else(|| self.make(now, named))
    }

    /// The answer, if there is a watch in memory with the request's key. The same request has the same key.
    pub fn find(&self, named: &Named) -> Option<Result<Created, Refused>> {
        let first = self.watch_by_key(named.key())?;
        Some(same_or_taken(first, &named.request))
    }

    /// Makes a watch, of which the caller has made sure that there is none yet: [`Engine::find`].
    ///
    /// # Errors
    /// As [`Engine::create`].
    pub fn make(&mut self, now: Timestamp, named: Named) -> Result<Created, Refused> {
        let Named { id, request } = named;
        let net = self.networks.get(&request.network).ok_or_else(|| self.unknown_network(&request.network))?;
        check(&request, net, now, self.limits.lifetime_max_ms)?;
        let window = descriptor::open(&request, net)?;
        if self.watches.len() >= self.limits.watches_max {
            return Err(Refused::Full { max: self.limits.watches_max });
        }
        let expired = self.known_expired(&request);
        let ordinal = self.next_ordinal;
        let watch = Watch {
            id: id.clone(),
            ordinal,
            created_at: now,
            created_height: net.heads.head().map(|header| header.block.height),
            proofs: request.proofs.unwrap_or(net.rules.proofs),
            request,
            candidates: Vec::new(),
            outcome: None,
            received: Amount::ZERO,
            extended: false,
            late_until: None,
            finalized: false,
            archived: false,
            artefacts: 0,
            last_hash: None,
            expired,
            window,
        };
        self.next_ordinal += 1;
        self.dirty.insert(ordinal);
        self.adopt(watch, None);
        Ok(Created { id, new: true })
    }

    /// Ends a watch that has no outcome yet with `failed(cancelled)`.
    ///
    /// # Errors
    /// If there is no such watch in memory, or it is settled; then nothing has changed.
    pub fn cancel(&mut self, now: Timestamp, id: &WatchId) -> Result<(), Refused> {
        let ordinal = self.ordinal_of(id).ok_or_else(|| Refused::NotFound(id.clone()))?;
        if self.watches.get(&ordinal).is_some_and(|watch| watch.outcome.is_some()) {
            return Err(Refused::Settled(id.clone()));
        }
        self.settle(now, ordinal, Outcome::Failed(Reason::Cancelled), &Evidence::Request, None);
        self.work(now);
        Ok(())
    }

    /// Writes an artefact about a candidate of a watch.
    pub(crate) fn emit_receipt(
        &mut self,
        now: Timestamp,
        ordinal: u64,
        kind: EventKind,
        detail: impl FnOnce(&Watch) -> receipt::Detail<'_>,
    ) {
        let Some(watch) = self.watches.get(&ordinal) else { return };
        let artefact = receipt::receipt(watch, kind, &detail(watch));
        self.emit(now, ordinal, kind, &artefact);
    }

    fn unknown_network(&self, network: &NetworkId) -> Refused {
        let known: Vec<_> = self.networks.keys().map(NetworkId::as_str).collect();
        let expected = format!("one of the configured networks ({}), not {network}", known.join(", "));
        Refused::Invalid { field: "network", expected }
    }

    /// Asks for a look-up again: something that was claimed for an address is gone, and what was passed over before may
    /// now be needed.
    pub(crate) fn look_up_again(&mut self, ordinal: u64) {
        let Some(watch) = self.watches.get_mut(&ordinal) else { return };
        if let Some(window) = &mut watch.window {
            window.ask_anew();
            self.dirty.insert(ordinal);
            if self.networks.get(&watch.request.network).is_some_and(|net| net.look_ups.awaits(ordinal)) {
                // The answer to the one that is under way asks for it.
                return;
            }
        }
        self.ask_look_up(ordinal);
    }

    pub(crate) fn ask_look_up(&mut self, ordinal: u64) {
        let Some(watch) = self.watches.get_mut(&ordinal) else { return };
        // Committed with it: after a restart it is asked again.
        self.dirty.insert(ordinal);
        let network = watch.request.network.clone();
        if let Some(net) = self.networks.get_mut(&network) {
            net.look_ups.begin(ordinal);
            let look_up = crate::look_up(watch, net);
            self.ask(&network, Ask::LookUp(look_up));
        }
    }
}

/// The same request again is the same watch; the same key with other content is refused (DESIGN §3).
///
/// # Errors
/// [`Refused::KeyTaken`].
pub fn same_or_taken(first: &Watch, request: &WatchRequest) -> Result<Created, Refused> {
    if first.request == *request {
        return Ok(Created { id: first.id.clone(), new: false });
    }
    Err(Refused::KeyTaken { first: first.id.clone() })
}

/// The name of the watch that a request makes: a digest of all it says.
pub fn watch_id(request: &WatchRequest) -> WatchId {
    let body = receipt::request(request.network.as_str(), (&request.subject, &request.terms), &request.binding);
    let report = match request.report {
        Report::Milestones => "milestones",
        Report::EveryDepth => "every_depth",
    };
    let fx = request.binding.fx.iter().map(|(name, value)| (name.clone(), Json::text(value.as_str())));
    let whole = Json::object([
        ("request", body),
        ("report", Json::text(report)),
        ("proofs", request.proofs.map_or(Json::Null, Json::Bool)),
        ("fx", Json::Object(fx.collect())),
        ("idempotencyKey", Json::maybe(request.idempotency_key.as_ref())),
    ]);
    let hash = digest(whole.to_canonical().as_bytes());
    WatchId::new(format!("w{}", hex::encode(&hash[..16])))
}

fn check(request: &WatchRequest, net: &Network, now: Timestamp, lifetime_max_ms: u64) -> Result<(), Refused> {
    let invalid = |field, expected: String| Err(Refused::Invalid { field, expected });
    let terms = &request.terms;
    if terms.amount.is_zero() {
        return invalid("terms.amount", "more than 0".into());
    }
    match terms.depth {
        Depth::Blocks(blocks) if blocks > net.rules.horizon => {
            let horizon = net.rules.horizon;
            return invalid("terms.depth", format!("at most {horizon} blocks, the horizon of {}", request.network));
        }
        Depth::Tag(tag) if !net.rules.tags.contains(&tag) => {
            let known: Vec<_> = net.rules.tags.iter().map(|tag| receipt::tag_word(*tag)).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            return invalid(
                "terms.depth",
                format!("a number of blocks, or a tag that {} knows ({known})", request.network),
            );
        }
        _ => {}
    }
    if terms.deadline <= now {
        return invalid("terms.deadline", format!("a time in the future; it is {} ms since 1970 now", now.0));
    }
    if terms.deadline > now.plus_ms(lifetime_max_ms) || terms.deadline.0 > INTEGER_MAX {
        let hours = lifetime_max_ms / 3_600_000;
        return invalid("terms.deadline", format!("at most {hours} hours from now"));
    }
    if terms.from_height.is_some_and(|height| height > INTEGER_MAX) {
        return invalid("terms.from_height", "a block height".into());
    }
    if terms.not_before.is_some_and(|not_before| not_before >= terms.deadline) {
        return invalid("terms.not_before", "a time before the deadline".into());
    }
    check_subject(request, net)
}

fn check_subject(request: &WatchRequest, net: &Network) -> Result<(), Refused> {
    let invalid = |field, expected: String| Err(Refused::Invalid { field, expected });
    match &request.subject {
        Subject::Transaction { expiry: Some(Expiry::Height(height)), .. } if *height > INTEGER_MAX => {
            invalid("transaction.last_valid_height", "a block height".into())
        }
        Subject::Authorization { .. } if request.terms.asset.is_native() => {
            invalid("terms.asset", "the token contract that the authorization is for, not native".into())
        }
        Subject::Authorization { valid_before: Some(time), .. } if time.0 > INTEGER_MAX => {
            invalid("subject.authorization.valid_before", "a time before the year 287396".into())
        }
        Subject::Address | Subject::Descriptor { .. } => {
            let Some(bottom) = net.heads.bottom() else { return Err(Refused::NotReady(request.network.clone())) };
            let lowest = bottom.block.height;
            let from = request.terms.from_height;
            if !net.rules.searches_below && from.is_some_and(|from| from < lowest) {
                return invalid("terms.from_height", format!("at least {lowest}, the oldest block kept"));
            }
            match request.terms.not_before {
                Some(not_before) if not_before < bottom.time && from.is_none() => {
                    let oldest = bottom.time.0;
                    invalid(
                        "terms.not_before",
                        format!("at the earliest {oldest} ms since 1970, the oldest block kept"),
                    )
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}
