//! A network of processes: made by `anji init` from the devnet's network file on free ports, started, broken and looked at.

use crate::ledger::Ledger;
use anji_proto::v1 as pb;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The validators of `devnet/networks/four.toml`.
pub const VALIDATORS: [&str; 4] = ["acquirer", "issuer", "provider", "clearing"];
/// All its nodes: the last one is the observer.
pub const ALL: [&str; 5] = ["acquirer", "issuer", "provider", "clearing", "regulator"];
/// Lowest port of the network file.
const BASE_PORT: u16 = 27_000;
/// Ports a network takes.
const PORTS: u16 = 60;

/// One network at a time: they would only fight for the same two cores.
static TURN: Mutex<()> = Mutex::new(());

/// The checkout.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent").to_owned()
}

/// The node's program: `ANJI_BIN`, or the one built beside this test.
#[must_use]
pub fn anji() -> PathBuf {
    if let Some(path) = std::env::var_os("ANJI_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a running test has a path");
    let folder = test.parent().and_then(Path::parent).expect("target/release/deps/test");
    let program = folder.join("anji");
    assert!(program.exists(), "{} is not built; run tests/run, or `cargo build --release -p anji`", program.display());
    program
}

/// A network in a folder of its own.
pub struct Net {
    /// Everything of this network.
    pub dir: PathBuf,
    name: String,
    processes: BTreeMap<String, Child>,
    ledger: Ledger,
    runtime: tokio::runtime::Runtime,
    _ports: TcpListener,
    _turn: MutexGuard<'static, ()>,
}

/// A free range of ports: its offset, and a listener that keeps other tests out of it.
fn free_ports() -> (u16, TcpListener) {
    // Below the range the system takes ports for outgoing connections from.
    let begin = u16::try_from(std::process::id() % 75).unwrap_or(0);
    for step in 0..75 {
        let offset = ((begin + step) % 75) * PORTS + 1_000;
        // The first port of the range is nobody's in the network file: holding it marks the range as taken.
        let Ok(guard) = TcpListener::bind(("127.0.0.1", BASE_PORT + offset)) else { continue };
        if (1..PORTS).all(|port| TcpListener::bind(("127.0.0.1", BASE_PORT + offset + port)).is_ok()) {
            return (offset, guard);
        }
    }
    panic!("no range of {PORTS} free ports");
}

