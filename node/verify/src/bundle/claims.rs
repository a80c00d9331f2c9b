//! Judging claims against a log whose size and root are proven.

use super::error::{ClaimPart, Fault};
use super::proven::{Moment, Statement};
use super::types::{AbsenceClaim, Claim, EntryProof, OperationClaim, Standing, StateClaim};
use crate::active_tree::{ActiveProof, check_active};
use crate::log_proof::check_inclusion;
use crate::log_tree::{LogRoot, leaf_hash};
use crate::merkle_proof::check_merkle;
use crate::window_proof::check_absent;
use anji_contracts::Reject;
use anji_contracts::batch::{BatchHeader, FORMAT, find_key};
use anji_contracts::codec::{self, Domain, merkle_leaf};
use anji_contracts::entity::{Entity, Participant, Window, WindowStatus};
use anji_contracts::entry::{BatchEntry, BlockEntry, Cause, EntityEntry, Entry, OpResult, Receipt};
use anji_contracts::keys;
use anji_contracts::ops::Op;
use anji_contracts::types::{ChainId, Hash32, ScopedId};

/// A part of a claim and what is wrong with it.
type Wrong = (ClaimPart, Fault);

/// The log that claims are about.
pub(super) struct Log {
    /// Size and root.
    pub(super) root: LogRoot,
    /// Which ledger.
    pub(super) chain: ChainId,
    /// The active tree over all entries but the last one.
    pub(super) active_root: Hash32,
}

/// The entry, if it is in the log at that index.
pub(super) fn included(index: u64, bytes: &[u8], path: &[Hash32], log: &LogRoot) -> Result<Entry, Fault> {
    check_inclusion(&leaf_hash(bytes), index, log, path).map_err(|_| Fault::NotInLog { index })?;
    codec::decode(bytes).map_err(|_| Fault::Malformed)
}

/// Names the part where a fault is.
fn at<T>(part: ClaimPart, result: Result<T, Fault>) -> Result<T, Wrong> {
    result.map_err(|fault| (part, fault))
}

fn ensure(holds: bool, fault: Fault) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(fault) }
}

impl Log {
    pub(super) fn check(&self, claim: &Claim) -> Result<Statement, Wrong> {
        match claim {
            Claim::Operation(claim) => self.operation(claim),
            Claim::State(claim) => self.state(claim),
            Claim::Absence(claim) => self.absence(claim),
        }
    }

    fn entry(&self, proof: &EntryProof) -> Result<Entry, Fault> {
        included(proof.index, &proof.entry, &proof.path, &self.root)
    }

    fn entity(&self, proof: &EntryProof) -> Result<EntityEntry, Fault> {
        let Entry::Entity(entry) = self.entry(proof)? else { return Err(Fault::WrongKind) };
        ensure(entry.key == entry.state.key(), Fault::Mismatch("its state's key"))?;
        Ok(entry)
    }

    fn block(&self, proof: &EntryProof) -> Result<BlockEntry, Fault> {
        let Entry::Block(entry) = self.entry(proof)? else { return Err(Fault::WrongKind) };
        Ok(entry)
    }

    fn batch(&self, proof: &EntryProof) -> Result<BatchEntry, Fault> {
        let Entry::Batch(entry) = self.entry(proof)? else { return Err(Fault::WrongKind) };
        Ok(entry)
    }

    /// The version at `index` was its entity's latest when the log had grown to the entry at `moment`. Gives the index at which it was
    /// replaced, if it was.
    fn standing(
        &self,
        index: u64,
        entry: &EntityEntry,
        moment: u64,
        standing: &Standing,
    ) -> Result<Option<u64>, Fault> {
        ensure(index < moment, Fault::NotThen)?;
        match standing {
            Standing::Latest(proof) => self.latest(index, proof).map(|()| None),
            Standing::Replaced(next) => {
                let after = self.entity(next)?;
                let follows = after.key == entry.key
                    && after.prev_index == index
                    && entry.version.checked_add(1) == Some(after.version);
                ensure(follows, Fault::Mismatch("the version before it"))?;
                ensure(next.index > moment, Fault::NotThen)?;
                Ok(Some(next.index))
            }
        }
    }

    /// The entry at `index` is the latest of its entity at the end of the log.
    fn latest(&self, index: u64, proof: &ActiveProof) -> Result<(), Fault> {
        // The tree in the last block entry is over all entries before it.
        let block_index = self.root.size.saturating_sub(1);
        let is_latest = check_active(proof, index, block_index, &self.active_root).map_err(Fault::Proof)?;
        ensure(is_latest, Fault::NotLatest { index })
    }

    fn operation(&self, claim: &OperationClaim) -> Result<Statement, Wrong> {
        let batch = at(ClaimPart::Batch, self.batch(&claim.batch))?;
        let header = at(ClaimPart::BatchHeader, self.batch_header(claim, &batch))?;
        let op = at(ClaimPart::Operation, operation(claim, &header))?;
        let receipt = at(ClaimPart::Receipt, receipt(claim, &batch, &op))?;
        let entry = at(ClaimPart::Signer, self.entity(&claim.signer))?;
        let standing = self.standing(claim.signer.index, &entry, claim.batch.index, &claim.signer_standing);
        at(ClaimPart::SignerStanding, standing)?;
        let signer = match entry.state {
            Entity::Participant(it) if it.id == header.participant => it,
            _ => return Err((ClaimPart::Signer, Fault::Mismatch("the participant"))),
        };
        at(ClaimPart::Signature, signature(claim, &header, &signer, &receipt))?;
        let id = ScopedId { participant: header.participant, op_id: op.op_id };
        let made = match &claim.made {
            None => None,
            Some(proof) => {
                let entry = at(ClaimPart::Made, self.entity(proof))?;
                let is_its = receipt.result == OpResult::Done(entry.key) && entry.cause == Cause::Op(id);
                at(ClaimPart::Made, ensure(is_its, Fault::Mismatch("what the receipt says was done")))?;
                at(ClaimPart::Made, ensure(proof.index < claim.batch.index, Fault::Mismatch("its place in the log")))?;
                Some((proof.index, entry))
            }
        };
        Ok(Statement::Operation { signer, key: header.key_id, op, receipt, batch_index: claim.batch.index, made })
    }

