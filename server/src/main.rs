//! The binary `marigram`. Everything is in the library; see `cli.rs` for the commands.

use std::process::ExitCode;

fn main() -> ExitCode {
    marigram_server::cli::run(std::env::args_os())
}
