//! The `semel` command, with the operators that ship. Everything else is in the library.

fn main() -> std::process::ExitCode {
    semel::main(semel::Registry::standard())
}
