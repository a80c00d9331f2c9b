//! Host names in configured addresses, asked of the system anew at every dial: a peer may move.

use std::net::IpAddr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// Whether an address starts with a name.
pub(crate) fn needs_resolving(addr: &Multiaddr) -> bool {
    matches!(addr.iter().next(), Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)))
}

/// The same addresses with names replaced by what they resolve to; a name that does not resolve is left out.
pub(crate) async fn resolve(addrs: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let mut resolved = Vec::new();
    for addr in addrs {
        let (name, want_v4, want_v6) = match addr.iter().next() {
            Some(Protocol::Dns(name)) => (name.into_owned(), true, true),
            Some(Protocol::Dns4(name)) => (name.into_owned(), true, false),
            Some(Protocol::Dns6(name)) => (name.into_owned(), false, true),
            _ => {
                resolved.push(addr);
                continue;
            }
        };
        match tokio::net::lookup_host((name.as_str(), 0)).await {
            Ok(found) => {
                for socket in found {
                    let ip = match socket.ip() {
                        IpAddr::V4(ip) if want_v4 => Protocol::Ip4(ip),
                        IpAddr::V6(ip) if want_v6 => Protocol::Ip6(ip),
                        _ => continue,
                    };
                    let rest = addr.iter().skip(1);
                    resolved.push(std::iter::once(ip).chain(rest).collect());
                }
            }
            Err(error) => tracing::debug!(name, %error, "host name does not resolve"),
        }
    }
    resolved.dedup();
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_becomes_an_address_and_an_address_stays() {
        let name: Multiaddr = "/dns4/localhost/tcp/1".parse().expect("an address");
        let plain: Multiaddr = "/ip4/10.0.0.1/tcp/2".parse().expect("an address");
        assert!(needs_resolving(&name) && !needs_resolving(&plain));
        let resolved = resolve(vec![name, plain.clone()]).await;
        assert_eq!(resolved, ["/ip4/127.0.0.1/tcp/1".parse().expect("an address"), plain]);
    }
}
