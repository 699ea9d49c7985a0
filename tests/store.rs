//! The store: one suite that both engines pass.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use h402_watch::store::{
    FORMAT_VERSION, Record, Retention, Store, StoreEngine, StoreError, Table, Tables, Write, open_tables,
};
use h402_watch_engine::amount::Amount;
use h402_watch_engine::changes::{Changes, Claim, ClaimKey, ClaimState, Event, EventKind, FinalityMarks};
use h402_watch_engine::id::{BlockRef, Header, NetworkId, Timestamp, WatchId};
use h402_watch_engine::input::{Execution, Place, TxFact, Verification};
use h402_watch_engine::look_ups::LookedUp;
use h402_watch_engine::record::{Recorded, WatchRecord};
use h402_watch_engine::request::{AmountRule, AtDeadline, Binding, Depth, Report, Subject, Terms, WatchRequest};
use h402_watch_engine::watch::{Candidate, Watch};
use proptest::prelude::*;

const ENGINES: [StoreEngine; 2] = [StoreEngine::Fjall, StoreEngine::Sled];
const NETWORK: &str = "eip155:1";
const NOW: Timestamp = Timestamp(1_000);

fn both(test: impl Fn(StoreEngine, &Path)) {
    for engine in ENGINES {
        let dir = tempfile::tempdir().expect("a temporary directory");
        test(engine, dir.path());
    }
}

fn open(engine: StoreEngine, path: &Path) -> Store {
    Store::open(engine, path).expect("the store opens")
}

fn watch(ordinal: u64, tx: &str) -> Watch {
    let fact = TxFact {
        tx: tx.into(),
        place: Place::Mempool,
        sender: None,
        execution: Execution::Unknown,
        spends: vec!["a/1".into()],
        transfers: Vec::new(),
        transfers_known: false,
        authorizations: Vec::new(),
        replaceable: true,
        matures: 0,
        funded_by: Vec::new(),
        memos: Vec::new(),
        references: Vec::new(),
        notes: Default::default(),
        verification: Verification::Endpoint,
        proof: None,
    };
    let candidate = Candidate {
        fact,
        placed: true,
        replacement: false,
        followed: false,
        accepted: false,
        claimed: vec![0],
        late: false,
        orphaned_from: None,
    };
    Watch {
        id: format!("w{ordinal:032}").into(),
        ordinal,
        proofs: false,
        request: WatchRequest {
            network: NETWORK.into(),
            subject: Subject::Transaction { tx: tx.into(), expiry: None },
            terms: Terms {
                pay_to: "shop".into(),
                asset: "native".into(),
                amount: Amount::MAX,
                amount_rule: AmountRule::AtLeast,
                payer: None,
                depth: Depth::Blocks(3),
                not_before: None,
                from_height: None,
                deadline: Timestamp(99),
                at_deadline: AtDeadline::Fail,
                memo: None,
                references: Vec::new(),
            },
            binding: Binding::default(),
            idempotency_key: Some(format!("key-{ordinal}")),
            report: Report::Milestones,
            proofs: None,
        },
        created_at: NOW,
        created_height: Some(7),
        candidates: vec![candidate],
        outcome: None,
        received: Amount::ZERO,
        extended: false,
        late_until: None,
        finalized: false,
        archived: false,
        artefacts: 0,
        last_hash: None,
        expired: None,
        window: None,
    }
}

fn event(sequence: u64, watch: &Watch, index: u32) -> Event {
    Event {
        sequence,
        watch: watch.id.clone(),
        network: NETWORK.into(),
        index,
        kind: EventKind::Seen,
        observed_at: Timestamp(sequence),
        artefact: format!("{{\"n\":{sequence}}}").into_bytes(),
        receipt_hash: [7; 32],
        signature: format!("header..{sequence}"),
    }
}

fn claim(watch: &Watch, tx: &str) -> (ClaimKey, Option<Claim>) {
    let key = ClaimKey { network: NETWORK.into(), tx: tx.into(), index: 0 };
    (key, Some(Claim { watch: watch.id.clone(), state: ClaimState::Consumed }))
}

