//! Invariant 4, over the whole service: who follows the same chain from the same requests writes the same bytes, whether it is
//! stopped on the way or not.

use std::process::Command;

use futures_util::future::join_all;
use h402_watch_proto::v1;
use h402_watch_proto::v1::watch_spec::Subject;

use crate::payers::{Customer, Town};
use crate::support::client::{Seen, address, now_ms, spec, tx, with};
use crate::support::proofs::{audited, keys};
use crate::support::service::Service;
use crate::{AMOUNT, BINARY};

const DEPTH: u32 = 4;

/// One payment, as both services are asked about it.
struct Sale {
    spec: v1::WatchSpec,
    /// Whether the network tells of transactions before they are in a block.
    shown: bool,
}

/// What a customer is to pay, by transaction and by address.
async fn sales(customer: &Customer<'_>, deadline_ms: u64) -> [Sale; 2] {
    let (counter, online) = (customer.shop().await, customer.other_shop().await);
    let sale = |subject: Subject, shop: &str| {
        let asked = with(spec(subject, shop, AMOUNT, DEPTH), |terms| {
            terms.asset = customer.asset();
            terms.deadline_ms = deadline_ms;
        });
        v1::WatchSpec { network: customer.network().into(), proofs: Some(true), ..asked }
    };
    let paid = customer.pay(&online, AMOUNT).await;
    let (by_address, by_tx) = (sale(address(), &counter), sale(tx(&paid), &online));
    let pools_tell = !matches!(customer, Customer::Sol(_) | Customer::Spl(..));
    let addresses_too = matches!(customer, Customer::Bitcoin(_));
    [Sale { spec: by_address, shown: addresses_too }, Sale { spec: by_tx, shown: pools_tell }]
}

async fn wait(service: &Service, id: &str, until: v1::State) {
    let request = v1::WaitRequest { watch_id: id.into(), until: until.into(), timeout_ms: 60_000 };
    let answer = service.client().await.inner.wait(request).await.expect("answers").into_inner();
    assert!(answer.reached, "waiting for {until:?} of {:?}", answer.watch);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_and_one_that_was_killed_write_the_same_bytes() {
    let key = tempfile::tempdir().expect("a folder");
    let file = key.path().join("key.pem");
    let made = Command::new(BINARY).args(["key", "new"]).arg(&file).output().expect("it runs");
    assert!(made.status.success());
    let town = Town::build_with(&format!("[signing]\nkeys = [\"{}\"]\n", file.display())).await;
    let steady = &town.service;
    let mut killed = Service::start(BINARY, steady.setup.clone()).await;
    let customers = town.customers();
    let deadline_ms = now_ms() + 600_000;
    let sales: Vec<_> = join_all(customers.iter().map(|customer| sales(customer, deadline_ms))).await;
    let mut ids = Vec::new();
    for sale in sales.iter().flatten() {
        let id = steady.client().await.create(sale.spec.clone()).await;
        assert_eq!(killed.client().await.create(sale.spec.clone()).await, id, "the same request, the same name");
        ids.push((id, sale.shown));
    }
    for (customer, [counter, _]) in customers.iter().zip(&sales) {
        customer.pay(&counter.spec.terms.as_ref().expect("terms").pay_to, AMOUNT).await;
    }
    for (id, _) in ids.iter().filter(|(_, shown)| *shown) {
        for service in [steady, &killed] {
            wait(service, id, v1::State::Seen).await;
        }
    }
    town.blocks(1).await;
    for (id, _) in &ids {
        for service in [steady, &killed] {
            wait(service, id, v1::State::Included).await;
        }
    }
    killed.kill();
    town.blocks(2).await;
    killed.restart().await;
    town.blocks(2).await;
    let (steady_keys, killed_keys) = (keys(steady).await, keys(&killed).await);
    for (id, _) in &ids {
        for service in [steady, &killed] {
            wait(service, id, v1::State::Settled).await;
        }
        let story = async |service: &Service| service.client().await.receipts(id).await;
        let (ours, theirs) = (story(steady).await, story(&killed).await);
        let until_settled = |all: &[Seen]| {
            let upto = all.iter().position(|seen| seen.kind == "settled").expect("settled") + 1;
            all[..upto].iter().map(|seen| (seen.bytes.clone(), seen.signature.clone())).collect::<Vec<_>>()
        };
        let texts = |all: &[Seen]| all.iter().map(|seen| seen.artefact.to_string()).collect::<Vec<_>>();
        assert!(until_settled(&ours) == until_settled(&theirs), "{:#?}\n{:#?}", texts(&ours), texts(&theirs));
        assert_eq!(ours.last().map(Seen::short).as_deref(), Some("settled:success"), "{:#?}", texts(&ours));
        audited(&ours, &killed_keys);
        audited(&theirs, &steady_keys);
    }
}
