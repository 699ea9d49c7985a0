//! The command line.

mod hash;
mod key;
mod verify;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use h402_watch_proto::v1;
use h402_watch_proto::v1::watch_service_client::WatchServiceClient;
use h402_watch_verify::evidence::Evidence;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::run::{self, run};
use crate::telemetry;
use hash::HashCommand;
use key::KeyCommand;
use verify::VerifyCommand;

/// Validates payments that the payer broadcasts.
#[derive(Parser)]
#[command(name = "h402-watch", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service.
    Serve(ConfigFile),
    /// Read the configuration and say what is wrong with it; start nothing.
    CheckConfig(ConfigFile),
    /// Make a watch at a running service and follow it to its outcome.
    Watch(Box<WatchCommand>),
    /// Print the artefacts of a watch with their signatures, one line of JSON each, or write them to files.
    Receipts(ReceiptsCommand),
    /// Print an address of a descriptor watch to be paid at, and its path.
    NextAddress(NextAddressCommand),
    /// The keys that artefacts are signed with.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Check artefacts offline: their form, signatures, chain of hashes, inclusion proofs, and that they meet their terms.
    Verify(VerifyCommand),
    /// Print the hash of a quote or of an authorisation, as a watch is bound to it.
    Hash(HashCommand),
}

#[derive(Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(long, short, default_value = "h402-watch.toml", env = "H402_WATCH_CONFIG")]
    config: PathBuf,
}

#[derive(Args)]
struct Server {
    /// Where the service listens.
    #[arg(long, default_value = "http://127.0.0.1:4020", env = "H402_WATCH_SERVER", global = true)]
    server: String,
    /// A bearer token of the service.
    #[arg(long, env = "H402_WATCH_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// A certificate to trust, PEM, for a server with TLS.
    #[arg(long, global = true)]
    ca: Option<PathBuf>,
}

#[derive(Args)]
struct WatchCommand {
    #[command(flatten)]
    server: Server,
    #[command(subcommand)]
    subject: SubjectCommand,
}

#[derive(Subcommand)]
enum SubjectCommand {
    /// Follow one transaction.
    Tx {
        /// Its hash, txid or signature.
        tx: String,
        #[command(flatten)]
        expiry: ExpiryArgs,
        #[command(flatten)]
        recipient: Recipient,
        #[command(flatten)]
        terms: TermsArgs,
    },
    /// Follow what reaches the address given as --pay-to.
    Address {
        #[command(flatten)]
        recipient: Recipient,
        #[command(flatten)]
        terms: TermsArgs,
    },
    /// Follow what reaches any address of a wallet.
    Descriptor {
        /// An output descriptor with a wildcard, or an extended public key.
        descriptor: String,
        /// How many unused addresses above the highest used one are looked for.
        #[arg(long, default_value_t = 20)]
        gap_limit: u32,
        #[command(flatten)]
        terms: TermsArgs,
    },
}

#[derive(Args, Default)]
struct Recipient {
    /// Who must receive the payment.
    #[arg(long)]
    pay_to: String,
    /// A memo that its transaction must carry.
    #[arg(long)]
    memo: Option<String>,
    /// An address that its transaction must name; may be given several times.
    #[arg(long = "reference", value_name = "ADDRESS")]
    references: Vec<String>,
}

#[derive(Args)]
struct ExpiryArgs {
    /// The last height of a block that may include it: the lastValidBlockHeight of its blockhash.
    #[arg(long, conflicts_with = "nonce_account")]
    last_valid_height: Option<u64>,
    /// The account of the durable nonce that it uses.
    #[arg(long, requires = "nonce")]
    nonce_account: Option<String>,
    /// The nonce that it was signed with.
    #[arg(long, requires = "nonce_account")]
    nonce: Option<String>,
}

