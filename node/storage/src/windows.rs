//! The payments of settlement windows: the index by which their trees are built, and proofs against the trees of closed ones.

use crate::columns::{CAPTURED, META, META_WINDOWS, captured_key, decode_captured_key};
use crate::error::ReadError;
use crate::reader::Reader;
use crate::state::damaged;
use anji_contracts::codec;
use anji_contracts::entity::{Entity, EntityKey, WindowPayments};
use anji_contracts::types::{Hash32, OpId, ParticipantId, PaymentId, ScopedId, WindowId};
use anji_contracts::window_tree::{WindowTree, payment_leaf};
use anji_verify::merkle_proof::merkle_path_of;
use anji_verify::{WindowAbsence, WindowMember};
use rocksdb::{Direction, IteratorMode};
use std::sync::{Arc, Mutex, PoisonError};

/// Payments under one kept hash: so many are read and hashed for a proof.
const PIECE: usize = 1024;
/// Levels below a kept hash.
const PIECE_LEVEL: u32 = PIECE.ilog2();
/// Windows whose pieces are kept: 52 bytes for 1,024 payments.
const KEPT_WINDOWS: usize = 16;

/// The upper part of a closed window's tree.
#[derive(Debug)]
struct Pieces {
    of: WindowPayments,
    /// First payment and root of every piece; the last piece may be short.
    pieces: Vec<(PaymentId, Hash32)>,
}

/// Closed windows asked for lately, newest last.
#[derive(Debug, Default)]
pub(crate) struct WindowTrees(Mutex<Vec<Arc<Pieces>>>);

