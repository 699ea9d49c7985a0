//! The `h402-watch` program.

use std::process::ExitCode;

use clap::Parser as _;
use h402_watch::cli::{self, Cli};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match cli::main(Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            use std::io::Write as _;
            // There is nowhere else to say it.
            let _ = writeln!(std::io::stderr(), "h402-watch: {error:#}");
            ExitCode::FAILURE
        }
    }
}
