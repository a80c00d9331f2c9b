//! Who may call the adapter: bearer tokens, known by their BLAKE3 only, with a rate and a number of streams each.

use crate::settings;
use crate::settings::{FieldError, SettingsError};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

settings! {
    /// The callers file.
    pub struct CallersFile { lists {
        /// Who may call.
        callers: CallerSpec,
    } }
}

settings! {
    /// One caller.
    pub struct CallerSpec { values {
        /// Its name, for logs and metrics.
        name: String,
        /// BLAKE3 of its token's text, 64 hex digits.
        token_blake3: String,
        /// Whether it may only look.
        read_only: bool = false,
    } }
}

/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 32;

/// A fresh token: 64 hex digits of the operating system's randomness, and the hash the callers file holds.
///
/// # Errors
/// The system gives no randomness.
pub fn new_token() -> Result<(String, String), getrandom::Error> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes)?;
    let token = hex::encode(bytes);
    let hash = token_hash(&token);
    Ok((token, hash))
}

/// The hash of a token's text as the callers file holds it.
#[must_use]
pub fn token_hash(token: &str) -> String {
    blake3::hash(token.as_bytes()).to_hex().to_string()
}

/// A caller that proved itself.
#[derive(Debug)]
pub struct Caller {
    name: String,
    hash: blake3::Hash,
    read_only: bool,
    bucket: Mutex<Bucket>,
    streams: std::sync::Arc<tokio::sync::Semaphore>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// Everybody who may call.
#[derive(Debug)]
pub struct Callers {
    callers: Vec<std::sync::Arc<Caller>>,
    rate: f64,
}

impl Callers {
    /// Reads a callers file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load(file: &Path, max_rate: u32, max_streams: u32) -> Result<Self, SettingsError> {
        let spec: CallersFile = settings::read(file)?;
        let mut callers: Vec<std::sync::Arc<Caller>> = Vec::new();
        for it in spec.callers {
            let field = |name: &str| format!("callers[{}].{name}", it.name);
            let hash = blake3::Hash::from_hex(&it.token_blake3).map_err(|_| {
                let way_out = "write the BLAKE3 of the token's text, never the token itself";
                FieldError::new(field("token_blake3"), "(not shown)", "not 64 hex digits", way_out).in_file(file)
            })?;
            if callers.iter().any(|other| other.hash == hash || other.name == it.name) {
                let way_out = "give every caller its own name and its own token";
                return Err(FieldError::new(field("name"), &it.name, "name or token used twice", way_out).in_file(file));
            }
            callers.push(std::sync::Arc::new(Caller {
                name: it.name,
                hash,
                read_only: it.read_only,
                bucket: Mutex::new(Bucket { tokens: f64::from(max_rate), at: Instant::now() }),
                streams: std::sync::Arc::new(tokio::sync::Semaphore::new(
                    usize::try_from(max_streams).unwrap_or(usize::MAX >> 4),
                )),
            }));
        }
        Ok(Self { callers, rate: f64::from(max_rate) })
    }

    /// The caller with this token. Takes the same time for any wrong token: hashes are compared in constant time, all of them.
    #[must_use]
    pub fn find(&self, token: &str) -> Option<std::sync::Arc<Caller>> {
        let hash = blake3::hash(token.as_bytes());
        let mut found = None;
        for caller in &self.callers {
            // `blake3::Hash` compares in constant time.
            if caller.hash == hash {
                found = Some(caller.clone());
            }
        }
        found
    }

    /// Takes one request out of the caller's allowance; otherwise how long to wait, in milliseconds.
    ///
    /// # Errors
    /// The wait.
    pub fn admit(&self, caller: &Caller) -> Result<(), u64> {
        let mut bucket = caller.bucket.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = Instant::now();
        // Rates, not money: a float is good enough.
        let refill = now.duration_since(bucket.at).as_secs_f64() * self.rate;
        bucket.tokens = (bucket.tokens + refill).min(self.rate * 2.0);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        let wait_ms = ((1.0 - bucket.tokens) / self.rate * 1000.0).ceil().clamp(1.0, 60_000.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 1..=60,000")]
        Err(wait_ms as u64)
    }
}

impl Caller {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it may only look.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// A place for one more stream, held until dropped; `None` if all are taken.
    #[must_use]
    pub fn open_stream(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        self.streams.clone().try_acquire_owned().ok()
    }
}

/// Reads a token file: the token on its first line.
///
/// # Errors
/// The file cannot be read or is empty.
pub fn read_token(file: &Path) -> Result<String, SettingsError> {
    let error = |problem: String| SettingsError {
        place: file.display().to_string(),
        problem,
        way_out: String::from("ask the node's operator for a token, or copy the one `anji init` made"),
    };
    let text = std::fs::read_to_string(file).map_err(|it| error(format!("cannot read the token: {it}")))?;
    let token = text.lines().next().unwrap_or_default().trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(error(String::from("the token is empty or not printable")));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callers(text: &str, rate: u32) -> Result<Callers, String> {
        let dir = tempfile::tempdir().expect("temp");
        let file = dir.path().join("callers.toml");
        std::fs::write(&file, text).expect("written");
        Callers::load(&file, rate, 2).map_err(|error| error.to_string())
    }

    #[test]
    fn only_the_token_opens_the_door() {
        let (token, hash) = new_token().expect("randomness");
        let all = callers(&format!("[[callers]]\nname = 'w'\ntoken_blake3 = '{hash}'\n"), 10).expect("good");
        assert_eq!(all.find(&token).expect("known").name(), "w");
        assert!(all.find(&hash).is_none() && all.find("").is_none());
    }

    #[test]
    fn rate_and_streams_are_bounded() {
        let (token, hash) = new_token().expect("randomness");
        let all = callers(&format!("[[callers]]\nname = 'w'\ntoken_blake3 = '{hash}'\n"), 3).expect("good");
        let caller = all.find(&token).expect("known");
        let admitted = (0..20).filter(|_| all.admit(&caller).is_ok()).count();
        assert!((3..=4).contains(&admitted), "{admitted}");
        assert!(all.admit(&caller).expect_err("refused") <= 334);
        let held = (caller.open_stream(), caller.open_stream());
        assert!(held.0.is_some() && held.1.is_some() && caller.open_stream().is_none());
        drop(held);
        assert!(caller.open_stream().is_some());
    }

    #[test]
    fn a_wrong_file_is_named_and_a_token_is_never_shown() {
        let shown = callers("[[callers]]\nname = 'w'\ntoken_blake3 = 'secret-token'\n", 1).expect_err("refused");
        assert!(shown.contains("callers[w].token_blake3") && !shown.contains("secret-token"), "{shown}");
        let twice = "[[callers]]\nname = 'w'\ntoken_blake3 = '{}'\n".replace("{}", &token_hash("a"));
        assert!(callers(&format!("{twice}{twice}"), 1).expect_err("refused").contains("used twice"));
    }
}