#[derive(Args)]
struct TermsArgs {
    /// CAIP-2 name or alias.
    #[arg(long)]
    network: String,
    /// How much, in the asset's smallest unit; with --decimals, in whole units.
    #[arg(long)]
    amount: String,
    /// The decimals of the asset: --amount 1.5 --decimals 6 is 1500000.
    #[arg(long)]
    decimals: Option<u8>,
    /// native, or the token's address.
    #[arg(long, default_value = "native")]
    asset: String,
    /// Blocks, or: confirmed, safe, finalized.
    #[arg(long, default_value = "1")]
    depth: String,
    /// How long until the deadline, seconds.
    #[arg(long, default_value_t = 900)]
    deadline_s: u64,
    /// The lowest block that counts: also what was paid before is looked for, from there on.
    #[arg(long)]
    from_height: Option<u64>,
    /// The hash of the quote that is paid.
    #[arg(long)]
    quote_hash: Option<String>,
    /// Have inclusion proofs in the artefacts, whatever the network's configuration says.
    #[arg(long)]
    proofs: bool,
}

#[derive(Args)]
struct ReceiptsCommand {
    #[command(flatten)]
    server: Server,
    /// The watch.
    watch: String,
    /// Write two files each into this folder instead: X.json, and its signature as X.json.jws.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct NextAddressCommand {
    #[command(flatten)]
    server: Server,
    /// The watch.
    watch: String,
    /// Do not hand it out again, even if nobody pays it.
    #[arg(long)]
    reserve: bool,
}

/// Runs what the command line says. Returns the exit code: 0, or 2 for a watch that ended otherwise than with success.
///
/// # Errors
/// If it can't be done.
pub fn main(cli: Cli) -> anyhow::Result<u8> {
    // Two providers are compiled in, by way of dependencies; rustls asks for a choice. It fails where one was made before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match cli.command {
        Command::Serve(file) => {
            let config = load(&file.config)?;
            telemetry::start(&config.log)?;
            runtime.block_on(async {
                let shutdown = CancellationToken::new();
                tokio::try_join!(run(config, shutdown.clone()), stop_at_signal(shutdown))
            })?;
            Ok(0)
        }
        Command::CheckConfig(file) => {
            let config = load(&file.config)?;
            run::check(&config)?;
            let mut out = std::io::stdout().lock();
            writeln!(out, "{} is fine", file.config.display())?;
            for network in &config.networks {
                let endpoints: Vec<_> = network.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
                writeln!(out, "{}: endpoints {}", network.id, endpoints.join(", "))?;
            }
            Ok(0)
        }
        Command::Watch(command) => runtime.block_on(watch(*command)),
        Command::Receipts(command) => runtime.block_on(receipts(command)).map(|()| 0),
        Command::NextAddress(command) => runtime.block_on(next_address(command)).map(|()| 0),
        Command::Key(command) => key::key(command).map(|()| 0),
        Command::Verify(command) => runtime.block_on(verify::verify(command)),
        Command::Hash(command) => hash::hash(&command).map(|()| 0),
    }
}

fn load(path: &Path) -> anyhow::Result<Config> {
    let environment: Vec<_> = std::env::vars().collect();
    Ok(Config::load(path, &environment)?)
}

/// Ends well at SIGTERM or SIGINT.
async fn stop_at_signal(shutdown: CancellationToken) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    shutdown.cancel();
    Ok(())
}

type Client = WatchServiceClient<InterceptedService<Channel, Bearer>>;

/// Puts the token on each call.
#[derive(Clone)]
struct Bearer(Option<MetadataValue<Ascii>>);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

async fn connect(server: &Server) -> anyhow::Result<Client> {
    let mut endpoint = Endpoint::from_shared(server.server.clone())?.connect_timeout(Duration::from_secs(10));
    if server.server.starts_with("https://") {
        let mut tls = ClientTlsConfig::new();
        if let Some(ca) = &server.ca {
            tls = tls.ca_certificate(Certificate::from_pem(std::fs::read(ca)?));
        }
        endpoint = endpoint.tls_config(tls)?;
    }
    let channel = endpoint.connect().await.with_context(|| format!("connecting to {}", server.server))?;
    let token = server.token.as_ref().map(|token| format!("Bearer {token}").parse()).transpose();
    let bearer = Bearer(token.context("--token: expected printable ASCII")?);
    Ok(WatchServiceClient::with_interceptor(channel, bearer))
}

