//! `h402-watch hash`: the hashes that bind a watch to a quote and an authorisation, from the objects of the payment protocols.

use std::io::{Read, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use h402_watch_verify::binding::{self, Protocol};

#[derive(Args)]
pub(super) struct HashCommand {
    /// Of what.
    what: What,
    /// Whose object it is: h402, x402-v1, x402-v2 or s402.
    #[arg(long)]
    protocol: Protocol,
    /// The file that holds it; - is the standard input.
    #[arg(default_value = "-")]
    file: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// The payment requirements, as JSON. For x402-v2 also the payment payload that accepts them.
    Quote,
    /// The payment payload, as JSON. For h402 the value of the X-PAYMENT header.
    Auth,
}

/// Prints the hash.
pub(super) fn hash(command: &HashCommand) -> anyhow::Result<()> {
    let bytes = read(command).with_context(|| format!("reading {}", command.file.display()))?;
    let hash = match command.what {
        What::Quote => binding::quote_hash(command.protocol, &bytes)?,
        What::Auth => binding::auth_hash(command.protocol, &bytes)?,
    };
    writeln!(std::io::stdout(), "{hash}")?;
    Ok(())
}

/// No more than tells that it is too much.
fn read(command: &HashCommand) -> std::io::Result<Vec<u8>> {
    let input: Box<dyn Read> = match command.file.as_os_str() == "-" {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(std::fs::File::open(&command.file)?),
    };
    let bound = u64::try_from(binding::OBJECT_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    input.take(bound).read_to_end(&mut bytes)?;
    Ok(bytes)
}