impl Net {
    /// Makes a network of four validators and an observer; nothing runs yet.
    #[must_use]
    pub fn four(name: &str) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (offset, ports) = free_ports();
        let dir = std::env::temp_dir().join(format!("anji-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let out = Command::new(anji())
            .arg("init")
            .arg("--network")
            .arg(repository().join("devnet/networks/four.toml"))
            .arg("--out")
            .arg(&dir)
            .arg("--port-offset")
            .arg(offset.to_string())
            .output()
            .expect("anji init runs");
        assert!(out.status.success(), "anji init: {}", String::from_utf8_lossy(&out.stderr));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        // Channels are bound to the runtime they are made in.
        let ledger = runtime.block_on(async { Ledger::load(&dir) });
        let processes = BTreeMap::new();
        Self { dir, name: name.to_owned(), processes, ledger, runtime, _ports: ports, _turn: turn }
    }

    /// Starts every node and waits until each sees all its peers.
    #[must_use]
    pub fn start(mut self) -> Self {
        for node in ALL {
            self.start_node(node);
        }
        self.wait_connected(&ALL);
        self
    }

    /// Waits until these nodes answer and see each other.
    pub fn wait_connected(&self, nodes: &[&str]) {
        let wanted = u32::try_from(nodes.len()).expect("few") - 1;
        for node in nodes {
            self.wait_for(&format!("{node} sees {wanted} peers"), Duration::from_secs(40), || {
                self.status(node).is_some_and(|status| status.n_peers_connected >= wanted)
            });
        }
    }

    /// A node's folder.
    #[must_use]
    pub fn folder(&self, node: &str) -> PathBuf {
        self.dir.join(node)
    }

    /// A node's data folder.
    #[must_use]
    pub fn data(&self, node: &str) -> PathBuf {
        self.folder(node).join("data")
    }

    fn log_file(&self, node: &str) -> PathBuf {
        self.dir.join(format!("{node}.log"))
    }

    /// What a node has logged.
    #[must_use]
    pub fn log(&self, node: &str) -> String {
        std::fs::read_to_string(self.log_file(node)).unwrap_or_default()
    }

    /// The command that starts a node.
    #[must_use]
    pub fn command(&self, node: &str) -> Command {
        let mut command = Command::new(anji());
        command.arg("node").arg("--config").arg(self.folder(node).join("config.toml"));
        command
    }

    /// Starts a node; does not wait.
    pub fn start_node(&mut self, node: &str) {
        let command = self.command(node);
        self.start_as(node, command);
    }

    /// Starts a node with a command of the test's own.
    pub fn start_as(&mut self, node: &str, mut command: Command) {
        assert!(!self.processes.contains_key(node), "{node} is already running");
        let log: File = OpenOptions::new().create(true).append(true).open(self.log_file(node)).expect("a log file");
        let errors = log.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().expect("the node starts");
        self.processes.insert(node.to_owned(), child);
    }

    /// Ends a node with SIGKILL.
    pub fn kill(&mut self, node: &str) {
        let mut child = self.processes.remove(node).unwrap_or_else(|| panic!("{node} is not running"));
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    fn signal(&self, node: &str, signal: &str) {
        let child = self.processes.get(node).unwrap_or_else(|| panic!("{node} is not running"));
        let sent = Command::new("kill").arg(signal).arg(child.id().to_string()).status().expect("kill runs");
        assert!(sent.success(), "kill {signal} {node}");
    }

    /// Freezes a node.
    pub fn pause(&self, node: &str) {
        self.signal(node, "-STOP");
    }

    /// Lets a frozen node go on.
    pub fn resume(&self, node: &str) {
        self.signal(node, "-CONT");
    }

    /// Asks a node to stop and waits for it.
    pub fn stop(&mut self, node: &str) -> ExitStatus {
        self.signal(node, "-TERM");
        self.wait_exit(node, Duration::from_secs(20))
    }

    /// Waits until a node has ended by itself.
    pub fn wait_exit(&mut self, node: &str, patience: Duration) -> ExitStatus {
        let mut child = self.processes.remove(node).unwrap_or_else(|| panic!("{node} is not running"));
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                return status;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{node} did not end within {} s\n{}", patience.as_secs(), tail(&self.log(node)));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether a node's process runs.
    pub fn is_running(&mut self, node: &str) -> bool {
        self.processes.get_mut(node).is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Fails if a running node has ended by itself.
    pub fn assert_all_alive(&mut self) {
        for (node, child) in &mut self.processes {
            if let Ok(Some(status)) = child.try_wait() {
                let log = std::fs::read_to_string(self.dir.join(format!("{node}.log"))).unwrap_or_default();
                panic!("{node} ended by itself ({status}, signal {:?}):\n{}", status.signal(), tail(&log));
            }
        }
    }

    /// Kills a node if it runs, deletes its data and starts it again.
    pub fn wipe(&mut self, node: &str) {
        if self.processes.contains_key(node) {
            self.kill(node);
        }
        std::fs::remove_dir_all(self.data(node)).expect("the data folder can be deleted");
        self.start_node(node);
    }

    /// Runs something asynchronous.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Starts something asynchronous beside the test.
    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.spawn(future)
    }

    /// Who may sign and submit on this network.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// How a node stands; `None` if it does not answer.
    #[must_use]
    pub fn status(&self, node: &str) -> Option<pb::GetStatusResponse> {
        self.run(self.ledger.status(node))
    }

    /// The height a node has executed; 0 if it does not answer.
    #[must_use]
    pub fn height(&self, node: &str) -> u64 {
        self.status(node).map_or(0, |status| status.executed_height)
    }

    /// Waits for a condition.
    pub fn wait_for(&self, what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + patience;
        while !is_so() {
            assert!(Instant::now() < deadline, "{}: not within {} s: {what}", self.name, patience.as_secs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until these nodes have executed `height`.
    pub fn wait_height(&self, nodes: &[&str], height: u64, patience: Duration) {
        for node in nodes {
            self.wait_for(&format!("{node} executes height {height}"), patience, || self.height(node) >= height);
        }
    }

    /// Waits until these nodes have caught up with the furthest of them, then compares all their roots at that height.
    pub fn assert_equal_roots(&self, nodes: &[&str]) -> u64 {
        let height = nodes.iter().map(|node| self.height(node)).max().expect("at least one node");
        self.wait_height(nodes, height, Duration::from_secs(60));
        let roots: Vec<_> = nodes
            .iter()
            .map(|node| {
                let roots = self.run(self.ledger.roots(node, height));
                roots.unwrap_or_else(|| panic!("{node} has no roots of height {height}"))
            })
            .collect();
        for (node, root) in nodes.iter().zip(&roots) {
            assert_eq!(Some(root), roots.first(), "{node} has another root at height {height}");
        }
        height
    }

    /// The full check of a stopped node's data folder; panics unless everything holds.
    pub fn assert_invariants(&self, node: &str) {
        let config = self.folder(node).join("config.toml");
        let scan = Command::new(anji()).arg("inspect").arg("--config").arg(config).arg("invariants").output();
        let scan = scan.expect("anji runs");
        let said = [scan.stdout, scan.stderr].concat();
        assert!(scan.status.success(), "{node}: {}", String::from_utf8_lossy(&said));
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

impl Drop for Net {
    fn drop(&mut self) {
        for child in self.processes.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for node in ALL {
                eprintln!("---- {node}\n{}", tail(&self.log(node)));
            }
            eprintln!("{}: everything is kept in {}", self.name, self.dir.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}
