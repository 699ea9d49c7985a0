//! The loop, with a store that fails when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use h402_watch::chain::{BadField, Family, Report, evm};
use h402_watch::clock::{Clock, SystemClock};
use h402_watch::driver::{Driver, DriverError, Keep, NetworkSetup, Ready, Refusal};
use h402_watch::metrics::DriverMetrics;
use h402_watch::sign::{KeySources, Signer};
use h402_watch::store::{Record, Store, StoreEngine, StoreError, Table, Tables, Write, open_tables};
use h402_watch_engine::id::{BlockRef, Header, Timestamp};
use h402_watch_engine::input::{Block, Observation};
use h402_watch_engine::request::{
    AmountRule, AtDeadline, Binding, Depth, Report as Events, Subject, Terms, WatchRequest,
};
use h402_watch_engine::rules::{Limits, NetworkRules};
use tokio_util::sync::CancellationToken;

struct Faulty {
    inner: Box<dyn Tables>,
    full: Arc<AtomicBool>,
}

impl Tables for Faulty {
    fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        if self.full.load(Ordering::SeqCst) {
            let source = Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull));
            return Err(StoreError::Engine { action: "commit", source });
        }
        self.inner.commit(writes)
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.inner.scan(table, from, to, limit)
    }
}

/// As the family does, which has no descriptors, and lets them pass.
fn spell(request: &mut WatchRequest) -> Result<(), BadField> {
    if let Subject::Descriptor { .. } = request.subject { Ok(()) } else { (evm::FAMILY.request)(request) }
}

fn setup() -> NetworkSetup {
    NetworkSetup {
        rules: NetworkRules {
            network: "eip155:1".into(),
            horizon: 10,
            tags: Vec::new(),
            searches_below: false,
            derive: Some(|keys, branch, index| Some(format!("{keys}/{branch}/{index}").into())),
            deadline_grace_ms: 0,
            proofs: false,
            late_window_ms: 1000,
        },
        aliases: vec!["one".into()],
        family: Family { request: spell, ..evm::FAMILY },
    }
}

fn request(amount: u64) -> WatchRequest {
    WatchRequest {
        network: "one".into(),
        subject: Subject::Transaction { tx: format!("0x{}", "AB".repeat(32)).into(), expiry: None },
        terms: Terms {
            pay_to: format!("0x{}", "12".repeat(20)).into(),
            asset: "native".into(),
            amount: amount.into(),
            amount_rule: AmountRule::AtLeast,
            payer: None,
            depth: Depth::Blocks(1),
            not_before: None,
            from_height: None,
            deadline: SystemClock.now().plus_ms(60_000),
            at_deadline: AtDeadline::Fail,
            memo: None,
            references: Vec::new(),
        },
        binding: Binding::default(),
        idempotency_key: None,
        report: Events::Milestones,
        proofs: None,
    }
}

fn start(full: &Arc<AtomicBool>, folder: &std::path::Path) -> Ready {
    let inner = open_tables(StoreEngine::Fjall, folder).expect("opens");
    let store = Store::over(Box::new(Faulty { inner, full: Arc::clone(full) })).expect("opens");
    let keep = Keep { events_ms: 1_000_000, archived_ms: 1_000_000 };
    let bounds = (Limits::default(), keep);
    let sources = KeySources { key: None, files: &[], default: folder.join("key.pem") };
    let signer = Signer::open(&sources, true).expect("has or makes a key");
    Driver::restore(Arc::new(store), signer, Arc::new(SystemClock), vec![setup()], bounds, DriverMetrics::default())
        .expect("restores")
}

/// Invariants 1 and 3: the caller hears nothing of what could not be committed, and the loop ends.
#[tokio::test]
async fn a_failed_commit_ends_the_driver() {
    let folder = tempfile::tempdir().expect("a folder");
    let full = Arc::new(AtomicBool::new(false));
    let Ready { driver, handle, .. } = start(&full, folder.path());
    let running = tokio::spawn(driver.run(CancellationToken::new()));
    handle.create(request(1)).await.expect("there is room");
    full.store(true, Ordering::SeqCst);
    let refused = handle.create(request(2)).await.expect_err("the disk is full");
    assert!(matches!(refused, Refusal::Unavailable(_)), "{refused}");
    let ended = tokio::time::timeout(Duration::from_secs(5), running).await.expect("ends").expect("joins");
    assert!(matches!(ended, Err(DriverError::Store(_))), "{ended:?}");
    assert!(matches!(handle.create(request(3)).await, Err(Refusal::Unavailable(_))));
}

