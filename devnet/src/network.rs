//! The network that `anji init` laid out in a folder: all addresses in `network.json`, and
//! one folder a node with the tokens of its callers. Reads them, asks every node how it stands, and compares their roots.

use crate::connect::{Adapter, Door, explain};
use anji_proto::v1 as pb;
use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One node with its adapter, if it has one.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    participant: u32,
    folder: PathBuf,
    operator: Door,
    wallet: Door,
    adapter: Option<Door>,
    /// Every address its processes listen on.
    listens: Vec<(String, SocketAddr)>,
}

/// All nodes of a network, by name.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    folder: PathBuf,
    pub(crate) nodes: Vec<Node>,
}

fn read_token(folder: &Path, name: &str) -> Result<String> {
    let file = folder.join("tokens").join(format!("{name}.token"));
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text.trim().to_owned())
}

/// The part of `network.json` that says where everything is.
#[derive(Deserialize)]
struct Summary {
    nodes: Vec<NodeSummary>,
}

#[derive(Deserialize)]
struct NodeSummary {
    name: String,
    participant_id: u32,
    p2p: SocketAddr,
    grpc: SocketAddr,
    metrics: SocketAddr,
    adapter_grpc: Option<SocketAddr>,
    adapter_metrics: Option<SocketAddr>,
    #[serde(default)]
    log_http: Option<SocketAddr>,
}

impl Node {
    fn new(folder: &Path, it: &NodeSummary) -> Result<Self> {
        let folder = folder.join(&it.name);
        let door = |address: SocketAddr, token: &str| -> Result<Door> {
            Ok(Door { address: address.to_string(), token: Some(read_token(&folder, token)?) })
        };
        let listens = [
            ("peers", Some(it.p2p)),
            ("gRPC", Some(it.grpc)),
            ("metrics", Some(it.metrics)),
            ("adapter gRPC", it.adapter_grpc),
            ("adapter metrics", it.adapter_metrics),
            ("log", it.log_http),
        ];
        Ok(Self {
            name: it.name.clone(),
            participant: it.participant_id,
            operator: door(it.grpc, "operator")?,
            wallet: door(it.grpc, "wallet")?,
            adapter: it.adapter_grpc.map(|address| door(address, "adapter-wallet")).transpose()?,
            listens: listens.into_iter().filter_map(|(what, at)| Some((format!("{} {what}", it.name), at?))).collect(),
            folder,
        })
    }

    async fn status(&self) -> Result<pb::GetStatusResponse> {
        let mut operator = self.operator.operator()?;
        let answer = tokio::time::timeout(Duration::from_secs(3), operator.get_status(pb::GetStatusRequest {})).await;
        let answer = answer.map_err(|_| anyhow!("no answer within 3 s"))?;
        Ok(answer.map_err(|status| anyhow!("{}", explain(&status)))?.into_inner())
    }

    async fn roots(&self, height: u64) -> Result<pb::GetRootsResponse> {
        let mut operator = self.operator.operator()?;
        let answer = operator.get_roots(pb::GetRootsRequest { height }).await;
        Ok(answer.map_err(|status| anyhow!("{}: {}", self.name, explain(&status)))?.into_inner())
    }
}

