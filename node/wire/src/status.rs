//! The one table from the ledger's rejects and the node's own reasons to gRPC status codes. Its text for clients is at the head of
//! `proto/anji/v1/ledger.proto`. Every status carries `google.rpc.ErrorInfo`.

use anji_contracts::Reject;
use anji_proto::v1;
use std::collections::HashMap;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// `ErrorInfo.domain` of every error.
pub const DOMAIN: &str = "anji";

/// Why a call failed, where the ledger's rules are not the cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// No bearer token.
    TokenMissing,
    /// A token that the node does not know.
    TokenUnknown,
    /// The token may not call this service.
    RoleMissing,
    /// The data belongs to other participants.
    NotYourData,
    /// A field cannot be used.
    FieldInvalid,
    /// The ledger has no such thing.
    NotFound,
    /// More requests than the caller may send.
    RateLimited,
    /// No room for the batch now.
    MempoolFull,
    /// More streams than the caller may keep open.
    TooManyStreams,
    /// The receiver of a stream did not keep up.
    SlowReceiver,
    /// Accepted, but not decided before the deadline.
    StillPending,
    /// The deadline passed before anything was done.
    DeadlinePassed,
    /// The node is stopping.
    ShuttingDown,
    /// The node's own trouble.
    StorageFailed,
    /// An adapter's `request_id` was used before with another content.
    RequestIdConflict,
    /// The adapter cannot reach its node.
    NodeUnreachable,
    /// True perhaps, but it cannot be proven yet.
    EvidenceNotYet,
    /// It is not so, or this node cannot prove it.
    NotProvable,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 18] = [
        Self::TokenMissing,
        Self::TokenUnknown,
        Self::RoleMissing,
        Self::NotYourData,
        Self::FieldInvalid,
        Self::NotFound,
        Self::RateLimited,
        Self::MempoolFull,
        Self::TooManyStreams,
        Self::SlowReceiver,
        Self::StillPending,
        Self::DeadlinePassed,
        Self::ShuttingDown,
        Self::StorageFailed,
        Self::RequestIdConflict,
        Self::NodeUnreachable,
        Self::EvidenceNotYet,
        Self::NotProvable,
    ];

    /// `ErrorInfo.reason`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TokenMissing => "TOKEN_MISSING",
            Self::TokenUnknown => "TOKEN_UNKNOWN",
            Self::RoleMissing => "ROLE_MISSING",
            Self::NotYourData => "NOT_YOUR_DATA",
            Self::FieldInvalid => "FIELD_INVALID",
            Self::NotFound => "NOT_FOUND",
            Self::RateLimited => "RATE_LIMITED",
            Self::MempoolFull => "MEMPOOL_FULL",
            Self::TooManyStreams => "TOO_MANY_STREAMS",
            Self::SlowReceiver => "SLOW_RECEIVER",
            Self::StillPending => "STILL_PENDING",
            Self::DeadlinePassed => "DEADLINE_PASSED",
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::StorageFailed => "STORAGE_FAILED",
            Self::RequestIdConflict => "REQUEST_ID_CONFLICT",
            Self::NodeUnreachable => "NODE_UNREACHABLE",
            Self::EvidenceNotYet => "EVIDENCE_NOT_YET",
            Self::NotProvable => "NOT_PROVABLE",
        }
    }

    /// The gRPC status code.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::TokenMissing | Self::TokenUnknown => Code::Unauthenticated,
            Self::RoleMissing | Self::NotYourData => Code::PermissionDenied,
            Self::FieldInvalid => Code::InvalidArgument,
            Self::NotFound => Code::NotFound,
            Self::RateLimited | Self::MempoolFull | Self::TooManyStreams | Self::SlowReceiver => {
                Code::ResourceExhausted
            }
            Self::StillPending | Self::DeadlinePassed => Code::DeadlineExceeded,
            Self::ShuttingDown | Self::NodeUnreachable => Code::Unavailable,
            Self::StorageFailed => Code::Internal,
            Self::RequestIdConflict => Code::AlreadyExists,
            Self::EvidenceNotYet | Self::NotProvable => Code::FailedPrecondition,
        }
    }

    /// The status, without metadata.
    #[must_use]
    pub fn status(self, message: impl Into<String>) -> Status {
        self.status_with(message, [])
    }

    /// The status with `ErrorInfo.metadata`.
    #[must_use]
    pub fn status_with<'a>(
        self,
        message: impl Into<String>,
        metadata: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Status {
        let metadata: HashMap<String, String> =
            metadata.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let details = ErrorDetails::with_error_info(self.name(), DOMAIN, metadata);
        Status::with_error_details(self.code(), message, details)
    }

    /// The status with `google.rpc.RetryInfo`: when asking again makes sense.
    #[must_use]
    pub fn status_retry(self, message: impl Into<String>, retry_after: Duration) -> Status {
        let mut details = ErrorDetails::with_error_info(self.name(), DOMAIN, HashMap::new());
        details.set_retry_info(Some(retry_after));
        Status::with_error_details(self.code(), message, details)
    }
}

