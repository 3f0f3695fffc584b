//! The binary `marigram`. Everything is in the library; see `cli.rs` for the commands.

use std::process::ExitCode;

/// A statement is planned in thousands of small pieces, which threads hand to one another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    marigram_server::cli::run(std::env::args_os())
}
