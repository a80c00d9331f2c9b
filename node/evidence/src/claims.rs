//! One claim at a time.

use crate::Ask;
use crate::anchor::{Anchored, Version, list_bytes, list_path};
use crate::error::EvidenceError;
use anji_contracts::EntityKey;
use anji_contracts::batch::split_batch;
use anji_contracts::codec::{self, merkle_leaf};
use anji_contracts::entry::{Cause, Entry, OpResult};
use anji_contracts::types::{Hash32, ScopedId};
use anji_storage::{BatchReceipts, OpRow};
use anji_verify::bundle::{BATCH_HEADER_BYTES, Claim, EntryProof, OperationClaim, Standing, StateClaim};
use anji_verify::merkle_path;
use bytes::Bytes;

/// What a batch entry's bytes begin with.
const BATCH_ENTRY: u8 = 2;

impl Anchored<'_> {
    pub(crate) fn claim(&self, ask: &Ask) -> Result<Claim, EvidenceError> {
        match ask {
            Ask::Operation(id) => self.operation(id).map(Claim::Operation),
            Ask::State(key, height) => self.state(key, *height).map(Claim::State),
            Ask::Absence(payment, window) => self.absence(payment, *window).map(Claim::Absence),
        }
    }

    pub(crate) fn not_found(&self, what: &'static str) -> EvidenceError {
        EvidenceError::NotFound { what, height: self.height() }
    }

    fn standing(&self, version: &Version) -> Result<Standing, EvidenceError> {
        match &version.next {
            Some(next) => self.entry(next.index).map(Standing::Replaced),
            None => self.active(version.known.index).map(Standing::Latest),
        }
    }

    fn state(&self, key: &EntityKey, height: Option<u64>) -> Result<StateClaim, EvidenceError> {
        let what = name(key);
        let (moment, at) = match height {
            None => (self.last_index(), None),
            Some(height) if height > self.height() => {
                return Err(EvidenceError::NotYet("the height asked for is above the newest that can be proven"));
            }
            Some(height) => {
                let block = self.block_entry(height)?;
                (block.index, Some(block))
            }
        };
        let version = self.version_at(key, moment)?.ok_or_else(|| match height {
            Some(height) => EvidenceError::NotThen { what, height },
            None => self.not_found(what),
        })?;
        Ok(StateClaim { entry: self.entry(version.known.index)?, at, standing: self.standing(&version)? })
    }

    fn block_entry(&self, height: u64) -> Result<EntryProof, EvidenceError> {
        let record = self.reader.block_record(height)?.ok_or(EvidenceError::Inconsistent("a block is missing"))?;
        let index = record.log.size.checked_sub(1).ok_or(EvidenceError::Inconsistent("a log is empty"))?;
        self.entry(index)
    }

    fn operation(&self, id: &ScopedId) -> Result<OperationClaim, EvidenceError> {
        let row = self.reader.op(id)?.ok_or_else(|| self.not_found("operation"))?;
        let height = row.record.receipt.height;
        if height > self.height() {
            return Err(EvidenceError::NotYet("the operation's block is newer than the newest final checkpoint"));
        }
        let (batch_bytes, receipts) = self.batch(&row)?;
        let made = self.made(id, &row)?;
        let batch_index = self.batch_index(&row, &receipts)?;
        let broken = || EvidenceError::Inconsistent("a batch is not as its receipts say");
        let position = usize::try_from(row.position).map_err(|_| broken())?;
        let batch = split_batch(&batch_bytes, &self.chain_id()).map_err(|_| broken())?;
        if batch.hash != receipts.batch_hash {
            return Err(broken());
        }
        let op_leaves: Vec<Hash32> = batch.ops.iter().map(|it| merkle_leaf(it)).collect();
        let receipts: Vec<Vec<u8>> = receipts.receipts.iter().map(codec::encode).collect();
        let receipt_leaves: Vec<Hash32> = receipts.iter().map(|it| merkle_leaf(it)).collect();
        let path = |leaves: &[Hash32]| merkle_path(leaves, row.position.into()).ok_or_else(broken).and_then(list_path);
        let key = EntityKey::Participant(id.participant);
        let signer = self.version_at(&key, batch_index)?.ok_or_else(broken)?;
        Ok(OperationClaim {
            batch_header: *batch_bytes.first_chunk::<BATCH_HEADER_BYTES>().ok_or_else(broken)?,
            signature: batch.signature,
            position: row.position,
            op: list_bytes(batch.ops.get(position).ok_or_else(broken)?.to_vec())?,
            op_path: path(&op_leaves)?,
            receipt: list_bytes(receipts.get(position).ok_or_else(broken)?.clone())?,
            receipt_path: path(&receipt_leaves)?,
            batch: self.entry(batch_index)?,
            signer: self.entry(signer.known.index)?,
            signer_standing: self.standing(&signer)?,
            made: made.map(|index| self.entry(index)).transpose()?,
        })
    }

    /// The bytes of the batch that an operation was in, out of its block, and what the ledger answered. They are to be set against each other.
    fn batch(&self, row: &OpRow) -> Result<(Bytes, BatchReceipts), EvidenceError> {
        let broken = EvidenceError::Inconsistent("an operation's batch is not where its row says");
        let height = row.record.receipt.height;
        let (Some(before), Some(receipts)) =
            (self.reader.block_record(height.saturating_sub(1))?, self.reader.receipts(row.batch_seq)?)
        else {
            return Err(broken);
        };
        let place = row.batch_seq.checked_sub(before.n_batches_total).and_then(|it| usize::try_from(it).ok());
        let bytes = place.map(|place| self.reader.batch(height, place)).transpose()?.flatten().ok_or(broken)?;
        Ok((bytes, receipts))
    }

    /// Index of the entry that an operation made of what it was about. Hot accounts are written once a block, by no operation in particular.
    fn made(&self, id: &ScopedId, row: &OpRow) -> Result<Option<u64>, EvidenceError> {
        match row.record.receipt.result {
            OpResult::Done(key) if !key.is_hot() => {
                let version = self.walk(&key, |known| known.entry.cause == Cause::Op(*id))?;
                Ok(version.map(|version| version.known.index))
            }
            OpResult::Done(_) | OpResult::Refused(_) => Ok(None),
        }
    }

    /// Index of the batch entry: it comes after everything that its operations made, so the search begins at the last thing that is known.
    fn batch_index(&self, row: &OpRow, receipts: &BatchReceipts) -> Result<u64, EvidenceError> {
        let mut from = None;
        for receipt in receipts.receipts.iter().rev() {
            let id = ScopedId { participant: receipts.participant, op_id: receipt.op_id };
            let Some(row) = self.reader.op(&id)? else { continue };
            // A batch may repeat an operation that was in an earlier one.
            if row.batch_seq != receipts.seq {
                continue;
            }
            from = match row.payment_index {
                Some(index) => Some(index),
                None => self.made(&id, &row)?,
            };
            if from.is_some() {
                break;
            }
        }
        let from = match from {
            Some(index) => index,
            None => {
                let before = self.reader.root_at(row.record.receipt.height.saturating_sub(1))?;
                before.map_or(0, |log| log.size)
            }
        };
        let mut found = None;
        self.reader.visit_entries(from, |index, bytes| {
            if index >= self.last_index() {
                return Ok(false);
            }
            if bytes.first() == Some(&BATCH_ENTRY)
                && let Ok(Entry::Batch(entry)) = codec::decode::<Entry>(bytes)
                && entry.batch_seq == row.batch_seq
            {
                found = Some(index);
            }
            Ok(found.is_none())
        })?;
        found.ok_or(EvidenceError::Inconsistent("a batch entry is missing"))
    }
}

/// What an entity is called in messages.
const fn name(key: &EntityKey) -> &'static str {
    match key {
        EntityKey::Participant(_) => "participant",
        EntityKey::Mandate(_) => "mandate",
        EntityKey::Line(_) => "use of a mandate's line",
        EntityKey::Payment(_) => "payment",
        EntityKey::Refund(_) => "refund",
        EntityKey::Dispute(_) => "dispute",
        EntityKey::Window(_) => "settlement window",
        EntityKey::WindowPayments(_) => "list of a window's payments",
        EntityKey::Obligation(..) => "account in that window",
        EntityKey::Position(_) => "position",
        EntityKey::Control => "ledger",
        EntityKey::Schedule(_) => "fee schedule",
    }
}
