//! The `semel` command, with the operators that ship. Everything else is in the library.

/// A record's work asks for memory dozens of times, mostly for a few hundred bytes and not for long:
/// the C library's allocator took a quarter of the engine's time for that.
#[cfg(not(feature = "allocations"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    semel::main(semel::Registry::standard())
}