/// How many claims there are on transactions `tx-a`, `tx-b` and those that are numbered.
fn claims_of(store: &Store, numbers: std::ops::Range<u64>) -> u64 {
    let txs = ["tx-a".to_owned(), "tx-b".to_owned()].into_iter().chain(numbers.map(|n| format!("tx-{n}")));
    txs.map(|tx| store.claims_of(&NETWORK.into(), &tx.into()).expect("reads").len() as u64).sum()
}

fn header(height: u64, branch: &str) -> (NetworkId, Header) {
    let block = BlockRef { height, hash: format!("{height}{branch}").into() };
    (
        NETWORK.into(),
        Header {
            block,
            parent: format!("{}{branch}", height - 1).into(),
            time: Timestamp(height),
            slot: height,
            bytes: Default::default(),
        },
    )
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    both(|engine, path| {
        let (first, second) = (watch(0, "tx-a"), watch(1, "tx-b"));
        let marks = FinalityMarks { finalized: Some(4), ..FinalityMarks::default() };
        let looked_up = LookedUp::new(2, [0]);
        {
            let store = open(engine, path);
            let changes = Changes {
                watches: vec![Recorded::of(first.clone()), Recorded::of(second.clone())],
                claims: vec![claim(&first, "tx-a")],
                events: vec![event(1, &first, 1), event(2, &first, 2), event(3, &second, 1)],
                headers: vec![header(9, "a"), header(10, "a")],
                finality: vec![(NETWORK.into(), marks.clone())],
                looked_up: vec![(NETWORK.into(), looked_up.clone())],
                ..Changes::default()
            };
            store.commit(NOW, &changes).expect("commits");
            let fork = Changes {
                headers_removed: vec![(NETWORK.into(), 10)],
                headers: vec![header(10, "b")],
                ..Changes::default()
            };
            store.commit(NOW, &fork).expect("commits");
        }
        let store = open(engine, path);
        let snapshot = store.snapshot().expect("reads");
        assert_eq!(store.open_watches().expect("reads"), [WatchRecord::of(&first), WatchRecord::of(&second)]);
        assert_eq!(claims_of(&store, 0..2), 1);
        assert_eq!(snapshot.chains, [(NETWORK.into(), vec![header(9, "a").1, header(10, "b").1])]);
        assert_eq!(snapshot.finality, [(NETWORK.into(), marks)]);
        assert_eq!(snapshot.looked_up, [(NETWORK.into(), looked_up)]);
        assert_eq!((snapshot.next_sequence, snapshot.next_ordinal), (4, 2));
        assert_eq!(store.events(1, 10).expect("reads").iter().map(|e| e.sequence).collect::<Vec<_>>(), [2, 3]);
        let artefacts = store.artefacts(&first.id, 1, 10).expect("reads");
        assert_eq!(artefacts, [event(2, &first, 2)]);
        assert_eq!(store.watch_by_key("key-1").expect("reads"), Some(second.id.clone()));
        assert_eq!(store.watches(Some(&first.id), 10, false).expect("reads"), [second]);
    });
}

#[test]
fn an_archived_watch_is_still_found_and_no_longer_loaded() {
    both(|engine, path| {
        let store = open(engine, path);
        let open_watch = watch(0, "tx-a");
        store
            .commit(NOW, &Changes { watches: vec![Recorded::of(open_watch.clone())], ..Changes::default() })
            .expect("commits");
        let archived = Watch { archived: true, ..open_watch };
        store
            .commit(NOW, &Changes { watches: vec![Recorded::of(archived.clone())], ..Changes::default() })
            .expect("commits");
        assert_eq!(store.watch(&archived.id).expect("reads"), Some(archived.clone()));
        assert_eq!(store.watches(None, 10, true).expect("reads"), []);
        assert_eq!(store.watches(None, 10, false).expect("reads"), [archived]);
        assert_eq!(store.open_watches().expect("reads"), []);
    });
}