/// The gRPC status code of a reject.
#[must_use]
pub const fn reject_code(reject: Reject) -> Code {
    match reject.code() {
        1009 | 1010 => Code::PermissionDenied,
        1011 => Code::FailedPrecondition,
        1013 | 3001 => Code::AlreadyExists,
        1000..=1999 | 5001 => Code::InvalidArgument,
        2006..=2010 => Code::FailedPrecondition,
        2000..=2999 => Code::PermissionDenied,
        3002 | 3003 => Code::OutOfRange,
        3010 => Code::Aborted,
        3000..=3999 => Code::NotFound,
        4000..=5999 => Code::FailedPrecondition,
        _ => Code::Internal,
    }
}

/// `ErrorInfo.reason` of a reject: its name in `UPPER_SNAKE_CASE`, as the field demands.
#[must_use]
pub fn reject_reason(reject: Reject) -> String {
    let mut reason = String::with_capacity(32);
    for letter in reject.name().chars() {
        if letter.is_ascii_uppercase() && !reason.is_empty() {
            reason.push('_');
        }
        reason.push(letter.to_ascii_uppercase());
    }
    reason
}

/// A reject as the failure of a call.
#[must_use]
pub fn reject_status(reject: Reject) -> Status {
    let metadata = HashMap::from([
        ("code".to_owned(), reject.code().to_string()),
        ("name".to_owned(), reject.name().to_owned()),
        ("transient".to_owned(), reject.is_transient().to_string()),
    ]);
    let details = ErrorDetails::with_error_info(reject_reason(reject), DOMAIN, metadata);
    Status::with_error_details(reject_code(reject), reject.to_string(), details)
}

/// The ledger's reject behind a status, for clients that act on the number.
#[must_use]
pub fn status_reject(status: &Status) -> Option<Reject> {
    let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN)?;
    Reject::from_code(info.metadata.get("code")?.parse().ok()?)
}

/// The error of one item of a stream: what a unary call would have answered as its status.
#[must_use]
pub fn stream_error(status: &Status) -> v1::StreamError {
    let info = status.get_details_error_info();
    let retry = status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
    let code = info.as_ref().and_then(|info| info.metadata.get("code")).and_then(|code| code.parse().ok());
    v1::StreamError {
        status_code: status.code().into(),
        reason: info.map(|info| info.reason).unwrap_or_default(),
        reject_code: code.unwrap_or(0),
        message: status.message().to_owned(),
        retry_after_ms: u32::try_from(retry.as_millis()).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table: first and last code of each run of equal status codes. A new reject changes nothing here unless its status
    /// differs from its neighbours'.
    #[test]
    fn every_reject_has_the_documented_status() {
        let mut runs: Vec<(u16, u16, Code)> = Vec::new();
        for reject in Reject::ALL {
            let (number, code) = (reject.code(), reject_code(*reject));
            match runs.last_mut() {
                Some((_, last, before)) if *before == code => *last = number,
                _ => runs.push((number, number, code)),
            }
        }
        let expected = [
            (1001, 1008, Code::InvalidArgument),
            (1009, 1010, Code::PermissionDenied),
            (1011, 1011, Code::FailedPrecondition),
            (1012, 1012, Code::InvalidArgument),
            (1013, 1013, Code::AlreadyExists),
            (1014, 1016, Code::InvalidArgument),
            (2001, 2005, Code::PermissionDenied),
            (2006, 2010, Code::FailedPrecondition),
            (3001, 3001, Code::AlreadyExists),
            (3002, 3003, Code::OutOfRange),
            (3004, 3009, Code::NotFound),
            (3010, 3010, Code::Aborted),
            (4001, 4022, Code::FailedPrecondition),
            (5001, 5001, Code::InvalidArgument),
            (5002, 5017, Code::FailedPrecondition),
            (9001, 9008, Code::Internal),
        ];
        assert_eq!(runs, expected);
    }

    #[test]
    fn every_reject_survives_the_way_to_a_client() {
        for reject in Reject::ALL {
            let status = reject_status(*reject);
            let info = status.get_details_error_info().expect("every status carries ErrorInfo");
            assert_eq!(info.domain, DOMAIN);
            assert_eq!(info.reason.replace('_', ""), reject.name().to_ascii_uppercase());
            let well_formed = |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
            assert!(info.reason.chars().all(well_formed) && info.reason.len() <= 63, "{}", info.reason);
            assert_eq!(info.metadata.get("transient"), Some(&reject.is_transient().to_string()));
            assert_eq!(status_reject(&status), Some(*reject));
            assert_eq!(stream_error(&status).reject_code, u32::from(reject.code()));
        }
    }

    #[test]
    fn reasons_have_names_and_say_when_to_ask_again() {
        for reason in Reason::ALL {
            let status = reason.status("text");
            assert_eq!(status.code(), reason.code());
            assert_eq!(status.get_details_error_info().map(|info| info.reason), Some(reason.name().to_owned()));
            assert_eq!(status_reject(&status), None);
        }
        let status = Reason::MempoolFull.status_retry("full", Duration::from_millis(250));
        let error = stream_error(&status);
        assert_eq!((error.retry_after_ms, error.reason.as_str()), (250, "MEMPOOL_FULL"));
        assert_eq!(error.status_code, Code::ResourceExhausted as i32);
    }

    #[test]
    fn a_foreign_status_is_no_reject() {
        assert_eq!(status_reject(&Status::internal("text")), None);
        assert_eq!(stream_error(&Status::internal("text")).reason, "");
    }
}
