//! A large ledger, written through the real execution path into one node's empty data folder: payments from a seed, in signed batches, in
//! blocks with certificates of all validators, appended to the block file and executed. Figures on the way: how fast a large ledger
//! executes, stretch by stretch in turn with a new one beside it, memory, disk, and how long a start takes.
//!
//! The same folder serves every node of the network (`devnet/bench` copies it): a chain is the same everywhere.

use super::client::Bank;
use super::rows::{Row, Rows, quantile};
use super::scrape::folder_bytes;
use super::setup::{keep, keep_payments};
use super::work::{Plan, Signer};
use crate::config::NodeConfig;
use crate::{config, genesis};
use anji_adapters::keys::{PrivateKey, Purpose};
use anji_contracts::types::{Hash32, MandateId, ScopedId};
use anji_contracts::{EntityKey, Genesis, OpResult, decode_batch};
use anji_execution::{DecidedBlock, ExecutionMetrics, ExecutionOptions, Executor};
use anji_storage::open::{StoreOptions, Verify};
use anji_storage::{Block, BlockFile, Store};
use anji_verify::certificate::{VoteBody, VoteKind};
use anji_verify::{Address, CommitCertificate, CommitSignature, Header, LogRoot, Validator, ValidatorSet};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// Payments of a batch, and batches of a block.
const BATCH: u32 = 1000;
const BLOCK: usize = 10;
/// Payments before the first figure: caches are warm, the ledger as good as empty.
const WARM_PAYMENTS: u64 = 100_000;
/// A figure is taken over so many stretches of so many payments.
const STRETCHES: u64 = 5;
const STRETCH_PAYMENTS: u64 = 40_000;
const ONE_THREAD: &str = "one thread's CPU";

#[derive(Args)]
pub(super) struct GrowArgs {
    /// The folder that `anji init` made; its nodes must not run.
    #[arg(long, value_name = "DIR")]
    network_dir: PathBuf,
    /// Whose data folder is filled; it must be empty.
    #[arg(long, default_value = "acquirer")]
    node: String,
    /// Entries of the log, in millions: figures are taken at each of them, and the last is where it ends.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10])]
    millions: Vec<u64>,
    /// Mandates.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    mandates: u32,
    /// Appends the figures to this file, a JSON object a line.
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
}

/// The chain as it grows.
struct Chain {
    genesis: Genesis,
    validators: ValidatorSet,
    keys: Vec<(Address, PrivateKey)>,
    blocks: BlockFile,
    executor: Executor,
    /// After the last two blocks: the header carries the older one.
    roots: [LogRoot; 2],
    parent: Hash32,
    time_ms: u64,
    /// CPU time of execution, and of what it is made of.
    busy: Duration,
    payments: u64,
    /// One of every batch, to be looked for later.
    noted: Vec<ScopedId>,
}

pub(super) fn run(args: &GrowArgs) -> Result<()> {
    let rows = Rows(args.rows.clone());
    let config = config::load(&args.network_dir.join(&args.node).join("config.toml"))?;
    let (mut chain, mandates) = Chain::start(args, &config)?;
    keep(&args.network_dir, &mandates)?;
    let batches = chain.batches(args, mandates)?;
    chain.pay(&batches, WARM_PAYMENTS)?;
    rows.add(&[
        Row::of("grow_pay_per_s_at_0", &chain.stretches(&batches, STRETCHES)?, "payments/s").with_note(ONE_THREAD)
    ])?;
    let mut told = Instant::now();
    for millions in &args.millions {
        while chain.executor.log_root().size < millions * 1_000_000 {
            chain.pay(&batches, u64::from(BATCH) * BLOCK as u64)?;
            if told.elapsed() > Duration::from_secs(3) {
                told = Instant::now();
                eprintln!(
                    "grow: {} entries of {millions} M, {} payments",
                    chain.executor.log_root().size,
                    chain.payments
                );
            }
        }
        let (rates, beside) = chain.figure(args, &config, &batches)?;
        eprintln!("grow: {:.0} payments/s, {:.0} on an empty ledger", quantile(&rates, 0.5), quantile(&beside, 0.5));
        chain.executor.flush()?;
        let entries = chain.executor.log_root().size as f64;
        let disk = folder_bytes(&config.data_dir) as f64;
        let at = |what: &str| format!("grow_{what}_at_{millions}m");
        rows.add(&[
            Row::of(at("pay_per_s"), &rates, "payments/s").with_note(ONE_THREAD),
            Row::of(format!("grow_empty_pay_per_s_beside_{millions}m"), &beside, "payments/s").with_note(ONE_THREAD),
            Row::one(at("memory_mib"), resident_mib(), "MiB").with_note("this process, the generator included"),
            Row::one(at("disk_bytes_per_entry"), disk / entries, "bytes"),
        ])?;
        let (seconds, reopened) = chain.open_again(&args.network_dir, &config)?;
        chain = reopened;
        rows.add(&[Row::one(at("start_s"), seconds, "s").with_note("every file read and checked")])?;
    }
    drop(batches);
    keep_payments(&args.network_dir, &chain.noted)?;
    eprintln!("grow: {} at height {}", config.data_dir.display(), chain.executor.height());
    Ok(())
}