#[test]
fn events_that_leave_a_gap_are_refused_invariant_5() {
    both(|engine, path| {
        let store = open(engine, path);
        let first = watch(0, "tx-a");
        let changes = Changes {
            watches: vec![Recorded::of(first.clone())],
            events: vec![event(2, &first, 1)],
            ..Changes::default()
        };
        let error = store.commit(NOW, &changes).expect_err("a gap");
        assert!(matches!(error, StoreError::Gap { found: 2, expected: 1 }), "{error}");
        assert_eq!(store.watch(&first.id).expect("reads"), None, "nothing of it was written");
    });
}

#[test]
fn pruning_keeps_the_log_gap_free_and_the_artefacts_of_watches_that_stay() {
    both(|engine, path| {
        let store = open(engine, path);
        let (gone, stays) = (Watch { archived: true, ..watch(0, "tx-a") }, watch(1, "tx-b"));
        let changes = Changes {
            watches: vec![Recorded::of(gone.clone()), Recorded::of(stays.clone())],
            claims: vec![claim(&gone, "tx-a"), claim(&stays, "tx-b")],
            events: vec![event(1, &gone, 1), event(2, &stays, 1), event(3, &gone, 2), event(4, &stays, 2)],
            ..Changes::default()
        };
        store.commit(NOW, &changes).expect("commits");
        let nothing = Retention { events_before: Timestamp(1), archived_before: NOW };
        assert_eq!(store.prune(nothing, 10).expect("prunes"), Default::default());
        let retention = Retention { events_before: Timestamp(4), archived_before: NOW.plus_ms(1) };
        let pruned = store.prune(retention, 2).expect("prunes");
        assert_eq!((pruned.events, pruned.watches), (2, 1), "no more than the limit at once");
        store.prune(retention, 2).expect("prunes");
        assert_eq!((store.oldest_sequence(), store.newest_sequence()), (4, 4));
        assert_eq!(store.events(0, 10).expect("reads"), [event(4, &stays, 2)]);
        assert_eq!(store.artefacts(&stays.id, 0, 10).expect("reads"), [event(2, &stays, 1), event(4, &stays, 2)]);
        assert_eq!(store.watch(&gone.id).expect("reads"), None);
        assert_eq!(store.watch_by_key("key-0").expect("reads"), None);
        assert_eq!(store.claims_of(&NETWORK.into(), &"tx-a".into()).expect("reads"), []);
        assert_eq!(store.claims_of(&NETWORK.into(), &"tx-b".into()).expect("reads").len(), 1);
        drop(store);
        assert_eq!(open(engine, path).oldest_sequence(), 4);
    });
}

#[test]
fn an_unknown_format_and_another_engine_are_refused() {
    both(|engine, path| {
        drop(open(engine, path));
        let other = if engine == StoreEngine::Sled { StoreEngine::Fjall } else { StoreEngine::Sled };
        assert!(matches!(Store::open(other, path), Err(StoreError::Format { .. })));
        let tables = open_tables(engine, path).expect("opens");
        let format = Write::Put(Table::Meta, b"format".to_vec(), postcard::to_stdvec(&99_u32).expect("encodes"));
        tables.commit(vec![format]).expect("commits");
        drop(tables);
        let error = Store::open(engine, path).err().expect("format 99");
        let expected = format!("store: it holds format 99; this version reads format {FORMAT_VERSION}");
        assert_eq!(error.to_string(), expected);
    });
}

#[test]
fn a_store_that_is_open_is_not_opened_again() {
    both(|engine, path| {
        let _held = open(engine, path);
        assert!(matches!(Store::open(engine, path), Err(StoreError::Engine { .. })));
    });
}

#[test]
fn a_damaged_record_is_an_error_that_names_its_table() {
    both(|engine, path| {
        drop(open(engine, path));
        let tables = open_tables(engine, path).expect("opens");
        tables.commit(vec![Write::Put(Table::Open, b"w1".to_vec(), vec![0xff; 3])]).expect("commits");
        drop(tables);
        let error = open(engine, path).open_watches().expect_err("damaged");
        assert!(error.to_string().starts_with("store: a record of table open is damaged"), "{error}");
    });
}

