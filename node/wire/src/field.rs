//! Single fields of a request: exact lengths, known numbers, present messages. Every error names the field.

use crate::status::Reason;
use anji_contracts::types::{Hash32, OpId, ParticipantId, Pseudonym, ScopedId, TraceId};
use anji_proto::v1;
use tonic::Status;

/// A field of a request that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("field {field}: {what}")]
pub struct FieldError {
    /// Its name, with dots for nested messages.
    pub field: String,
    /// What is wrong with it.
    pub what: &'static str,
}

impl FieldError {
    /// An error about `field`.
    #[must_use]
    pub fn new(field: &str, what: &'static str) -> Self {
        Self { field: field.to_owned(), what }
    }
}

impl From<FieldError> for Status {
    fn from(error: FieldError) -> Self {
        Reason::FieldInvalid.status_with(error.to_string(), [("field", error.field.as_str())])
    }
}

/// A message that must be there.
///
/// # Errors
/// It is not.
pub fn required<'a, T>(field: &str, value: Option<&'a T>) -> Result<&'a T, FieldError> {
    value.ok_or_else(|| FieldError::new(field, "is required"))
}

/// Exactly `N` bytes.
///
/// # Errors
/// Another length.
pub fn exactly<const N: usize>(field: &str, bytes: &[u8], what: &'static str) -> Result<[u8; N], FieldError> {
    bytes.try_into().map_err(|_| FieldError::new(field, what))
}

/// A 32-byte hash.
///
/// # Errors
/// Another length.
pub fn hash32(field: &str, bytes: &[u8]) -> Result<Hash32, FieldError> {
    exactly(field, bytes, "must be 32 bytes").map(Hash32)
}

/// A 32-byte hash, or nothing for zero.
///
/// # Errors
/// Another length.
pub fn hash32_or_zero(field: &str, bytes: &[u8]) -> Result<Hash32, FieldError> {
    if bytes.is_empty() { Ok(Hash32::ZERO) } else { exactly(field, bytes, "must be empty or 32 bytes").map(Hash32) }
}

/// A 16-byte pseudonym.
///
/// # Errors
/// Another length.
pub fn pseudonym(field: &str, bytes: &[u8]) -> Result<Pseudonym, FieldError> {
    exactly(field, bytes, "must be 16 bytes").map(Pseudonym)
}

/// A 16-byte trace id.
///
/// # Errors
/// Another length.
pub fn trace_id(field: &str, bytes: &[u8]) -> Result<TraceId, FieldError> {
    exactly(field, bytes, "must be 16 bytes").map(TraceId)
}

/// A number of at most 8 bits.
///
/// # Errors
/// A larger one.
pub fn number_u8(field: &str, value: u32) -> Result<u8, FieldError> {
    u8::try_from(value).map_err(|_| FieldError::new(field, "must be at most 255"))
}

/// A number of at most 16 bits.
///
/// # Errors
/// A larger one.
pub fn number_u16(field: &str, value: u32) -> Result<u16, FieldError> {
    u16::try_from(value).map_err(|_| FieldError::new(field, "must be at most 65535"))
}

/// The id of a thing; `own` stands in for participant 0 where there is one.
///
/// # Errors
/// It is missing, its op id is not 16 bytes, or its participant is 0 and nobody stands in.
pub fn scoped_id(field: &str, id: Option<&v1::Id>, own: Option<ParticipantId>) -> Result<ScopedId, FieldError> {
    let id = required(field, id)?;
    let op_id = exactly(&format!("{field}.op_id"), &id.op_id, "must be 16 bytes").map(u128::from_be_bytes)?;
    let participant = match (id.participant, own) {
        (0, None) => return Err(FieldError::new(&format!("{field}.participant"), "is required")),
        (0, Some(own)) => own,
        (number, _) => ParticipantId(number),
    };
    Ok(ScopedId { participant, op_id: OpId(op_id) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::StatusExt;

    #[test]
    fn an_id_needs_sixteen_bytes_and_a_participant() {
        let id = |participant, op_id: &[u8]| v1::Id { participant, op_id: op_id.to_vec() };
        assert_eq!(
            scoped_id("payment", Some(&id(7, &[1; 16])), None),
            Ok(ScopedId { participant: ParticipantId(7), op_id: OpId(u128::from_be_bytes([1; 16])) })
        );
        let own = scoped_id("payment", Some(&id(0, &[0; 16])), Some(ParticipantId(3))).map(|id| id.participant);
        assert_eq!(own, Ok(ParticipantId(3)));
        for (id, field) in [
            (None, "payment"),
            (Some(id(7, &[1; 15])), "payment.op_id"),
            (Some(id(7, &[1; 17])), "payment.op_id"),
            (Some(id(7, &[])), "payment.op_id"),
            (Some(id(0, &[1; 16])), "payment.participant"),
        ] {
            assert_eq!(scoped_id("payment", id.as_ref(), None).map_err(|error| error.field), Err(field.to_owned()));
        }
    }

    #[test]
    fn a_field_error_becomes_a_status_that_names_the_field() {
        let status = Status::from(FieldError::new("order.merchant", "must be 16 bytes"));
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        let info = status.get_details_error_info().expect("every status carries ErrorInfo");
        assert_eq!(info.reason, "FIELD_INVALID");
        assert_eq!(info.metadata.get("field").map(String::as_str), Some("order.merchant"));
    }
}