/// Signed batches from a thread of its own, a few ahead.
fn generate(plan: Plan, signer: Signer, mandates: Vec<MandateId>) -> Receiver<Result<Vec<u8>>> {
    let (sender, receiver) = sync_channel(2 * BLOCK);
    std::thread::spawn(move || {
        let mut first = 0;
        // Ends when nobody takes batches any more.
        while sender.send(signer.sign(&plan.pay(&mandates, first, BATCH))).is_ok() {
            first += u64::from(BATCH);
        }
    });
    receiver
}

impl Chain {
    fn open(network_dir: &Path, config: &NodeConfig, genesis: Genesis) -> Result<Self> {
        let mib = |size: u32| (size as usize) << 20;
        let options = StoreOptions {
            cache_bytes: mib(config.storage.cache_mib),
            write_buffer_bytes: mib(config.storage.write_buffer_mib),
            segment_bytes: u64::from(config.storage.segment_mib) << 20,
            verify: Verify::Full,
            ..StoreOptions::default()
        };
        let opened = Store::open(&config.data_dir, &genesis, &options)?;
        let blocks = opened.blocks.clone();
        let execution = ExecutionOptions {
            cached_entities: config.execution.cached_entities as usize,
            cached_ops: config.execution.cached_ops as usize,
            bare: false,
        };
        let executor = Executor::open(opened, &genesis, &execution, ExecutionMetrics::default())?;
        let mut keys = Vec::new();
        for entry in std::fs::read_dir(network_dir)?.flatten() {
            let file = entry.path().join("keys/consensus.key");
            if file.exists() {
                let key = PrivateKey::read(&file, Purpose::Consensus)?;
                keys.push((Address::of(key.ed25519().verifying_key().as_bytes()), key));
            }
        }
        let validators = genesis.validators.iter().map(|it| Validator {
            address: Address::of(&it.public_key),
            participant: it.participant,
            public_key: it.public_key,
            power: it.power,
        });
        let validators = ValidatorSet::new(validators.collect()).context("genesis names no valid set of validators")?;
        keys.sort_by_key(|(address, _)| *address);
        let last = executor.last();
        let before = executor.reader().root_at(last.height.saturating_sub(1))?.unwrap_or(last.log);
        Ok(Self {
            time_ms: last.time_ms,
            parent: if last.height == 0 { Hash32::ZERO } else { last.header_hash },
            roots: [before, last.log],
            genesis,
            validators,
            keys,
            blocks,
            executor,
            busy: Duration::ZERO,
            payments: 0,
            noted: Vec::new(),
        })
    }

    /// A new chain with mandates, in the folder that the configuration names.
    fn start(args: &GrowArgs, config: &NodeConfig) -> Result<(Self, Vec<MandateId>)> {
        let mut chain = Self::open(&args.network_dir, config, genesis::read(&config.genesis)?)?;
        ensure!(chain.executor.height() == 0, "{}: not empty", config.data_dir.display());
        let (front, back) = Bank::load(&args.network_dir)?;
        let plan = Plan::of_genesis(&chain.genesis)?;
        let (front, back) = (Signer::new(&front, &plan), Signer::new(&back, &plan));
        let mandates = chain.open_mandates(&plan, &front, &back, args.mandates)?;
        Ok((chain, mandates))
    }

    fn batches(&self, args: &GrowArgs, mandates: Vec<MandateId>) -> Result<Receiver<Result<Vec<u8>>>> {
        let (front, _) = Bank::load(&args.network_dir)?;
        let plan = Plan::of_genesis(&self.genesis)?;
        let signer = Signer::new(&front, &plan);
        Ok(generate(plan, signer, mandates))
    }

    /// Closes and opens the folder; seconds of the opening.
    fn open_again(self, network_dir: &Path, config: &NodeConfig) -> Result<(f64, Self)> {
        let Self { payments, busy, noted, genesis, executor, blocks, .. } = self;
        drop((executor, blocks));
        let started = Instant::now();
        let opened = Self::open(network_dir, config, genesis)?;
        Ok((started.elapsed().as_secs_f64(), Self { payments, busy, noted, ..opened }))
    }

