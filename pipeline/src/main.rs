//! The `semel` command: parses and dispatches. Everything else is in `cli` and in the library.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