async fn watch(command: WatchCommand) -> anyhow::Result<u8> {
    use v1::watch_spec::Subject;
    let (subject, recipient, args) = match command.subject {
        SubjectCommand::Tx { tx, expiry, recipient, terms } => {
            let transaction = v1::TransactionSubject {
                tx,
                last_valid_height: expiry.last_valid_height,
                nonce_account: expiry.nonce_account.unwrap_or_default(),
                nonce: expiry.nonce.unwrap_or_default(),
            };
            (Subject::Transaction(transaction), recipient, terms)
        }
        SubjectCommand::Address { recipient, terms } => (Subject::Address(v1::AddressSubject {}), recipient, terms),
        SubjectCommand::Descriptor { descriptor, gap_limit, terms } => {
            let subject = v1::DescriptorSubject { text: descriptor, gap_limit };
            (Subject::OutputDescriptor(subject), Recipient::default(), terms)
        }
    };
    let spec = v1::WatchSpec {
        network: args.network.clone(),
        subject: Some(subject),
        proofs: args.proofs.then_some(true),
        binding: Some(v1::Binding { quote_hash: args.quote_hash.clone().unwrap_or_default(), ..Default::default() }),
        terms: Some(v1::Terms {
            pay_to: recipient.pay_to,
            memo: recipient.memo.unwrap_or_default(),
            references: recipient.references,
            ..terms(args)?
        }),
        ..Default::default()
    };
    let mut client = connect(&command.server).await?;
    let created = client.create_watch(v1::CreateWatchRequest { watch: Some(spec) }).await?.into_inner();
    let id = created.watch.context("the service sent no watch")?.id;
    let mut out = std::io::stdout();
    writeln!(out, "watch {id}")?;
    let request = v1::SubscribeRequest { after_sequence: Some(0), watch_ids: vec![id.clone()], ..Default::default() };
    let mut events = client.subscribe(request).await?.into_inner();
    while let Some(response) = events.message().await? {
        let Some(event) = response.event else { continue };
        writeln!(out, "{:>9} {}", event.kind, String::from_utf8_lossy(&event.artefact))?;
        if event.kind == "settled" {
            let artefact: serde_json::Value = serde_json::from_slice(&event.artefact)?;
            return Ok(if artefact["outcome"] == "success" { 0 } else { 2 });
        }
    }
    bail!("the service ended the stream before there was an outcome")
}

fn terms(args: TermsArgs) -> anyhow::Result<v1::Terms> {
    let depth = match args.depth.as_str() {
        "confirmed" => v1::terms::Depth::DepthTag(v1::FinalityTag::Confirmed.into()),
        "safe" => v1::terms::Depth::DepthTag(v1::FinalityTag::Safe.into()),
        "finalized" => v1::terms::Depth::DepthTag(v1::FinalityTag::Finalized.into()),
        blocks => {
            let expected = "--depth: expected a number, confirmed, safe or finalized";
            v1::terms::Depth::DepthBlocks(blocks.parse().context(expected)?)
        }
    };
    let amount = match args.decimals {
        Some(decimals) => smallest_units(&args.amount, decimals)?,
        None => args.amount,
    };
    Ok(v1::Terms {
        asset: args.asset,
        amount,
        depth: Some(depth),
        from_height: args.from_height,
        deadline_ms: SystemClock.now().plus_ms(args.deadline_s.saturating_mul(1000)).0,
        ..Default::default()
    })
}

/// A decimal number of whole units in the smallest unit: digits are moved, nothing is rounded.
fn smallest_units(amount: &str, decimals: u8) -> anyhow::Result<String> {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > usize::from(decimals) {
        bail!("--amount: expected a decimal number with at most {decimals} digits after the point");
    }
    let all = format!("{whole}{fraction:0<width$}", width = usize::from(decimals));
    let trimmed = all.trim_start_matches('0');
    Ok(if trimmed.is_empty() { "0".into() } else { trimmed.into() })
}