/// Tables whose n-th commit fails, as on a full disk.
struct Failing {
    inner: Box<dyn Tables>,
    commits_left: AtomicUsize,
}

impl Tables for Failing {
    fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        if self.commits_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(StoreError::Engine { action: "commit", source: Box::new(full) });
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

#[test]
fn after_a_failed_commit_nothing_more_is_written_invariant_3() {
    both(|engine, path| {
        let inner = open_tables(engine, path).expect("opens");
        // The first commit writes the format.
        let store = Store::over(Box::new(Failing { inner, commits_left: AtomicUsize::new(2) })).expect("opens");
        let changes = |n| Changes { watches: vec![Recorded::of(watch(n, "tx"))], ..Changes::default() };
        assert!(matches!(store.commit(NOW, &changes(0)), Err(StoreError::Engine { .. })));
        assert!(matches!(store.commit(NOW, &changes(1)), Err(StoreError::Poisoned)));
        // Nor is anything said of what may or may not be there.
        assert!(matches!(store.watches(None, 10, false), Err(StoreError::Poisoned)));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Each engine behaves as a sorted map, over restarts too.
    #[test]
    fn tables_behave_as_sorted_maps(batches in prop::collection::vec(batch(), 1..12), engine in 0..2_usize) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let engine = ENGINES[engine];
        let mut model = BTreeMap::<(Table, Vec<u8>), Vec<u8>>::new();
        let mut tables = open_tables(engine, dir.path()).expect("opens");
        for (i, writes) in batches.into_iter().enumerate() {
            let mut unique = BTreeMap::new();
            for (table, key, value) in writes {
                unique.insert((table, key), value);
            }
            let writes = unique.iter().map(|((table, key), value)| match value {
                Some(value) => Write::Put(*table, key.clone(), value.clone()),
                None => Write::Delete(*table, key.clone()),
            });
            tables.commit(writes.collect()).expect("commits");
            for (at, value) in unique {
                match value {
                    Some(value) => model.insert(at, value),
                    None => model.remove(&at),
                };
            }
            if i % 4 == 3 {
                drop(tables);
                tables = open_tables(engine, dir.path()).expect("opens");
            }
            check_tables(tables.as_ref(), &model)?;
        }
    }
}

type Change = (Table, Vec<u8>, Option<Vec<u8>>);

fn batch() -> impl Strategy<Value = Vec<Change>> {
    let table = prop::sample::select(vec![Table::Meta, Table::Open, Table::Events, Table::Finality]);
    let key = prop::collection::vec(0..3_u8, 1..4);
    let value = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..40));
    prop::collection::vec((table, key, value), 0..20)
}

fn check_tables(tables: &dyn Tables, model: &BTreeMap<(Table, Vec<u8>), Vec<u8>>) -> Result<(), TestCaseError> {
    for table in [Table::Meta, Table::Open, Table::Events, Table::Finality] {
        let expected: Vec<Record> =
            model.iter().filter(|((t, _), _)| *t == table).map(|((_, k), v)| (k.clone(), v.clone())).collect();
        prop_assert_eq!(&tables.scan(table, &[], None, usize::MAX).expect("scans"), &expected);
        let (from, to): (&[u8], &[u8]) = (&[0, 1], &[2]);
        let within = expected.iter().filter(|(k, _)| k.as_slice() >= from && k.as_slice() < to).take(3).cloned();
        prop_assert_eq!(tables.scan(table, from, Some(to), 3).expect("scans"), within.collect::<Vec<_>>());
        prop_assert_eq!(tables.scan(table, to, Some(from), 3).expect("scans"), Vec::new());
        for (key, value) in &expected {
            prop_assert_eq!(tables.get(table, key).expect("reads"), Some(value.clone()));
        }
        prop_assert_eq!(tables.get(table, b"nowhere").expect("reads"), None);
    }
    Ok(())
}

