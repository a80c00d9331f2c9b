# Shared by the scripts of devnet/, tests/ and .ci/: where things are, how they are built, how processes are started, found and
# ended. Sourced, never run. A process is only ever signalled by its own recorded pid, after /proc shows that it is still ours.
# shellcheck shell=bash

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/anji"
# The build folder outlives a checkout: RocksDB alone takes a quarter of an hour.
export CARGO_TARGET_DIR="${ANJI_TARGET_DIR:-$CACHE/target}"
BIN="$CARGO_TARGET_DIR/release"
RUN="${ANJI_RUN_DIR:-$ROOT/devnet/.run}"
NET="$RUN/net"
export NETWORK_FILE="$ROOT/devnet/networks/four.toml"

say() { printf '%s\n' "$*"; }
die() {
  printf 'error: %s\n' "$1" >&2
  [[ $# -lt 2 ]] || printf '  way out: %s\n' "$2" >&2
  exit 1
}

# ---- building -------------------------------------------------------------------------------------------------------

# Installs the Debian packages among "$@" that are missing.
need_packages() {
  local missing=() package
  command -v dpkg-query >/dev/null || return 0
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  say "installing: ${missing[*]}"
  local sudo=()
  if [[ $EUID -ne 0 ]]; then
    command -v sudo >/dev/null || die "these packages are missing: ${missing[*]}" "install them as root, then run this again"
    sudo=(sudo)
  fi
  export DEBIAN_FRONTEND=noninteractive
  "${sudo[@]}" apt-get update -q >/dev/null </dev/null || die "apt-get update failed" "check the package sources"
  "${sudo[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null </dev/null \
    || die "could not install: ${missing[*]}" "install them by hand, then run this again"
}

# What a build needs: a C++ compiler for RocksDB, libclang for its bindings, Rust.
need_build_tools() {
  need_packages g++ make libclang-dev
  if ! command -v cargo >/dev/null && [[ -f "$HOME/.cargo/env" ]]; then
    # shellcheck source=/dev/null
    source "$HOME/.cargo/env"
  fi
  command -v cargo >/dev/null || die "Rust is not installed" "install it with rustup (https://rustup.rs), then run this again"
  local want have
  want="$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")"
  have="$(rustc --version | cut -d' ' -f2)"
  [[ "$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -n1)" == "$want" ]] \
    || die "Rust $have is too old; $want or later is needed" "rustup update stable"
}

# The build folder is shared by all checkouts, and cargo judges by the times of files alone: what another checkout built would pass for
# this one's if its sources are older. So the folder notes whose it is, and another one's sources become new.
own_build_folder() {
  local note="$CARGO_TARGET_DIR/checkout"
  mkdir -p "$CARGO_TARGET_DIR"
  if [[ ! -f "$note" || "$(<"$note")" != "$1" ]]; then
    find "$1" -name .run -prune -o -type f \( -name '*.rs' -o -name '*.proto' \) -exec touch {} +
    printf '%s\n' "$1" >"$note"
  fi
}

# RocksDB is compiled once per version, compiler and flags, and its archive kept. From then on every build, in whatever
# folder, links the kept archive: the variables below are set in every build, so that no two builds disagree.
anji_rocksdb() {
  local key folder
  key="$(
    cd "$ROOT" || exit 1
    {
      grep -A1 '^name = "librocksdb-sys"' Cargo.lock
      grep '^rocksdb =' Cargo.toml
      grep rustflags .cargo/config.toml
      g++ -dumpfullversion
      uname -m
    } | sha256sum | cut -c1-16
  )"
  folder="$CACHE/rocksdb-$key"
  if [[ ! -f "$folder/librocksdb.a" ]]; then
    local archive
    say "compiling RocksDB once (a quarter of an hour on two cores); it is kept in $folder"
    (cd "$ROOT" && cargo build --release --locked -p librocksdb-sys) || die "RocksDB does not compile" "see the message above"
    archive="$(find "$CARGO_TARGET_DIR/release/build" -path '*/librocksdb-sys-*/out/librocksdb.a' -printf '%T@ %p\n' \
      | sort -n | tail -n1 | cut -d' ' -f2-)"
    [[ -n "$archive" ]] || die "the compiled librocksdb.a is not where it was expected" "remove $CARGO_TARGET_DIR and build again"
    mkdir -p "$folder"
    cp "$archive" "$folder/librocksdb.a.$$"
    mv "$folder/librocksdb.a.$$" "$folder/librocksdb.a"
  fi
  export ROCKSDB_LIB_DIR="$folder" ROCKSDB_STATIC=1
  own_build_folder "$ROOT"
}

