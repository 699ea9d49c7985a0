//! `h402-watch key`: key files, without a service.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Subcommand;

use crate::sign;

#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// Make a private key in a new file, for its owner alone, and print its name (kid).
    New {
        /// The file; one that is there already is left as it is.
        file: PathBuf,
    },
    /// Print the public halves of key files as a JWK set, as the service publishes them.
    Show {
        /// PEM files, private or public.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

pub(super) fn key(command: KeyCommand) -> anyhow::Result<()> {
    let told = match command {
        KeyCommand::New { file } => sign::make(&file)?,
        KeyCommand::Show { files } => sign::key_set_of(&files)?,
    };
    Ok(writeln!(std::io::stdout(), "{told}")?)
}
