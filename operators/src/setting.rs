//! Checks of settings that operators share. The text goes to whoever wrote the spec.

/// Refuses a setting below its least value.
///
/// # Errors
/// One sentence that names the setting, the value and the least one.
pub(crate) fn at_least(name: &str, value: u64, least: u64) -> Result<(), String> {
    if value >= least {
        return Ok(());
    }
    Err(format!("`{name}` is {value}, but must be at least {least}"))
}

/// Refuses a setting above its greatest value.
///
/// # Errors
/// One sentence that names the setting, the value and the greatest one.
pub(crate) fn at_most(name: &str, value: u64, most: u64) -> Result<(), String> {
    if value <= most {
        return Ok(());
    }
    Err(format!("`{name}` is {value}, but must be at most {most}"))
}
