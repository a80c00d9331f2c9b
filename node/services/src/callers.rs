//! Who may call: bearer tokens, known by their BLAKE3 only, each for one participant, with a rate and a number of streams.

use anji_contracts::types::ParticipantId;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A caller as configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallerSpec {
    /// Its name, for logs and metrics.
    pub name: String,
    /// BLAKE3 of its token's text.
    pub token_blake3: [u8; 32],
    /// The participant it speaks for.
    pub participant: ParticipantId,
    /// Whether it may call the wallet service.
    pub wallet: bool,
    /// Whether it may call the operator service.
    pub operator: bool,
}

/// What is wrong with the list of callers.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallersError {
    /// A name is there twice.
    #[error("two callers have the name {0:?}; give every caller its own")]
    SameName(String),
    /// A token is there twice.
    #[error("the callers {0:?} and {1:?} have the same token; give every caller its own")]
    SameToken(String, String),
}

/// A caller that has proved itself.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) participant: ParticipantId,
    pub(crate) wallet: bool,
    pub(crate) operator: bool,
    token: blake3::Hash,
    bucket: Mutex<Bucket>,
    streams: Arc<Semaphore>,
    under_way: Arc<Semaphore>,
}

/// A call that is being read or looked up; it counts until the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct UnderWay {
    _place: Arc<OwnedSemaphorePermit>,
}

/// Everybody who may call.
#[derive(Debug)]
pub struct Callers(Vec<Arc<Caller>>);

impl Callers {
    /// The list, with the rate and the number of streams that each of them has.
    ///
    /// # Errors
    /// A name or a token is there twice.
    pub fn new(specs: Vec<CallerSpec>, limits: &crate::Limits) -> Result<Self, CallersError> {
        let mut callers: Vec<Arc<Caller>> = Vec::with_capacity(specs.len());
        for spec in specs {
            let token = blake3::Hash::from_bytes(spec.token_blake3);
            if let Some(other) = callers.iter().find(|other| other.token == token) {
                return Err(CallersError::SameToken(other.name.clone(), spec.name));
            }
            if callers.iter().any(|other| other.name == spec.name) {
                return Err(CallersError::SameName(spec.name));
            }
            callers.push(Arc::new(Caller {
                name: spec.name,
                participant: spec.participant,
                wallet: spec.wallet,
                operator: spec.operator,
                token,
                bucket: Mutex::new(Bucket::new(limits.calls_per_second)),
                streams: Arc::new(Semaphore::new(limits.streams_per_caller.min(Semaphore::MAX_PERMITS))),
                under_way: Arc::new(Semaphore::new(limits.calls_under_way.min(Semaphore::MAX_PERMITS))),
            }));
        }
        Ok(Self(callers))
    }

    /// The caller with this token. Every token takes the same time: all hashes are compared, each in constant time.
    pub(crate) fn find(&self, token: &[u8]) -> Option<Arc<Caller>> {
        let token = blake3::hash(token);
        // `blake3::Hash` compares in constant time.
        self.0.iter().fold(None, |found, caller| if caller.token == token { Some(caller.clone()) } else { found })
    }
}

impl Caller {
    /// Takes one call out of the caller's allowance.
    ///
    /// # Errors
    /// How long to wait.
    pub(crate) fn take_call(&self) -> Result<(), Duration> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now())
    }

    /// A place for one more call. Its message may be large and slow to come, so this bounds what a caller can make us hold.
    pub(crate) fn begin_call(&self) -> Option<UnderWay> {
        self.under_way.clone().try_acquire_owned().ok().map(|place| UnderWay { _place: Arc::new(place) })
    }

    /// A place for one more stream, held until dropped.
    pub(crate) fn open_stream(&self) -> Option<OwnedSemaphorePermit> {
        self.streams.clone().try_acquire_owned().ok()
    }
}

/// A token bucket in whole nanoseconds: the allowance refills with time, up to two seconds' worth.
#[derive(Debug)]
struct Bucket {
    per_call: Duration,
    /// What could be spent now if nothing more was spent since `at`.
    saved: Duration,
    at: Instant,
}

impl Bucket {
    const BURST: Duration = Duration::from_secs(2);

    fn new(calls_per_second: u32) -> Self {
        let per_call = Duration::from_secs(1) / calls_per_second.max(1);
        Self { per_call, saved: Self::BURST, at: Instant::now() }
    }

    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.saved = self.saved.saturating_add(now.saturating_duration_since(self.at)).min(Self::BURST);
        self.at = now;
        match self.saved.checked_sub(self.per_call) {
            Some(rest) => {
                self.saved = rest;
                Ok(())
            }
            None => Err(self.per_call.saturating_sub(self.saved)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, token: &str) -> CallerSpec {
        let token_blake3 = *blake3::hash(token.as_bytes()).as_bytes();
        CallerSpec { name: name.into(), token_blake3, participant: ParticipantId(1), wallet: true, operator: false }
    }

    #[test]
    fn only_the_exact_token_is_known() {
        let callers = Callers::new(vec![spec("a", "one"), spec("b", "two")], &crate::Limits::default()).expect("good");
        assert_eq!(callers.find(b"two").map(|it| it.name.clone()), Some("b".to_owned()));
        let hash = blake3::hash(b"one");
        for wrong in [&b""[..], b"on", b"one ", b"One", hash.as_bytes()] {
            assert!(callers.find(wrong).is_none());
        }
    }

    #[test]
    fn names_and_tokens_are_unique() {
        let limits = crate::Limits::default();
        let error = |specs| Callers::new(specs, &limits).err();
        assert_eq!(error(vec![spec("a", "1"), spec("a", "2")]), Some(CallersError::SameName("a".into())));
        let same = error(vec![spec("a", "1"), spec("b", "1")]);
        assert_eq!(same, Some(CallersError::SameToken("a".into(), "b".into())));
    }

    #[test]
    fn the_bucket_allows_a_burst_and_then_the_rate() {
        let mut bucket = Bucket::new(10);
        let start = bucket.at;
        let burst = (0..100).filter(|_| bucket.take(start).is_ok()).count();
        assert_eq!(burst, 20);
        assert_eq!(bucket.take(start), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(start + Duration::from_millis(60)), Err(Duration::from_millis(40)));
        assert_eq!(bucket.take(start + Duration::from_millis(100)), Ok(()));
        // A clock that stands still or runs backwards gives nothing and takes nothing.
        assert!(bucket.take(start).is_err());
        let later = start + Duration::from_secs(60);
        assert_eq!((0..100).filter(|_| bucket.take(later).is_ok()).count(), 20);
    }

    #[test]
    fn streams_are_counted_until_dropped() {
        let limits = crate::Limits { streams_per_caller: 2, ..crate::Limits::default() };
        let callers = Callers::new(vec![spec("a", "one")], &limits).expect("good");
        let caller = callers.find(b"one").expect("known");
        let (first, second) = (caller.open_stream(), caller.open_stream());
        assert!(first.is_some() && second.is_some() && caller.open_stream().is_none());
        drop(first);
        assert!(caller.open_stream().is_some());
    }

    #[test]
    fn calls_under_way_are_counted_until_the_last_clone_is_dropped() {
        let limits = crate::Limits { calls_under_way: 1, ..crate::Limits::default() };
        let callers = Callers::new(vec![spec("a", "one")], &limits).expect("good");
        let caller = callers.find(b"one").expect("known");
        let first = caller.begin_call().expect("free");
        let clone = first.clone();
        drop(first);
        assert!(caller.begin_call().is_none());
        drop(clone);
        assert!(caller.begin_call().is_some());
    }
}