    fn batch_header(&self, claim: &OperationClaim, batch: &BatchEntry) -> Result<BatchHeader, Fault> {
        let header: BatchHeader = codec::decode(&claim.batch_header).map_err(|_| Fault::Malformed)?;
        ensure(header.format == FORMAT, Fault::Format(header.format))?;
        ensure(header.chain_id == self.chain, Fault::OtherChain(header.chain_id))?;
        ensure(header.participant == batch.participant, Fault::Mismatch("the batch entry's participant"))?;
        ensure(header.expires_at_ms == batch.expires_at_ms, Fault::Mismatch("the batch entry's expiry"))?;
        ensure(header.n_ops == batch.n_ops, Fault::Mismatch("the batch entry's number of operations"))?;
        ensure(header.ops_root == batch.ops_root, Fault::Mismatch("the batch entry's root of operations"))?;
        Ok(header)
    }

    fn state(&self, claim: &StateClaim) -> Result<Statement, Wrong> {
        let entry = at(ClaimPart::Entry, self.entity(&claim.entry))?;
        let (moment, block) = match &claim.at {
            None => (self.root.size.saturating_sub(1), None),
            Some(proof) => {
                let block = at(ClaimPart::At, self.block(proof))?;
                (proof.index, Some(Moment { height: block.height, time_ms: block.time_ms }))
            }
        };
        let standing = self.standing(claim.entry.index, &entry, moment, &claim.standing);
        let replaced = at(ClaimPart::Standing, standing)?;
        if let Entity::Window(window) = &entry.state {
            at(ClaimPart::Entry, check_nets(window))?;
        }
        Ok(Statement::State { index: claim.entry.index, entry, at: block, replaced })
    }

    fn absence(&self, claim: &AbsenceClaim) -> Result<Statement, Wrong> {
        let entry = at(ClaimPart::Payments, self.entity(&claim.payments))?;
        let Entity::WindowPayments(payments) = entry.state else {
            return Err((ClaimPart::Payments, Fault::WrongKind));
        };
        at(ClaimPart::Whole, check_absent(&claim.payment, &claim.neighbours, &payments).map_err(Fault::Proof))?;
        Ok(Statement::Absence {
            window: payments.window,
            payment: claim.payment,
            n_payments: payments.n_payments,
            index: claim.payments.index,
        })
    }
}

fn operation(claim: &OperationClaim, header: &BatchHeader) -> Result<Op, Fault> {
    let leaf = merkle_leaf(&claim.op);
    check_merkle(&leaf, claim.position.into(), header.n_ops.into(), &header.ops_root, &claim.op_path)
        .map_err(Fault::Proof)?;
    let op: Op = codec::decode(&claim.op).map_err(Fault::Op)?;
    op.body.check_fields().map_err(Fault::Op)?;
    Ok(op)
}

fn receipt(claim: &OperationClaim, batch: &BatchEntry, op: &Op) -> Result<Receipt, Fault> {
    let leaf = merkle_leaf(&claim.receipt);
    check_merkle(&leaf, claim.position.into(), batch.n_ops.into(), &batch.receipts_root, &claim.receipt_path)
        .map_err(Fault::Proof)?;
    let receipt: Receipt = codec::decode(&claim.receipt).map_err(|_| Fault::Malformed)?;
    ensure(receipt.op_id == op.op_id, Fault::Mismatch("the operation's id"))?;
    Ok(receipt)
}

/// The signature verifies with the key that the header names, and the key was valid, unless that is what the refusal is about.
fn signature(
    claim: &OperationClaim,
    header: &BatchHeader,
    signer: &Participant,
    receipt: &Receipt,
) -> Result<(), Fault> {
    let unknown = Fault::UnknownKey(header.participant, header.key_id);
    let key = signer.keys.iter().find(|key| key.key_id == header.key_id).ok_or(unknown)?;
    if receipt.result != OpResult::Refused(Reject::KeyNotValid) {
        find_key(signer, header.key_id, receipt.time_ms).map_err(|_| Fault::KeyNotValid(header.key_id))?;
    }
    let digest = codec::hash(Domain::BatchHeader, &claim.batch_header);
    keys::verify(key.suite, &key.public_key, &digest.0, &claim.signature).map_err(|_| Fault::BadSignature)
}

/// The nets of a closed window add up to zero.
fn check_nets(window: &Window) -> Result<(), Fault> {
    let sum = window.nets.iter().try_fold(0_i128, |sum, net| sum.checked_add(net.net));
    let open = window.status == WindowStatus::Open && window.nets.is_empty();
    ensure(open || sum == Some(0), Fault::Unbalanced)
}
