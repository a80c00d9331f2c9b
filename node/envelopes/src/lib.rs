//! Envelopes: clear text about people, sealed to exactly the institutions that may read it. The ledger holds an envelope's hash and
//! nothing else of it, so the text can be destroyed later while every proof stays valid.
//!
//! - [`seal`] and [`open`]: one content secret per envelope, wrapped for each recipient by the suite of its key ([`envelope`] has the bytes);
//! - [`EnvelopeStore`]: ciphertexts and wrapped secrets kept apart on disk, and erasure that destroys the second;
//! - [`commitment`] and [`pseudonym`]: what stands on the ledger in place of clear text.
//!
//! Nothing here writes clear text, a secret or a key to a log or to disk. The bytes are described in `proto/FORMAT.md`, section 11.
//!
//! HPKE (`hpke`), ChaCha20-Poly1305 and GCM are kept by RustCrypto and rust-hpke; the SM2, SM3 and SM4 crates have vectors and outside
//! checks, but **nobody has audited them**, and SM4 looks up tables, so a neighbour on the same machine may learn from its timing.

mod cipher;
pub mod commitment;
mod context;
pub mod envelope;
mod error;
mod keys;
pub mod pseudonym;
mod seal;
mod store;
mod wrap;

pub use cipher::Cipher;
pub use commitment::{Salt, commit};
pub use envelope::{About, Envelope, Purpose, Recipient, Subject, Wraps, envelope_hash};
pub use error::{OpenError, SealError};
pub use keys::OpeningKey;
pub use pseudonym::{Person, PseudonymSecret};
pub use rand_core::CryptoRng;
pub use seal::{Draft, Sealed, open, seal};
pub use store::{EnvelopeStore, Found, Limits, OpenStored, Recovery, StoreError};
pub use zeroize::Zeroizing;
