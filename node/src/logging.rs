//! Logs: lines on standard error, as text for people or JSON for machines. Fields are named `height`, `round`, `batch`, `peer`.
//! Keys, tokens, amounts of a named person and personal data never appear. A panic is logged like everything else.

use anji_adapters::config::LogFormat;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// The environment variable that overrides the filter of the config.
pub(crate) const ENV: &str = "ANJI_LOG";

/// Reads a filter strictly.
pub(crate) fn parse_filter(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(text)
}

/// Starts logging for the whole process. Called once; a second call changes nothing.
///
/// # Errors
/// The environment variable holds no filter.
pub(crate) fn start(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let text = std::env::var(ENV).ok().filter(|it| !it.is_empty());
    let filter = match &text {
        Some(text) => parse_filter(text).map_err(|error| {
            anyhow::anyhow!("{ENV}={text}: {error}\n  way out: unset it, or write a level such as `info`")
        })?,
        None => parse_filter(filter)?,
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start (tests) keeps the first.
    let _ = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
    };
    Ok(())
}

/// A panic in any thread or task ends the process: a node that lost one of its tasks must not go on looking alive.
pub(crate) fn abort_on_panic() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        tracing::error!(%place, %thread, "panic: {message}; the process stops, the data folder is safe to start again");
        default(panic);
        std::process::abort();
    }));
}
