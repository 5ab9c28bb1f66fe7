//! x
use super::Done;
#[derive(Debug, clap::Args)]
pub(super) struct Args {}
pub(super) fn demo(_: &Args) -> Done { Ok(()) }
