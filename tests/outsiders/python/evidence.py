"""A verifier of evidence bundles written from proto/FORMAT.md, section "Evidence bundles", alone."""

import base64
import json

from anji_format import (
    DONE, PARTICIPANT, REFUSED, WINDOW, WINDOW_PAYMENTS, BatchHeader, CommitCertificate, Entry, Hash, Header, Operation, Receipt,
    ScopedId, Validator, VoteBody, decode, derive, ensure, leaf, log_leaf, log_node, node, root_of_path, verify_signature,
)
from borsh_construct import Bytes, CStruct, Option, U8, U32, U64, Vec
from construct import Bytes as Fixed
from construct import Struct, Switch, this

MAGIC = b"ANJIEVD1"
KEY_NOT_VALID = 1010

Path = Vec(Hash)
EntryProof = CStruct("index" / U64, "entry" / Bytes, "path" / Path)
LastEntry = CStruct("entry" / Bytes, "path" / Path)
Cosignature = CStruct("validator" / Fixed(20), "time_s" / U64, "signature" / Fixed(64))
SetChange = CStruct("header" / Header, "certificate" / CommitCertificate, "next" / Vec(Validator))
Anchor = CStruct(
    "set_changes" / Vec(SetChange), "header" / Header, "certificate" / CommitCertificate, "cosignatures" / Vec(Cosignature),
    "block" / LastEntry,
)
ActiveProof = CStruct("chunk" / Fixed(256), "path" / Path)
LATEST, REPLACED = 1, 2
Standing = Struct("number" / U8, "value" / Switch(this.number, {LATEST: ActiveProof, REPLACED: EntryProof}))
OperationClaim = CStruct(
    "batch_header" / Fixed(86), "signature" / Fixed(64), "position" / U32, "op" / Bytes, "op_path" / Path, "receipt" / Bytes,
    "receipt_path" / Path, "batch" / EntryProof, "signer" / EntryProof, "signer_standing" / Standing, "made" / Option(EntryProof),
)
StateClaim = CStruct("entry" / EntryProof, "at" / Option(EntryProof), "standing" / Standing)
Member = CStruct("payment" / ScopedId, "index" / U64, "path" / Path)
AbsenceClaim = CStruct("payment" / ScopedId, "payments" / EntryProof, "before" / Option(Member), "after" / Option(Member))
OPERATION, STATE, ABSENCE = 1, 2, 3
Claim = Struct("number" / U8, "value" / Switch(this.number, {OPERATION: OperationClaim, STATE: StateClaim, ABSENCE: AbsenceClaim}))
Bundle = CStruct("anchor" / Anchor, "claims" / Vec(Claim))


def address_of(public_key):
    return derive("anji v1 validator address", bytes(public_key))[:20]


class Trust:
    """A trust file."""

    def __init__(self, text):
        file = json.loads(text)
        ensure(file["format"] == 1, "trust: another format")
        self.chain = bytes.fromhex(file["chain_id"])
        self.height = file["height"]
        validators = []
        for it in file["validators"]:
            key = bytes.fromhex(it["public_key"])
            validators.append({
                "address": address_of(key), "participant": it["participant"], "public_key": key, "power": it["power"],
            })
        self.validators = sorted(validators, key=lambda it: it["address"])


def set_hash(validators):
    return derive("anji v1 validator set", Vec(Validator).build(validators))


def check_quorum(signed, validators):
    """Every (address, message, signature) verifies, none twice, with more than two thirds of the power."""
    known = {bytes(it["address"]): it for it in validators}
    seen, power = set(), 0
    for address, message, signature in signed:
        address = bytes(address)
        ensure(address in known, "signed by no validator")
        ensure(address not in seen, "a validator signed twice")
        seen.add(address)
        ensure(verify_signature(known[address]["public_key"], message, signature), "a validator's signature does not verify")
        power += known[address]["power"]
    ensure(3 * power > 2 * sum(it["power"] for it in validators), "not more than two thirds of the power")