# Builds what runs. Arguments go to cargo.
anji_build() {
  need_build_tools
  anji_rocksdb
  (cd "$ROOT" && cargo build --release --locked "$@") || die "the build failed" "see the compiler's message above"
}

# ---- processes ------------------------------------------------------------------------------------------------------

pid_file() { printf '%s/%s.pid' "$RUN" "$1"; }
log_file() { printf '%s/%s.log' "$RUN" "$1"; }

# Prints the pid of process NAME if it runs and is ours: the same executable, started for this run folder.
pid_of() {
  local file pid exe
  file="$(pid_file "$1")"
  [[ -f "$file" ]] || return 1
  pid="$(<"$file")"
  [[ "$pid" =~ ^[0-9]+$ ]] || return 1
  exe="$(readlink "/proc/$pid/exe" 2>/dev/null)" || return 1
  [[ "${exe% (deleted)}" == */anji ]] || return 1
  tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$NET/" || return 1
  # A zombie has nothing left to stop.
  [[ "$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -c1)" != Z ]] || return 1
  printf '%s' "$pid"
}

is_paused() {
  local pid
  pid="$(pid_of "$1")" && [[ "$(sed 's/.*) //' "/proc/$pid/stat" | cut -c1)" == T ]]
}

# start_process NAME COMMAND...: in its own session, so that a Ctrl-C in the terminal leaves it running.
start_process() {
  local name="$1"
  shift
  if pid_of "$name" >/dev/null; then die "$name is already running (pid $(pid_of "$name"))"; fi
  mkdir -p "$RUN"
  setsid "$@" </dev/null >>"$(log_file "$name")" 2>&1 &
  printf '%s\n' "$!" >"$(pid_file "$name")"
  disown
}

# Ends process NAME: asks, waits up to 15 s, then insists.
stop_process() {
  local name="$1" pid tries
  if pid="$(pid_of "$name")"; then
    kill -TERM "$pid" 2>/dev/null || true
    kill -CONT "$pid" 2>/dev/null || true
    for ((tries = 0; tries < 150; tries++)); do
      pid_of "$name" >/dev/null || break
      sleep 0.1
    done
    if pid="$(pid_of "$name")"; then
      say "$name does not stop; killing it"
      kill -KILL "$pid" 2>/dev/null || true
      sleep 0.2
    fi
  fi
  rm -f "$(pid_file "$name")"
}

# ---- the network ----------------------------------------------------------------------------------------------------

# Every participant's folder has config.toml (its node) or adapter.toml (its adapter) or both.
node_names() { find "$NET" -mindepth 2 -maxdepth 2 -name config.toml -printf '%h\n' 2>/dev/null | xargs -rn1 basename | sort; }
adapter_names() { find "$NET" -mindepth 2 -maxdepth 2 -name adapter.toml -printf '%h\n' 2>/dev/null | xargs -rn1 basename | sort; }
witness_names() { find "$NET" -mindepth 2 -maxdepth 2 -name witness.toml -printf '%h\n' 2>/dev/null | xargs -rn1 basename | sort; }
network_exists() { [[ -n "$(node_names)" ]]; }
any_running() {
  local name
  for name in $(node_names); do if pid_of "$name" >/dev/null; then return 0; fi; done
  for name in $(adapter_names); do if pid_of "$name-adapter" >/dev/null; then return 0; fi; done
  for name in $(witness_names); do if pid_of "$name" >/dev/null; then return 0; fi; done
  return 1
}
need_node() {
  network_exists || die "there is no network in $NET" "start one with devnet/up"
  local name
  for name in $(node_names); do [[ "$name" == "$1" ]] && return 0; done
  die "unknown node \`$1\`" "the nodes are: $(node_names | tr '\n' ' ')"
}

start_node() { start_process "$1" "$BIN/anji" node --config "$NET/$1/config.toml"; }
start_witness() { start_process "$1" "$BIN/anji" witness run --config "$NET/$1/witness.toml"; }
start_adapter() { start_process "$1-adapter" "$BIN/anji" adapter --config "$NET/$1/adapter.toml"; }
