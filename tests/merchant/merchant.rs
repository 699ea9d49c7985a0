//! A merchant's script. It is given names, and knows nothing of the chains that it is paid on.

use std::collections::BTreeMap;

use h402_watch_proto::v1;
use h402_watch_proto::v1::watch_spec::Subject;

use crate::support::client::{Client, PATIENCE, Seen, address, now_ms, spec, tx, with};

/// How deep a payment must lie, in blocks, its own included.
pub const DEPTH: u32 = 3;
/// How long the last customer has to pay, and doesn't.
const SHORT_MS: u64 = 1_500;

/// What customers are asked for.
pub struct Invoice {
    pub network: String,
    pub asset: String,
    pub pay_to: String,
    pub amount: u64,
}

/// What the merchant was told of one sale.
#[derive(Debug, PartialEq, Eq)]
pub struct Story {
    pub events: Vec<String>,
    pub outcome: String,
    pub received: String,
    /// What of that which the address has received, as deep as asked, is said to have paid this sale.
    pub credited: String,
}

/// Sells the same four times: to a customer who pays, to one who says in which transaction, to one who shows the transaction
/// of the other, and to one who doesn't pay.
pub async fn sell(client: Client, invoice: &Invoice, pays: impl AsyncFn() -> String) -> [Story; 4] {
    let mut till = Till::open(client, invoice).await;
    assert_eq!(till.credits(1).await, BTreeMap::new(), "nobody has paid yet");
    let at_the_counter = till.order("1", address()).await;
    let paid_by = pays().await;
    till.wait(&at_the_counter, v1::State::Included).await;
    assert_eq!(till.get(&at_the_counter).await.transactions[0].tx, paid_by);
    let counter = till.follow(&at_the_counter).await;
    let shown = pays().await;
    let by_transaction = till.order("2", tx(&shown)).await;
    let again = till.order("3", tx(&shown)).await;
    let (online, twice) = (till.follow(&by_transaction).await, till.follow(&again).await);
    assert_eq!(till.get(&again).await.reason_by, by_transaction);
    till.in_time_ms = SHORT_MS;
    let unpaid = till.order("4", address()).await;
    let nothing = till.follow(&unpaid).await;
    [counter, online, twice, nothing]
}

struct Till<'a> {
    client: Client,
    invoice: &'a Invoice,
    events: tonic::Streaming<v1::SubscribeResponse>,
    /// By watch.
    told: BTreeMap<String, Vec<Seen>>,
    in_time_ms: u64,
}

impl<'a> Till<'a> {
    async fn open(mut client: Client, invoice: &'a Invoice) -> Self {
        // What is in no block yet is nothing to a merchant.
        let kinds = ["included", "orphaned", "settled"].map(str::to_owned).to_vec();
        let request = v1::SubscribeRequest {
            after_sequence: Some(0),
            networks: vec![invoice.network.clone()],
            pay_to: vec![invoice.pay_to.clone()],
            kinds,
            ..Default::default()
        };
        let events = client.subscribe(request).await;
        Self { client, invoice, events, told: BTreeMap::new(), in_time_ms: 300_000 }
    }

    async fn order(&mut self, number: &str, subject: Subject) -> String {
        let Invoice { network, asset, pay_to, amount } = self.invoice;
        let asked = with(spec(subject, pay_to, amount, DEPTH), |terms| {
            terms.asset.clone_from(asset);
            terms.deadline_ms = now_ms() + self.in_time_ms;
        });
        let binding = v1::Binding { quote_hash: format!("{network} {pay_to} {number}"), ..Default::default() };
        self.client.create(v1::WatchSpec { network: network.clone(), binding: Some(binding), ..asked }).await
    }

    async fn get(&mut self, id: &str) -> v1::Watch {
        self.client.get(id).await
    }

    async fn wait(&mut self, id: &str, until: v1::State) -> v1::WaitResponse {
        let timeout_ms = u32::try_from(PATIENCE.as_millis()).expect("a minute");
        let request = v1::WaitRequest { watch_id: id.into(), until: until.into(), timeout_ms };
        let answer = self.client.inner.wait(request).await.expect("answers").into_inner();
        assert!(answer.reached, "waiting for {until:?}, at {:?}", answer.watch);
        answer
    }

    /// What the address has received, by the watch that it paid.
    async fn credits(&mut self, depth_min: u32) -> BTreeMap<String, u64> {
        let Invoice { network, asset, pay_to, .. } = self.invoice;
        let request = v1::CheckAddressRequest {
            network: network.clone(),
            address: pay_to.clone(),
            asset: asset.clone(),
            depth_min,
            since_ms: 0,
        };
        let answer = self.client.inner.check_address(request).await.expect("answers").into_inner();
        let mut credits = BTreeMap::new();
        for transfer in answer.transfers {
            *credits.entry(transfer.claimed_by).or_default() += transfer.amount.parse::<u64>().expect("digits");
        }
        assert_eq!(answer.total, credits.values().sum::<u64>().to_string());
        credits
    }

    /// To the settlement: what the stream tells, what `Wait` answers and what the address has received must agree.
    async fn follow(&mut self, id: &str) -> Story {
        let answer = self.wait(id, v1::State::Settled).await;
        let is_settlement = |event: &Seen| event.kind == "settled";
        while !self.told.get(id).is_some_and(|told| told.iter().any(is_settlement)) {
            let next = tokio::time::timeout(PATIENCE, self.events.message()).await.expect("there is more");
            let Some(event) = next.expect("goes on").expect("does not end").event.map(Seen::from) else { continue };
            self.told.entry(event.watch.clone()).or_default().push(event);
        }
        let told = &self.told[id];
        let settlement = told.last().expect("settled");
        assert_eq!(settlement.bytes, answer.settlement, "the same bytes");
        let events = told.iter().map(Seen::short).collect();
        let watch = answer.watch.expect("a watch");
        let outcome = format!("{:?} {}", watch.outcome(), watch.reason).trim_end().to_lowercase();
        let credited = self.credits(DEPTH).await.get(id).copied().unwrap_or_default().to_string();
        Story { events, outcome, received: watch.received, credited }
    }
}