    fn block(&mut self, batches: Vec<Vec<u8>>) -> Result<()> {
        let chain_id = self.genesis.chain_id();
        let decoded =
            batches.iter().map(|bytes| decode_batch(bytes, &chain_id).map(|it| Arc::new(it.assume_verified())));
        let checked: Vec<_> =
            decoded.collect::<Result<_, _>>().map_err(|reject| anyhow::anyhow!("a batch: {reject}"))?;
        let hashes: Vec<Hash32> = checked.iter().map(|batch| batch.hash).collect();
        let height = self.executor.height() + 1;
        self.time_ms = super::work::now_ms().max(self.time_ms + 1);
        let proposer = self.keys.first().context("no validator's key is here")?.0;
        let set = self.validators.hash();
        let header = Header {
            format: anji_contracts::batch::FORMAT,
            chain_id,
            height,
            round: 0,
            time_ms: self.time_ms,
            parent_hash: self.parent,
            proposer,
            n_batches: u32::try_from(batches.len()).context("too many batches")?,
            batches_root: Header::batches_root_of(&hashes),
            log: self.roots[0],
            validators_hash: set,
            next_validators_hash: set,
            rules: self.genesis.params.rules,
        };
        let value = header.hash();
        let certificate = self.certificate(height, value);
        let batches: Vec<Bytes> = batches.into_iter().map(Bytes::from).collect();
        self.blocks.append_decided(&header, &batches, &certificate)?;
        let block = DecidedBlock {
            block: Block { header, batches, certificate },
            checked: checked.into_iter().map(Some).collect(),
        };
        let before = thread_cpu();
        let executed = self.executor.execute(&block)?;
        self.busy += thread_cpu().saturating_sub(before);
        for batch in &executed.batches {
            let done = batch.receipts.iter().all(|it| matches!(it.result, OpResult::Done(_)));
            ensure!(done, "an operation was refused");
            let payment =
                batch.receipts.first().filter(|it| matches!(it.result, OpResult::Done(EntityKey::Payment(_))));
            let id = |op_id| ScopedId { participant: batch.participant, op_id };
            self.noted.extend(payment.map(|it| id(it.op_id)));
        }
        self.roots = [self.roots[1], executed.log];
        self.parent = value;
        Ok(())
    }

    fn certificate(&self, height: u64, value: Hash32) -> CommitCertificate {
        let chain_id = self.genesis.chain_id();
        let precommit = |(validator, key): &(Address, PrivateKey)| {
            let vote = VoteBody {
                chain_id,
                kind: VoteKind::Precommit,
                height,
                round: 0,
                value: Some(value),
                validator: *validator,
            };
            CommitSignature { validator: *validator, signature: key.sign(&vote.sign_bytes()) }
        };
        CommitCertificate { height, round: 0, value, signatures: self.keys.iter().map(precommit).collect() }
    }

    fn open_mandates(&mut self, plan: &Plan, front: &Signer, back: &Signer, count: u32) -> Result<Vec<MandateId>> {
        let mut mandates = Vec::new();
        for _ in 0..count.div_ceil(BATCH) {
            let proposed = plan.propose(BATCH);
            let ids: Vec<_> = proposed.iter().map(|op| front.mandate_id(op)).collect();
            self.block(vec![front.sign(&proposed)?])?;
            self.block(vec![back.sign(&plan.activate(&ids))?])?;
            mandates.extend(ids);
        }
        Ok(mandates)
    }

    fn pay(&mut self, batches: &Receiver<Result<Vec<u8>>>, payments: u64) -> Result<()> {
        for _ in 0..payments.div_ceil(u64::from(BATCH) * BLOCK as u64) {
            let block: Result<Vec<_>> = batches.iter().take(BLOCK).collect();
            self.block(block?)?;
            self.payments += u64::from(BATCH) * BLOCK as u64;
        }
        Ok(())
    }

    /// Payments a second of one thread's CPU, stretch by stretch.
    fn stretches(&mut self, batches: &Receiver<Result<Vec<u8>>>, count: u64) -> Result<Vec<f64>> {
        let mut rates = Vec::new();
        for _ in 0..count {
            let (busy, payments) = (self.busy, self.payments);
            self.pay(batches, STRETCH_PAYMENTS)?;
            rates.push((self.payments - payments) as f64 / (self.busy - busy).as_secs_f64());
        }
        Ok(rates)
    }

    /// This ledger's stretches, and those of a new one beside it, in turn: the machine is not equally fast all the time.
    fn figure(
        &mut self,
        args: &GrowArgs,
        config: &NodeConfig,
        batches: &Receiver<Result<Vec<u8>>>,
    ) -> Result<(Vec<f64>, Vec<f64>)> {
        let folder = args.network_dir.join("grow-empty");
        let (mut empty, mandates) = Self::start(args, &NodeConfig { data_dir: folder.clone(), ..config.clone() })?;
        let its_batches = empty.batches(args, mandates)?;
        empty.pay(&its_batches, WARM_PAYMENTS)?;
        let (mut rates, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..STRETCHES {
            beside.extend(empty.stretches(&its_batches, 1)?);
            rates.extend(self.stretches(batches, 1)?);
        }
        drop((empty, its_batches));
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        Ok((rates, beside))
    }
}

fn thread_cpu() -> Duration {
    Duration::from_nanos(anji_meter::thread_ns())
}

fn resident_mib() -> f64 {
    let text = anji_meter::text();
    let bytes = text.lines().find_map(|line| line.strip_prefix("anji_process_resident_bytes ")?.parse::<f64>().ok());
    bytes.unwrap_or(f64::NAN) / f64::from(1 << 20)
}