const CHILD_DIR: &str = "H402_TEST_STORE_DIR";
const CHILD_ENGINE: &str = "H402_TEST_STORE_ENGINE";

/// Not a test of its own: the process that the next test kills. It says each sequence that was acknowledged.
#[test]
#[allow(clippy::print_stdout)]
fn writer_child() {
    let (Ok(dir), Ok(engine)) = (std::env::var(CHILD_DIR), std::env::var(CHILD_ENGINE)) else { return };
    let engine = if engine == "sled" { StoreEngine::Sled } else { StoreEngine::Fjall };
    let store = open(engine, Path::new(&dir));
    let mut snapshot = store.snapshot().expect("reads");
    for _ in 0..100_000 {
        let ordinal = snapshot.next_ordinal;
        let made = watch(ordinal, &format!("tx-{ordinal}"));
        let sequence = snapshot.next_sequence;
        let changes = Changes {
            claims: vec![claim(&made, made.candidates[0].fact.tx.as_str())],
            events: vec![event(sequence, &made, 1), event(sequence + 1, &made, 2)],
            watches: vec![Recorded::of(made)],
            ..Changes::default()
        };
        store.commit(NOW, &changes).expect("commits");
        snapshot.next_ordinal += 1;
        snapshot.next_sequence += 2;
        println!("\nacknowledged {}", sequence + 1);
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_acknowledged_and_leaves_nothing_half() {
    both(|engine, path| {
        let mut acknowledged = 0;
        for round in 0..6 {
            let mut child = Command::new(std::env::current_exe().expect("this test"))
                .args(["--exact", "writer_child", "--nocapture"])
                .env(CHILD_DIR, path)
                .env(CHILD_ENGINE, engine.as_str())
                .stdout(Stdio::piped())
                .spawn()
                .expect("starts");
            let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
            for line in lines.map_while(Result::ok) {
                if let Some(sequence) = line.strip_prefix("acknowledged ") {
                    acknowledged = sequence.parse().expect("a number");
                    if acknowledged % 50 > 30 + round {
                        break;
                    }
                }
            }
            child.kill().expect("SIGKILL");
            child.wait().expect("ends");
            let store = open(engine, path);
            let newest = store.newest_sequence();
            assert!(
                newest >= acknowledged && newest.is_multiple_of(2),
                "{newest} after {acknowledged} was acknowledged"
            );
            let log = store.events(0, usize::MAX).expect("reads");
            assert!(log.iter().zip(1..).all(|(event, sequence)| event.sequence == sequence));
            let snapshot = store.snapshot().expect("reads");
            assert_eq!(store.open_watches().expect("reads").len() as u64, newest / 2);
            assert_eq!(claims_of(&store, 0..snapshot.next_ordinal), newest / 2);
        }
        assert!(acknowledged > 0);
    });
}

/// Values that sled keeps in files of their own, too.
#[test]
fn large_records_are_kept() {
    both(|engine, path| {
        let mut large = watch(0, "tx");
        large.candidates = (0..2000).map(|n| Candidate { claimed: vec![n], ..large.candidates[0].clone() }).collect();
        {
            let store = open(engine, path);
            for _ in 0..3 {
                let changes = Changes { watches: vec![Recorded::of(large.clone())], ..Changes::default() };
                store.commit(NOW, &changes).expect("commits");
            }
        }
        assert_eq!(open(engine, path).watch(&large.id).expect("reads"), Some(large));
    });
}

/// The largest file of a store is the one that is appended to.
/// A client takes 4 MiB in one message: pages of large artefacts are short, and lead on to the end all the same.
#[test]
fn pages_are_bounded_in_bytes() {
    both(|engine, path| {
        let store = open(engine, path);
        let one = watch(0, "tx");
        let sized = |sequence: u64, bytes| {
            let index = u32::try_from(sequence).expect("small");
            Event { artefact: vec![b'x'; bytes], ..event(sequence, &one, index) }
        };
        // One alone that is larger than a page comes alone.
        let sizes = [10, 1 << 20, 1 << 20, 3 << 20, 10, 10];
        let events: Vec<_> = (1..).zip(sizes).map(|(sequence, bytes)| sized(sequence, bytes)).collect();
        store
            .commit(NOW, &Changes { watches: vec![Recorded::of(one.clone())], events, ..Changes::default() })
            .expect("commits");
        let (mut after, mut pages) = (0, Vec::new());
        loop {
            let page = store.page(after, 100).expect("reads");
            let Some(last) = page.last() else { break };
            after = last.sequence;
            let sequences: Vec<_> = page.iter().map(|event| event.sequence).collect();
            let artefacts =
                store.artefacts(&one.id, u32::try_from(sequences[0] - 1).expect("small"), 100).expect("reads");
            assert_eq!(artefacts, page, "the same of one watch");
            pages.push(sequences);
        }
        assert_eq!(pages, [vec![1, 2], vec![3], vec![4], vec![5, 6]]);
        assert_eq!(store.page(0, 1).expect("reads").len(), 1);
    });
}

fn appended_file(path: &Path) -> std::path::PathBuf {
    let mut folders = vec![path.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((std::fs::metadata(&path).expect("a file").len(), path));
            }
        }
    }
    found.into_iter().max().expect("files").1
}