async fn receipts(command: ReceiptsCommand) -> anyhow::Result<()> {
    let mut client = connect(&command.server).await?;
    if let Some(folder) = &command.out {
        std::fs::create_dir_all(folder)?;
    }
    let mut after_index = 0;
    loop {
        let request = v1::ListReceiptsRequest { watch_id: command.watch.clone(), after_index, page_size: 0 };
        let page = client.list_receipts(request).await?.into_inner();
        for event in &page.receipts {
            after_index = event.index;
            match &command.out {
                Some(folder) => write_artefact(event, folder)?,
                None => write!(std::io::stdout(), "{}", evidence(event).to_line()?)?,
            }
        }
        if !page.more {
            return Ok(());
        }
    }
}

async fn next_address(command: NextAddressCommand) -> anyhow::Result<()> {
    let mut client = connect(&command.server).await?;
    let request = v1::NextAddressRequest { watch_id: command.watch, reserve: command.reserve };
    let next = client.next_address(request).await?.into_inner();
    writeln!(std::io::stdout(), "{} {}", next.address, next.path)?;
    Ok(())
}

/// The file that an artefact is kept in: `settled.json`, or `receipt-<index>-<kind>.json`.
pub fn artefact_name(kind: &str, index: u32) -> String {
    match kind {
        "settled" => "settled.json".to_owned(),
        kind => format!("receipt-{index:03}-{kind}.json"),
    }
}

/// The file that an artefact's signature is kept in, beside the artefact.
pub fn signature_name(artefact: &str) -> String {
    format!("{artefact}.jws")
}

fn evidence(event: &v1::Event) -> Evidence {
    Evidence { artefact: event.artefact.clone(), signature: Some(event.signature.clone()) }
}

fn write_artefact(event: &v1::Event, folder: &Path) -> anyhow::Result<()> {
    let name = artefact_name(&event.kind, event.index);
    let path = folder.join(&name);
    std::fs::write(&path, &event.artefact)?;
    std::fs::write(folder.join(signature_name(&name)), &event.signature)?;
    writeln!(std::io::stdout(), "{}", path.display())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `watch` makes of an expiry; `None` where it refuses the arguments.
    fn expiry(arguments: &[&str]) -> Option<(Option<u64>, Option<String>, Option<String>)> {
        let rest = ["--network", "n", "--pay-to", "p", "--amount", "1"];
        let all = ["h402-watch", "watch", "tx", "t"].iter().chain(arguments).chain(&rest);
        let Command::Watch(command) = Cli::try_parse_from(all).ok()?.command else { return None };
        let SubjectCommand::Tx { expiry, .. } = command.subject else { return None };
        Some((expiry.last_valid_height, expiry.nonce_account, expiry.nonce))
    }

    #[test]
    fn a_transaction_expires_in_one_way_or_in_none() {
        assert_eq!(expiry(&[]), Some((None, None, None)));
        assert_eq!(expiry(&["--last-valid-height", "7"]), Some((Some(7), None, None)));
        let nonce = Some((None, Some("a".to_owned()), Some("v".to_owned())));
        assert_eq!(expiry(&["--nonce-account", "a", "--nonce", "v"]), nonce);
        assert_eq!(expiry(&["--nonce-account", "a"]), None);
        assert_eq!(expiry(&["--nonce", "v"]), None);
        assert_eq!(expiry(&["--last-valid-height", "7", "--nonce-account", "a", "--nonce", "v"]), None);
    }

    #[test]
    fn human_amounts_are_converted_by_moving_digits() {
        for (amount, decimals, units) in
            [("1.5", 6, "1500000"), ("0.000001", 6, "1"), ("7", 0, "7"), ("0", 18, "0"), ("10", 2, "1000")]
        {
            assert_eq!(smallest_units(amount, decimals).expect("converts"), units);
        }
        for (amount, decimals) in [("1.5", 0), ("-1", 6), ("1e6", 6), ("", 6), (".5", 6), ("0.0000001", 6)] {
            assert!(smallest_units(amount, decimals).is_err(), "{amount}");
        }
    }
}
