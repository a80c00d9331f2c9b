//! Token, role, rate: judged before a call's body is read.

use crate::callers::{Caller, Callers, UnderWay};
use crate::metrics::Metrics;
use anji_wire::Reason;
use std::sync::Arc;
use std::time::Duration;
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// What a service asks of its callers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Wallet,
    Operator,
}

/// Lets callers with the right token in and puts the [`Caller`] into the request.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) callers: Arc<Callers>,
    pub(crate) role: Role,
    pub(crate) metrics: Metrics,
}

impl Interceptor for Door {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        match self.admit(request.metadata()) {
            Ok((caller, under_way)) => {
                request.extensions_mut().insert(caller);
                // Dropped with the request, once the call has taken its fields out.
                request.extensions_mut().insert(under_way);
                Ok(request)
            }
            Err((reason, status)) => {
                self.metrics.on_refused(reason);
                Err(*status)
            }
        }
    }
}

impl Door {
    fn admit(&self, metadata: &MetadataMap) -> Result<(Arc<Caller>, UnderWay), (Reason, Box<Status>)> {
        let refuse = |reason: Reason, message: &str| (reason, Box::new(reason.status(message)));
        let token = bearer(metadata)
            .ok_or_else(|| refuse(Reason::TokenMissing, "send `authorization: Bearer <token>` with every call"))?;
        let caller = self
            .callers
            .find(token)
            .ok_or_else(|| refuse(Reason::TokenUnknown, "the token is not known to this node"))?;
        let allowed = match self.role {
            Role::Wallet => caller.wallet,
            Role::Operator => caller.operator,
        };
        if !allowed {
            return Err(refuse(Reason::RoleMissing, "the token may not call this service"));
        }
        check_rate(&caller).map_err(|status| (Reason::RateLimited, status))?;
        let under_way = caller.begin_call().ok_or_else(|| {
            let text = "too many calls of this caller are under way; wait for some answers";
            (Reason::RateLimited, Box::new(Reason::RateLimited.status_retry(text, Duration::from_millis(100))))
        })?;
        Ok((caller, under_way))
    }
}

/// One call out of the caller's allowance.
///
/// # Errors
/// RATE_LIMITED with the time to wait.
pub(crate) fn check_rate(caller: &Caller) -> Result<(), Box<Status>> {
    caller.take_call().map_err(|wait| {
        Box::new(Reason::RateLimited.status_retry("more calls than this caller may make; wait a little", wait))
    })
}

fn bearer(metadata: &MetadataMap) -> Option<&[u8]> {
    let value = metadata.get("authorization")?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// The caller that the door let in.
///
/// # Errors
/// There is none: a service was wired without its door, so nobody gets in.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<Arc<Caller>, Status> {
    let caller = request.extensions().get::<Arc<Caller>>();
    caller.cloned().ok_or_else(|| Reason::TokenMissing.status("send `authorization: Bearer <token>` with every call"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_bearer_in_any_case_and_the_token_is_not_empty() {
        let token = |value: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("authorization", value.parse().expect("a header value"));
            bearer(&metadata).map(<[u8]>::to_vec)
        };
        assert_eq!(token("Bearer abc"), Some(b"abc".to_vec()));
        assert_eq!(token("bearer abc"), Some(b"abc".to_vec()));
        for wrong in ["", "Bearer", "Bearer ", "Basic abc", "abc"] {
            assert_eq!(token(wrong), None, "{wrong:?}");
        }
        assert_eq!(bearer(&MetadataMap::new()), None);
    }
}
