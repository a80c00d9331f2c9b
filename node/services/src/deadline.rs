//! The caller's deadline. The server ends a call at its deadline by itself, but with CANCELLED and without a word about what became
//! of it; so every call here ends a little earlier, with DEADLINE_EXCEEDED and the facts.

use anji_wire::Reason;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;
use tonic::metadata::MetadataMap;

/// When a call must be answered, if ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// The deadline of a call, less a margin for the answer's way back.
    pub(crate) fn of(metadata: &MetadataMap) -> Self {
        let timeout = metadata.get("grpc-timeout").and_then(|value| parse(value.as_bytes()));
        let after = timeout.map(|timeout| timeout.saturating_sub((timeout / 10).min(Duration::from_millis(50))));
        Self(after.and_then(|after| Instant::now().checked_add(after)))
    }

    /// This deadline or `longest` from now, whichever comes first.
    pub(crate) fn at_most(self, longest: Duration) -> Self {
        let limit = Instant::now().checked_add(longest);
        Self(match (self.0, limit) {
            (Some(own), Some(limit)) => Some(own.min(limit)),
            (own, limit) => own.or(limit),
        })
    }

    /// Resolves when the deadline has passed; never if there is none.
    pub(crate) async fn passed(self) {
        match self.0 {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// The answer, if it comes in time.
    ///
    /// # Errors
    /// DEADLINE_PASSED, or the answer's own error.
    pub(crate) async fn within<T>(self, answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        tokio::select! {
            biased;
            answer = answer => answer,
            () = self.passed() => Err(passed_status()),
        }
    }
}

/// The answer of a call that changes nothing, or of a stream.
pub(crate) fn passed_status() -> Status {
    Reason::DeadlinePassed.status("the call's deadline has passed")
}

/// At most eight digits and a unit, as gRPC writes it.
fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(parse(b"2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse(b"3M"), Some(Duration::from_secs(180)));
        assert_eq!(parse(b"4S"), Some(Duration::from_secs(4)));
        assert_eq!(parse(b"100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse(b"5u"), Some(Duration::from_micros(5)));
        assert_eq!(parse(b"99999999n"), Some(Duration::from_nanos(99_999_999)));
        for wrong in [&b""[..], b"S", b"5", b"123456789S", b"-1S", b"1.5S", b"5x", b"99999999999999999999H"] {
            assert_eq!(parse(wrong), None);
        }
    }

    #[tokio::test]
    async fn an_answer_in_time_wins_and_a_late_one_does_not() {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", "1S".parse().expect("a header value"));
        let deadline = Deadline::of(&metadata);
        let quick = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            Ok(())
        };
        assert!(deadline.within(quick).await.is_ok());
        let slow = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok(())
        };
        let status = deadline.within(slow).await.expect_err("late");
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert_eq!(Deadline(None).within(async { Ok(1) }).await.expect("no deadline"), 1);
        let bounded = Deadline(None).at_most(Duration::from_millis(10));
        assert!(bounded.within(std::future::pending::<Result<(), Status>>()).await.is_err());
    }
}