impl Network {
    /// Reads the folder that `anji init --out` wrote.
    pub(crate) fn load(folder: &Path) -> Result<Self> {
        let file = folder.join("network.json");
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("there is no network in {}", folder.display()))?;
        let summary: Summary = serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))?;
        let mut nodes = summary.nodes.iter().map(|it| Node::new(folder, it)).collect::<Result<Vec<_>>>()?;
        ensure!(!nodes.is_empty(), "there is no network in {}", folder.display());
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Self { folder: folder.to_owned(), nodes })
    }

    /// What a client must know; from whichever node answers.
    pub(crate) async fn chain_info(&self) -> Result<pb::GetChainInfoResponse> {
        let mut last = anyhow!("there is no node");
        for node in &self.nodes {
            match node.wallet.wallet()?.get_chain_info(pb::GetChainInfoRequest {}).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => last = anyhow!("{}: {}", node.name, explain(&status)),
            }
        }
        Err(last)
    }

    /// The adapter of a participant.
    pub(crate) fn adapter_of(&self, participant: u32) -> Result<&Door> {
        let found =
            self.nodes.iter().filter(|node| node.participant == participant).find_map(|node| node.adapter.as_ref());
        found.with_context(|| format!("participant {participant} has no adapter"))
    }

    /// Fails with the first address that somebody else already listens on.
    pub(crate) fn check_ports(&self) -> Result<()> {
        for (what, address) in self.nodes.iter().flat_map(|node| &node.listens) {
            TcpListener::bind(address).map(drop).map_err(|error| {
                anyhow!("{address} ({what}) cannot be used: {error}\n  way out: stop what listens there (`ss -ltnp`), or change the ports in devnet/networks/four.toml")
            })?;
        }
        Ok(())
    }

    /// Waits until all nodes answer and have connected peers.
    pub(crate) async fn wait_nodes(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let wanted = u32::try_from(self.nodes.len() - 1)?;
        for node in &self.nodes {
            loop {
                let waiting = match node.status().await {
                    Ok(status) if status.n_peers_connected >= wanted => break,
                    Ok(status) => format!("{} of {wanted} peers connected", status.n_peers_connected),
                    Err(error) => format!("{error:#}"),
                };
                ensure!(Instant::now() < deadline, "{} is not ready: {waiting}", node.name);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// Waits until all adapters answer.
    pub(crate) async fn wait_adapters(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        for node in &self.nodes {
            let Some(door) = &node.adapter else { continue };
            let mut adapter: Adapter = door.adapter()?;
            loop {
                let asked = adapter.get_window(pb::AdapterGetWindowRequest { window: 0 });
                let waiting = match tokio::time::timeout(Duration::from_secs(2), asked).await {
                    Ok(Ok(_)) => break,
                    Ok(Err(status)) => explain(&status),
                    Err(_) => "no answer".to_owned(),
                };
                ensure!(Instant::now() < deadline, "the adapter of {} is not ready: {waiting}", node.name);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// Compares the roots of all nodes at the newest height that all have executed.
    pub(crate) async fn equal_roots(&self, patience: Duration) -> Result<String> {
        // Everyone must get as far as the furthest is now.
        let mut height = 0;
        for node in &self.nodes {
            height = height.max(node.status().await.with_context(|| node.name.clone())?.executed_height);
        }
        let deadline = Instant::now() + patience;
        let mut all = Vec::new();
        for node in &self.nodes {
            loop {
                match node.roots(height).await {
                    Ok(roots) => break all.push((node, roots)),
                    Err(error) if Instant::now() >= deadline => return Err(error),
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        }
        let (_, first) = all.first().context("there is no node")?;
        for (node, roots) in &all {
            let same = roots.log_root == first.log_root
                && roots.log_size == first.log_size
                && roots.header_hash == first.header_hash;
            ensure!(same, "{} has another root at height {height}", node.name);
        }
        let root = hex::encode(&first.log_root);
        Ok(format!("{} nodes, height {height}, {} entries, root {root}", all.len(), first.log_size))
    }

    /// Everything that is executed now becomes final on every node.
    pub(crate) async fn all_final(&self, patience: Duration) -> Result<String> {
        let mut height = 0;
        for node in &self.nodes {
            height = height.max(node.status().await.with_context(|| node.name.clone())?.executed_height);
        }
        let deadline = Instant::now() + patience;
        for node in &self.nodes {
            loop {
                let final_height = node.status().await.with_context(|| node.name.clone())?.final_height;
                if final_height >= height {
                    break;
                }
                ensure!(Instant::now() < deadline, "{}: final up to {final_height}, not {height}", node.name);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(format!("{} nodes, height {height}", self.nodes.len()))
    }

    /// No node refused an operation with a 9xxx code.
    pub(crate) async fn no_alarms(&self) -> Result<String> {
        for node in &self.nodes {
            let n_alarms = node.status().await.with_context(|| node.name.clone())?.n_alarms;
            ensure!(n_alarms == 0, "{} has {n_alarms} alarms", node.name);
        }
        Ok(format!("{} nodes", self.nodes.len()))
    }

    /// The peak memory of every node's process, from the pid files that `devnet/up` keeps beside the network's folder.
    pub(crate) fn memory(&self) -> Result<String> {
        let run = self.folder.parent().context("the network's folder has no parent")?;
        let mut shown = Vec::new();
        for node in &self.nodes {
            let pid_file = run.join(format!("{}.pid", node.name));
            let pid =
                std::fs::read_to_string(&pid_file).with_context(|| format!("cannot read {}", pid_file.display()))?;
            let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim()))
                .with_context(|| format!("{} is not running", node.name))?;
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib: u64 = peak.and_then(|it| it.split_whitespace().next()?.parse().ok()).context("no VmHWM")?;
            ensure!(kib < 1 << 20, "{} used {} MiB", node.name, kib / 1024);
            shown.push(format!("{} {} MiB", node.name, kib / 1024));
        }
        Ok(shown.join(", "))
    }

    /// Prints where everything listens.
    pub(crate) fn print_addresses(&self) {
        println!("{:<12} {:<22} {:<22} folder", "node", "gRPC", "adapter gRPC");
        for node in &self.nodes {
            let adapter = node.adapter.as_ref().map_or("-", |door| door.address.as_str());
            println!("{:<12} {:<22} {adapter:<22} {}", node.name, node.operator.address, node.folder.display());
        }
    }

    /// Prints one line a node; true if all answer and their roots are equal.
    pub(crate) async fn print_status(&self) -> bool {
        println!(
            "{:<12} {:<10} {:>8} {:>8} {:>8} {:>6} {:>9} {:>10}  log root after that height",
            "node", "role", "decided", "executed", "final", "peers", "pending", "ops"
        );
        let mut statuses = Vec::new();
        for node in &self.nodes {
            statuses.push((node, node.status().await));
        }
        let common = statuses.iter().filter_map(|(_, it)| it.as_ref().ok()).map(|it| it.executed_height).min();
        let mut seen: Vec<Vec<u8>> = Vec::new();
        let mut all_answer = true;
        for (node, status) in statuses {
            match status {
                Ok(status) => {
                    let role = if status.role() == pb::NodeRole::Validator { "validator" } else { "follower" };
                    let roots = node.roots(common.unwrap_or_default()).await;
                    let root = roots.map_or_else(
                        |error| format!("{error:#}"),
                        |roots| {
                            seen.push(roots.log_root.clone());
                            format!("{}:{}", roots.height, hex::encode(roots.log_root.get(..8).unwrap_or_default()))
                        },
                    );
                    println!(
                        "{:<12} {role:<10} {:>8} {:>8} {:>8} {:>6} {:>9} {:>10}  {root}",
                        node.name,
                        status.decided_height,
                        status.executed_height,
                        status.final_height,
                        status.n_peers_connected,
                        status.mempool.unwrap_or_default().n_batches,
                        status.n_ops_total
                    );
                    if !status.role_reason.is_empty() {
                        println!("{:<12} {}", "", status.role_reason);
                    }
                }
                Err(error) => {
                    all_answer = false;
                    println!("{:<12} does not answer: {error:#}", node.name);
                }
            }
        }
        let equal = seen.windows(2).all(|pair| pair.first() == pair.last());
        println!(
            "{}",
            if !equal {
                "ROOTS DIFFER"
            } else if seen.is_empty() {
                "no node answers"
            } else {
                "roots are equal"
            }
        );
        all_answer && equal
    }

    /// Runs `anji inspect` on every node's folder: the full scan of all invariants. The nodes must be stopped.
    pub(crate) fn inspect(&self, anji: &Path) -> Vec<(String, Result<String>)> {
        let scan = |node: &Node| {
            let output = std::process::Command::new(anji)
                .arg("inspect")
                .arg("--config")
                .arg(node.folder.join("config.toml"))
                .arg("invariants")
                .output()
                .with_context(|| format!("cannot run {}", anji.display()))?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.success(), "{} {}", text.trim(), complaint.trim());
            Ok(text.lines().last().unwrap_or_default().to_owned())
        };
        self.nodes.iter().map(|node| (node.name.clone(), scan(node))).collect()
    }
}