fn corrupted(what: String) -> ReadError {
    damaged(CAPTURED, &[], &what)
}

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl Reader {
    /// How far the trees of closed windows have been built.
    pub fn window_tree(&self) -> Result<WindowTree, ReadError> {
        let Some(value) = self.state.get(META, META_WINDOWS)? else { return Ok(WindowTree::default()) };
        codec::decode(&value).map_err(|_| damaged(META, META_WINDOWS, "it cannot be decoded"))
    }

    /// At most `limit` payments with a capture in the window, in ascending order, past `after` if there is one.
    pub fn window_payments(
        &self,
        window: WindowId,
        after: Option<PaymentId>,
        limit: usize,
    ) -> Result<Vec<PaymentId>, ReadError> {
        let mut payments = Vec::new();
        let from = after.unwrap_or(LOWEST);
        if limit > 0 {
            self.visit_captured(window, &from, |payment| {
                if after != Some(payment) {
                    payments.push(payment);
                }
                payments.len() < limit
            })?;
        }
        Ok(payments)
    }

    fn visit_captured(
        &self,
        window: WindowId,
        from: &PaymentId,
        mut visit: impl FnMut(PaymentId) -> bool,
    ) -> Result<(), ReadError> {
        let start = captured_key(window, from);
        self.state.walk(CAPTURED, IteratorMode::From(&start, Direction::Forward), true, |key, _| {
            let (found, payment) =
                decode_captured_key(key).ok_or_else(|| damaged(CAPTURED, key, "the key cannot be decoded"))?;
            Ok(found == window && visit(payment))
        })
    }

    /// Proves that a payment was captured in a closed window, for [`anji_verify::check_captured`]. `None` if it was not, or the window's
    /// tree is not written yet. The first question about a window reads all its payments; later ones some thousand.
    pub fn window_member(&self, window: WindowId, payment: &PaymentId) -> Result<Option<WindowMember>, ReadError> {
        let Some(tree) = self.window_pieces(window)? else { return Ok(None) };
        let mut index = None;
        if let Some((start, ids)) = self.piece_of(&tree, payment)? {
            index = ids.binary_search(payment).ok().map(|place| start + place as u64);
        }
        index.map(|index| self.member_at(&tree, index)).transpose()
    }

    /// Proves that a payment was not captured in a closed window, for [`anji_verify::check_absent`]. `None` if it was, or the window's tree
    /// is not written yet.
    pub fn window_absence(&self, window: WindowId, payment: &PaymentId) -> Result<Option<WindowAbsence>, ReadError> {
        let Some(tree) = self.window_pieces(window)? else { return Ok(None) };
        let n_before = match self.piece_of(&tree, payment)? {
            None => 0,
            Some((start, ids)) => match ids.binary_search(payment) {
                Ok(_) => return Ok(None),
                Err(place) => start + place as u64,
            },
        };
        let before = n_before.checked_sub(1).map(|index| self.member_at(&tree, index)).transpose()?;
        let is_last = n_before == tree.of.n_payments;
        let after = if is_last { None } else { Some(self.member_at(&tree, n_before)?) };
        Ok(Some(WindowAbsence { before, after }))
    }

    /// The piece where the payment is or would be, with the place of its first payment; `None` if it would be before all.
    fn piece_of(&self, tree: &Pieces, payment: &PaymentId) -> Result<Option<(u64, Vec<PaymentId>)>, ReadError> {
        let Some(piece) = tree.pieces.partition_point(|(first, _)| first <= payment).checked_sub(1) else {
            return Ok(None);
        };
        Ok(Some(((piece * PIECE) as u64, self.piece(tree, piece)?)))
    }

    fn piece(&self, tree: &Pieces, piece: usize) -> Result<Vec<PaymentId>, ReadError> {
        let Some((first, _)) = tree.pieces.get(piece) else { return Ok(Vec::new()) };
        let mut ids = Vec::with_capacity(PIECE);
        self.visit_captured(tree.of.window, first, |payment| {
            ids.push(payment);
            ids.len() < PIECE
        })?;
        Ok(ids)
    }

    fn member_at(&self, tree: &Pieces, index: u64) -> Result<WindowMember, ReadError> {
        let piece = usize::try_from(index).unwrap_or(usize::MAX) / PIECE;
        let ids = self.piece(tree, piece)?;
        let start = (piece * PIECE) as u64;
        let leaves: Vec<Hash32> = ids.iter().map(payment_leaf).collect();
        let gone = || corrupted(format!("{:?} changed after it was closed", tree.of.window));
        let path = merkle_path_of(index, tree.of.n_payments, |level, place| {
            let hashes: Option<Vec<Hash32>> = match level.checked_sub(PIECE_LEVEL) {
                Some(above) => {
                    let (from, to) = (to_usize(place << above), to_usize((place + 1) << above));
                    tree.pieces.get(from..to).map(|pieces| pieces.iter().map(|(_, root)| *root).collect())
                }
                None => {
                    let from = to_usize((place << level).wrapping_sub(start));
                    // The last piece may be asked for from another one's path.
                    match leaves.get(from..from.saturating_add(1 << level)) {
                        Some(leaves) => Some(leaves.to_vec()),
                        None => {
                            let piece = to_usize(place << level) / PIECE;
                            let from = to_usize(place << level) % PIECE;
                            let leaves: Vec<Hash32> = self.piece(tree, piece)?.iter().map(payment_leaf).collect();
                            leaves.get(from..from + (1 << level)).map(<[Hash32]>::to_vec)
                        }
                    }
                }
            };
            hashes.map(|hashes| codec::merkle_root(&hashes)).ok_or_else(gone)
        })?;
        let payment = usize::try_from(index - start).ok().and_then(|place| ids.get(place)).ok_or_else(gone)?;
        Ok(WindowMember { payment: *payment, index, path })
    }

    /// The pieces of a closed window whose entry is written; compared with that entry when they are made.
    fn window_pieces(&self, window: WindowId) -> Result<Option<Arc<Pieces>>, ReadError> {
        let kept = || self.state.window_trees.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pieces) = kept().iter().find(|it| it.of.window == window) {
            return Ok(Some(Arc::clone(pieces)));
        }
        let of = match self.entity(&EntityKey::WindowPayments(window))?.map(|known| known.entry.state) {
            Some(Entity::WindowPayments(of)) => of,
            _ => return Ok(None),
        };
        let mut tree = WindowTree::start(window);
        let mut pieces = Vec::new();
        let mut first = None;
        let mut leaves = Vec::with_capacity(PIECE);
        self.visit_captured(window, &LOWEST, |payment| {
            tree.push(payment);
            first.get_or_insert(payment);
            leaves.push(payment_leaf(&payment));
            if leaves.len() == PIECE {
                pieces.extend(first.take().map(|first| (first, codec::merkle_root(&leaves))));
                leaves.clear();
            }
            true
        })?;
        pieces.extend(first.map(|first| (first, codec::merkle_root(&leaves))));
        if tree.finish() != of {
            return Err(corrupted(format!("the payments of {window:?} are not those that its entry commits to")));
        }
        let pieces = Arc::new(Pieces { of, pieces });
        let mut kept = kept();
        if kept.len() >= KEPT_WINDOWS {
            kept.remove(0);
        }
        kept.push(Arc::clone(&pieces));
        Ok(Some(pieces))
    }
}

const LOWEST: PaymentId = PaymentId(ScopedId { participant: ParticipantId(0), op_id: OpId(0) });

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