def check_decided(header, certificate, trust, validators, lowest):
    ensure(header.format == 1, "header: another format")
    ensure(header.chain_id == trust.chain, "header: another chain")
    ensure(header.height >= lowest, "header: height out of order")
    ensure(header.validators_hash == set_hash(validators), "header: other validators")
    value = derive("anji v1 block header", Header.build(header))
    ensure(certificate.value == value and certificate.height == header.height, "certificate: of another header")

    def vote(address):
        body = VoteBody.build({
            "chain_id": trust.chain, "kind": 2, "height": header.height, "round": certificate.round, "value": value,
            "validator": address,
        })
        return derive("anji v1 consensus vote", body)

    check_quorum([(it.validator, vote(it.validator), it.signature) for it in certificate.signatures], validators)


def cosigned_text(chain, log, time_s):
    root = base64.b64encode(log.root).decode()
    return f"cosignature/v1\ntime {time_s}\nanji.{chain.hex()[:32]}\n{log.size}\n{root}\n".encode()


class Log:
    """The log that everything is judged against."""

    def __init__(self, anchor, trust):
        validators, lowest = trust.validators, trust.height
        for change in anchor.set_changes:
            check_decided(change.header, change.certificate, trust, validators, lowest)
            ensure(change.header.next_validators_hash != change.header.validators_hash, "a change that changes nothing")
            ensure(change.header.next_validators_hash == set_hash(change.next), "another next set")
            addresses = [bytes(it.address) for it in change.next]
            ensure(addresses == sorted(set(addresses)), "the next set is not sorted")
            ensure(all(it.power > 0 and it.address == address_of(it.public_key) for it in change.next), "the next set is wrong")
            validators, lowest = change.next, change.header.height + 1
        header = anchor.header
        check_decided(header, anchor.certificate, trust, validators, lowest)
        self.chain, self.size, self.root = trust.chain, header.log.size, header.log.root
        signed = [(it.validator, cosigned_text(trust.chain, header.log, it.time_s), it.signature) for it in anchor.cosignatures]
        check_quorum(signed, validators)
        ensure(self.size > 0, "the log is empty")
        self.last = self.size - 1
        block = self.entry(self.last, anchor.block.entry, anchor.block.path, 3)
        ensure(block.height + 2 == header.height, "the last block entry is of another height")
        self.height, self.active_root = block.height, block.active_root

    def entry(self, index, data, path, number):
        root = root_of_path(log_leaf(data), index, self.size, path, log_node)
        ensure(root == self.root, f"entry {index} is not in the log")
        entry = decode(Entry, data)
        ensure(entry.number == number, f"entry {index} is of another kind")
        return entry.value

    def proof(self, proof, number):
        return self.entry(proof.index, proof.entry, proof.path, number)

    def entity(self, proof):
        entry = self.proof(proof, 1)
        ensure(entry.key.number == entry.state.number, "an entity under another kind of key")
        state, key = entry.state.value, entry.key.value
        own = {PARTICIPANT: "id", 4: "id", WINDOW: "id", 9: "participant", WINDOW_PAYMENTS: "window"}[entry.key.number]
        ensure(state[own] == key, "an entity under another key")
        return entry

    def in_force(self, index, entry, moment, standing):
        ensure(index < moment, "a version from after its time")
        if standing.number == LATEST:
            self.active(index, standing.value)
            return
        after = self.entity(standing.value)
        ensure(standing.value.index > moment, "the next version came before that time")
        follows = after.key == entry.key and after.version == entry.version + 1 and after.prev_index == index
        ensure(follows, "not the next version")

    def active(self, index, proof):
        chunks, depth = max(1, -(-self.last // 2048)), 0
        while 1 << depth < chunks:
            depth += 1
        ensure(len(proof.path) == depth, "active proof: wrong depth")
        place, bits = index // 2048, int.from_bytes(proof.chunk, "little")
        ensure(bits >> max(0, self.last - place * 2048) == 0, "active proof: bits past the end")
        found = derive("anji v1 active chunk", proof.chunk)
        for level, sibling in enumerate(proof.path):
            pair = sibling + found if place >> level & 1 else found + sibling
            found = derive("anji v1 active node", pair)
        ensure(found == self.active_root, "active proof: another root")
        ensure(bits >> index % 2048 & 1, f"entry {index} is not the latest")

    def operation(self, claim):
        batch = self.proof(claim.batch, 2)
        header = decode(BatchHeader, claim.batch_header)
        ensure(header.format == 1 and header.chain == self.chain, "batch header: another format or chain")
        for field in ("participant", "expires_at", "n_ops", "ops_root"):
            ensure(header[field] == batch[field], f"batch header: another {field}")
        root = root_of_path(leaf(claim.op), claim.position, header.n_ops, claim.op_path, node)
        ensure(root == header.ops_root, "the operation is not in the batch")
        op = decode(Operation, claim.op)
        root = root_of_path(leaf(claim.receipt), claim.position, header.n_ops, claim.receipt_path, node)
        ensure(root == batch.receipts_root, "the receipt is not in the batch entry")
        receipt = decode(Receipt, claim.receipt)
        ensure(receipt.op_id == op.op_id, "the receipt of another operation")
        signer = self.entity(claim.signer)
        ensure(signer.key.number == PARTICIPANT and signer.key.value == header.participant, "another signer")
        self.in_force(claim.signer.index, signer, claim.batch.index, claim.signer_standing)
        keys = [it for it in signer.state.value["keys"] if it.key == header.key]
        ensure(keys and keys[0].suite == 1, "the signer has no such key")
        key = keys[0]
        if not (receipt.result.number == REFUSED and receipt.result.value == KEY_NOT_VALID):
            ensure(key.valid_from <= receipt.time < key.valid_until, "the key was not valid")
            ensure(key.revoked_at is None or receipt.time < key.revoked_at, "the key was revoked")
        digest = derive("anji v1 batch header", claim.batch_header)
        ensure(verify_signature(key.public_key, digest, claim.signature), "the participant's signature does not verify")
        if claim.made is not None:
            made = self.entity(claim.made)
            ensure(claim.made.index < claim.batch.index, "made after its batch")
            ensure(receipt.result.number == DONE and receipt.result.value == made.key, "it made something else")
            own = made.cause.number == 1 and made.cause.value.participant == header.participant
            ensure(own and made.cause.value.op_id == op.op_id, "another operation made it")
        return ("operation", header.participant, op, receipt)

    def state(self, claim):
        entry = self.entity(claim.entry)
        moment = self.last if claim.at is None else claim.at.index
        height = self.height if claim.at is None else self.proof(claim.at, 3).height
        self.in_force(claim.entry.index, entry, moment, claim.standing)
        if entry.state.number == WINDOW and entry.state.value.status != 1:
            ensure(sum(it.net for it in entry.state.value.nets) == 0, "the nets do not add up to zero")
        return ("state", height, entry)

    def absence(self, claim):
        entry = self.entity(claim.payments)
        ensure(entry.state.number == WINDOW_PAYMENTS, "no list of a window's payments")
        window = entry.state.value

        def sort_bytes(payment):
            return payment.participant.to_bytes(4, "big") + payment.op_id.to_bytes(16, "big")

        for member in (claim.before, claim.after):
            if member is not None:
                root = root_of_path(leaf(sort_bytes(member.payment)), member.index, window.n_payments, member.path, node)
                ensure(root == window.root, "a payment that is not in the window")
        below = -1 if claim.before is None else claim.before.index
        above = window.n_payments if claim.after is None else claim.after.index
        ensure(below + 1 == above, "the two payments are not neighbours")
        own = sort_bytes(claim.payment)
        ensure(claim.before is None or sort_bytes(claim.before.payment) < own, "not after the one before")
        ensure(claim.after is None or own < sort_bytes(claim.after.payment), "not before the one after")
        return ("absence", window.window, claim.payment)


def verify(data, trust):
    """What a bundle proves; raises Wrong."""
    ensure(len(data) <= 8 << 20 and data[:8] == MAGIC and len(data) >= 40, "not a bundle")
    ensure(data[-32:] == derive("anji v1 evidence bundle", data[:-32]), "the seal does not match")
    bundle = decode(Bundle, data[8:-32])
    ensure(1 <= len(bundle.claims) <= 16, "no claims, or too many")
    log = Log(bundle.anchor, trust)
    judge = {OPERATION: log.operation, STATE: log.state, ABSENCE: log.absence}
    return [judge[claim.number](claim.value) for claim in bundle.claims]