/// A torn or overwritten end of the file: the store opens with whole commits only, or says that it can't.
#[test]
fn a_damaged_tail_is_cut_or_refused() {
    for damage in [3_usize, 40, 400] {
        both(|engine, path| {
            let store = open(engine, path);
            for n in 0..30 {
                let made = watch(n, &format!("tx-{n}"));
                let events = vec![event(2 * n + 1, &made, 1), event(2 * n + 2, &made, 2)];
                let claims = vec![claim(&made, &format!("tx-{n}"))];
                let changes = Changes { watches: vec![Recorded::of(made)], claims, events, ..Changes::default() };
                store.commit(NOW, &changes).expect("commits");
            }
            drop(store);
            let file = appended_file(path);
            let mut bytes = std::fs::read(&file).expect("reads");
            let end = bytes.iter().rposition(|byte| *byte != 0).expect("not empty") + 1;
            bytes.truncate(end.saturating_sub(damage));
            std::fs::write(&file, bytes).expect("writes");
            let Ok(store) = Store::open(engine, path) else { return };
            let Ok(watches) = store.open_watches() else { return };
            let whole = watches.len() as u64;
            assert_eq!(store.newest_sequence(), 2 * whole, "{engine:?} {damage}");
            assert_eq!(store.events(0, usize::MAX).expect("reads").len() as u64, 2 * whole);
            assert_eq!(claims_of(&store, 0..whole), whole);
        });
    }
}

#[test]
fn reads_from_other_threads_see_whole_commits() {
    both(|engine, path| {
        let store = Arc::new(open(engine, path));
        let first = watch(0, "tx");
        let reader = {
            let (store, id): (_, WatchId) = (Arc::clone(&store), first.id.clone());
            std::thread::spawn(move || {
                let mut seen = 0;
                while seen < 40 {
                    let newest = store.newest_sequence();
                    let log = store.events(0, usize::MAX).expect("reads");
                    assert!(log.len() as u64 >= newest);
                    assert!(store.artefacts(&id, 0, usize::MAX).expect("reads").len() as u64 >= newest);
                    if newest > 0 {
                        assert!(store.watch(&id).expect("reads").is_some(), "in one table or the other");
                    }
                    seen = newest;
                }
            })
        };
        for sequence in 1..=40 {
            let index = u32::try_from(sequence).expect("small");
            let changes = Changes {
                watches: vec![Recorded::of(first.clone())],
                events: vec![event(sequence, &first, index)],
                ..Changes::default()
            };
            store.commit(NOW, &changes).expect("commits");
        }
        reader.join().expect("the reader is content");
    });
}