/// What is in at the shutdown is handled, committed and answered; what comes later is refused.
#[tokio::test]
async fn shutdown_answers_what_is_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let Ready { driver, handle, .. } = start(&Arc::default(), folder.path());
    let shutdown = CancellationToken::new();
    let creates: Vec<_> = (1..=50)
        .map(|amount| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.create(request(amount)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    shutdown.cancel();
    driver.run(shutdown).await.expect("ends well");
    for create in creates {
        assert!(create.await.expect("joins").expect("was in").new);
    }
    let late = handle.create(request(99)).await.expect_err("comes too late");
    assert!(matches!(late, Refusal::Unavailable(_)), "{late}");
    drop(handle);
    let store = Store::open(StoreEngine::Fjall, folder.path()).expect("opens");
    assert_eq!(store.watches(None, 1000, true).expect("reads").len(), 50, "each answer is true");
}

/// Invariant 1: an address that was reserved is never handed out again, whatever happens after the answer.
#[tokio::test]
async fn reserved_address_is_reserved_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut descriptor = request(1);
    descriptor.subject = Subject::Descriptor { descriptor: "keys".into(), gap_limit: 2 };
    let mut paths = Vec::new();
    let mut watch = None;
    for _ in 0..2 {
        let Ready { driver, handle, reports, .. } = start(&Arc::default(), folder.path());
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(driver.run(shutdown.clone()));
        if watch.is_none() {
            let header = Header {
                block: BlockRef { height: 1, hash: "a".into() },
                parent: "genesis".into(),
                time: SystemClock.now(),
                slot: 1,
                bytes: Default::default(),
            };
            let blocks = Observation::Blocks(vec![Block { floor: header.time, header, facts: Vec::new() }]);
            reports.send(("eip155:1".into(), Report::Observation(blocks))).await.expect("is taken");
        }
        // Not before the chain is known.
        let created = loop {
            match handle.create(descriptor.clone()).await {
                Err(Refusal::Unavailable(_)) => tokio::task::yield_now().await,
                created => break created.expect("a good request"),
            }
        };
        assert_eq!(created.new, watch.is_none());
        let id = watch.get_or_insert(created.watch.id).clone();
        for reserve in [false, true] {
            paths.push(handle.next_address(id.clone(), reserve).await.expect("there is room").path());
        }
        if paths.len() == 4 {
            let refused = handle.next_address(id, true).await.expect_err("both are reserved");
            assert!(matches!(refused, Refusal::Exhausted { gap_limit: 2, .. }), "{refused}");
        }
        shutdown.cancel();
        running.await.expect("joins").expect("ends well");
    }
    assert_eq!(paths, ["0/0", "0/0", "0/1", "0/1"]);
}

/// A report that does not link contradicts what was committed: nothing may go on after that.
#[tokio::test]
async fn a_report_that_contradicts_the_chain_ends_the_driver() {
    let folder = tempfile::tempdir().expect("a folder");
    let Ready { driver, reports, .. } = start(&Arc::default(), folder.path());
    let running = tokio::spawn(driver.run(CancellationToken::new()));
    let block = |height: u64, hash: &str, parent: &str| {
        let header = Header {
            block: BlockRef { height, hash: hash.into() },
            parent: parent.into(),
            time: Timestamp(height),
            slot: height,
            bytes: Default::default(),
        };
        Report::Observation(Observation::Blocks(vec![Block { floor: header.time, header, facts: Vec::new() }]))
    };
    for report in [block(1, "a", "genesis"), block(7, "b", "unknown")] {
        reports.send(("eip155:1".into(), report)).await.expect("is taken");
    }
    let ended = tokio::time::timeout(Duration::from_secs(5), running).await.expect("ends").expect("joins");
    assert!(matches!(ended, Err(DriverError::Rejected { .. })), "{ended:?}");
}
