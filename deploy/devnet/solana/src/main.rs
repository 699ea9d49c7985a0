//! An offline Solana node for development: the runtime of LiteSVM behind Agave's JSON-RPC, over HTTP and websocket.
//!
//! `solnode [--rpc-port N] [--ws-port N] [--slot-ms N] [--manual]`
//!
//! Prints a line of JSON when it is ready. Then it reads commands, until the end of its input:
//!
//! - `slot [n]` seals n slots. A node that seals them by the clock stops doing so.
//! - `mark` remembers the state of the chain.
//! - `back` returns to it. What follows is another branch: other blocks, without what was sent since.

mod blocks;

use std::io::BufRead;
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, unbounded};
use surfpool_core::runloops::start_local_surfnet_runloop;
use surfpool_core::surfnet::locker::SurfnetSvmLocker;
use surfpool_core::surfnet::svm::{SurfnetSvm, SurfnetSvmConfig};
use surfpool_core::surfnet::{BlockIdentifier, FINALIZATION_SLOT_THRESHOLD};
use surfpool_types::{BlockProductionMode, RpcConfig, SimnetCommand, SimnetConfig, SimnetEvent, SurfpoolConfig};

/// Sealed before it is ready, so that there is a finalized block from the start.
const FIRST_SLOTS: u64 = FINALIZATION_SLOT_THRESHOLD + 1;

fn main() {
    let (rpc_port, ws_port) = (option("--rpc-port", 8899), option("--ws-port", 8900));
    let slot_time = option("--slot-ms", 400);
    let manual = std::env::args().any(|argument| argument == "--manual");
    let mode = if manual { BlockProductionMode::Manual } else { BlockProductionMode::Clock };
    let simnet = SimnetConfig {
        offline_mode: true,
        slot_time,
        block_production_mode: BlockProductionMode::Manual,
        instruction_profiling_enabled: false,
        ..SimnetConfig::default()
    };
    let rpc = RpcConfig { bind_host: "127.0.0.1".into(), bind_port: rpc_port, ws_port, ..RpcConfig::default() };
    let config = SurfpoolConfig { simnets: vec![simnet], rpc, ..SurfpoolConfig::default() };
    let svm_config =
        SurfnetSvmConfig { slot_time, instruction_profiling_enabled: false, ..SurfnetSvmConfig::default() };
    let (mut svm, events, geyser) = SurfnetSvm::new(svm_config).expect("a virtual machine");
    let chain = Chain::start(&mut svm);
    let ready_slot = svm.latest_epoch_info.absolute_slot + FIRST_SLOTS;
    let locker = SurfnetSvmLocker::new(svm);
    let (commands, received) = unbounded();
    let (for_rpc, for_run) = (commands.clone(), locker.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let run = start_local_surfnet_runloop(for_run, config, for_rpc, received, geyser);
        runtime.block_on(run).unwrap_or_else(|error| end(&format!("it does not run: {error}")));
    });
    let for_events = commands.clone();
    std::thread::spawn(move || follow(&events, &for_events, ready_slot, mode));
    chain.obey(&locker, &commands);
}

fn option<T: FromStr>(name: &str, otherwise: T) -> T {
    let value = std::env::args().skip_while(|argument| argument != name).nth(1);
    value.map_or(otherwise, |value| value.parse().unwrap_or_else(|_| end(&format!("{name}: not {value}"))))
}

fn end(why: &str) -> ! {
    eprintln!("solnode: {why}");
    std::process::exit(1)
}

fn seal(commands: &Sender<SimnetCommand>, slots: u64) {
    for _ in 0..slots {
        commands.send(SimnetCommand::SlotForward(None)).expect("the node runs");
    }
}

/// Seals the first slots, and says when it is ready.
fn follow(
    events: &Receiver<SimnetEvent>,
    commands: &Sender<SimnetCommand>,
    ready_slot: u64,
    mode: BlockProductionMode,
) {
    let mut ready = false;
    for event in events {
        match event {
            SimnetEvent::CoreStarted(_) => seal(commands, FIRST_SLOTS),
            SimnetEvent::SystemClockUpdated(clock) if !ready && clock.slot >= ready_slot => {
                ready = true;
                commands.send(SimnetCommand::UpdateBlockProductionMode(mode.clone())).expect("the node runs");
                println!("{}", serde_json::json!({ "slot": clock.slot }));
            }
            SimnetEvent::Aborted(error) => end(&error),
            _ => {}
        }
    }
}

struct Chain {
    branches: Arc<Mutex<Vec<u64>>>,
    mark: Option<SurfnetSvm>,
}

impl Chain {
    /// Puts the node's chain into order: one count for heights and hashes, and a present time once the first slots are sealed.
    fn start(svm: &mut SurfnetSvm) -> Self {
        let first_slot = svm.latest_epoch_info.absolute_slot;
        let first_ms = svm.updated_at - FIRST_SLOTS * svm.slot_time;
        let branches = Arc::default();
        (svm.updated_at, svm.genesis_updated_at) = (first_ms, first_ms);
        svm.latest_epoch_info.block_height = blocks::height(first_slot);
        svm.chain_tip = BlockIdentifier::new(blocks::height(first_slot), &blocks::recent(first_slot - 1));
        svm.reconstruct_sysvars();
        svm.blocks = Box::new(blocks::Blocks {
            inner: svm.blocks.clone(),
            first_slot,
            first_ms,
            slot_ms: svm.slot_time,
            branches: Arc::clone(&branches),
        });
        Self { branches, mark: None }
    }

    fn obey(mut self, locker: &SurfnetSvmLocker, commands: &Sender<SimnetCommand>) {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                ["slot"] => seal(commands, 1),
                ["slot", slots] => seal(commands, slots.parse().unwrap_or_else(|_| end(&line))),
                ["mark"] => self.mark = Some(locker.with_svm_reader(SurfnetSvm::clone)),
                ["back"] => locker.with_svm_writer(|svm| self.back(svm)),
                _ => end(&format!("no such command: {line}")),
            }
            println!("{}", serde_json::json!({ "done": line }));
        }
    }

    fn back(&self, svm: &mut SurfnetSvm) {
        let mut old = self.mark.clone().unwrap_or_else(|| end("there is no mark"));
        // Who listens goes on listening.
        std::mem::swap(&mut old.signature_subscriptions, &mut svm.signature_subscriptions);
        std::mem::swap(&mut old.account_subscriptions, &mut svm.account_subscriptions);
        std::mem::swap(&mut old.program_subscriptions, &mut svm.program_subscriptions);
        std::mem::swap(&mut old.slot_subscriptions, &mut svm.slot_subscriptions);
        std::mem::swap(&mut old.slots_updates_subscriptions, &mut svm.slots_updates_subscriptions);
        std::mem::swap(&mut old.logs_subscriptions, &mut svm.logs_subscriptions);
        self.branches.lock().expect("no thread panics with it").push(old.latest_epoch_info.absolute_slot);
        *svm = old;
    }
}
