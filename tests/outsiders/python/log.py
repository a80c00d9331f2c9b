"""Reads the log over HTTP with a tlog library that knows nothing of this project (PyPI aics-tlog): checkpoints, tiles, proofs.

    log.py SETTINGS.json
"""

import json
import pathlib
import sys

from aics_tlog import (
    HttpTileReader, VerifiedTileReader, audit_tiles, consistency_proof_from_tiles, cosignature_vkey, inclusion_proof_from_tiles,
    parse_note, verify_checkpoint, verify_consistency, verify_leaf_inclusion,
)
from aics_tlog.note import vkey_from_ed25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def ensure(holds, what):
    if not holds:
        sys.exit(f"does not hold: {what}")


def run(settings):
    trust = json.loads(pathlib.Path(settings["trust"]).read_text())
    origin = f"anji.{trust['chain_id'][:32]}"
    keys = {it["participant"]: Ed25519PublicKey.from_public_bytes(bytes.fromhex(it["public_key"])) for it in trust["validators"]}
    cosigners = [cosignature_vkey(f"{origin}.v{participant}", key) for participant, key in keys.items()]
    reader = HttpTileReader([f"http://{settings['log_http']}/"])
    note = parse_note(reader.read_checkpoint())
    # Each validator signs as the log; more than two thirds also cosign with a time.
    results = [verify_checkpoint(note, vkey_from_ed25519(origin, key), cosigners, quorum=3) for key in keys.values()]
    good = [it for it in results if it.ok]
    ensure(len(good) >= 3, f"the checkpoint: {[it.error for it in results]}")
    size, root = good[0].size, good[0].root
    ensure(good[0].origin == origin and good[0].cosignature_count >= 3, "origin or cosignatures")

    verified = VerifiedTileReader(reader, size, root)
    for index in sorted({0, 1, size // 2, size - 2, size - 1}):
        proof = inclusion_proof_from_tiles(verified, index, size)
        entry = verified.entry(index)
        ensure(verify_leaf_inclusion(entry, index, size, proof, root), f"entry {index}")
        ensure(not verify_leaf_inclusion(entry + b"\0", index, size, proof, root), f"another entry {index}")
    # The log goes on from the one in a bundle that was taken before.
    old_size, old_root = settings["older"]["size"], bytes.fromhex(settings["older"]["root"])
    ensure(0 < old_size <= size, "the older log is longer")
    proof = consistency_proof_from_tiles(verified, old_size, size)
    ensure(verify_consistency(old_size, size, old_root, root, proof), "the log does not go on from the older one")
    flipped = bytes([old_root[0] ^ 1]) + old_root[1:]
    ensure(not verify_consistency(old_size, size, flipped, root, proof), "a fork passes")
    # Raises unless every tile and every entry hashes up to the root.
    report = audit_tiles(reader, size, root)
    print(f"log: {size} entries, {good[0].cosignature_count} cosigners, {report.tiles} tiles and {report.bundles} bundles hash up")


if __name__ == "__main__":
    run(json.loads(pathlib.Path(sys.argv[1]).read_text()))
