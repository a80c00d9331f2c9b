"""What proto/FORMAT.md says, written from that page alone: bytes (borsh), hashes, signatures, trees.

Nothing here comes from the node's own code; it is how a stranger would begin.
"""

import hashlib

import blake3
from borsh_construct import Bool, Bytes, CStruct, I128, Option, String, U8, U16, U32, U64, U128, Vec
from construct import Bytes as Fixed
from construct import Struct, Switch, this
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

Hash = Fixed(32)
Short = Fixed(16)


def enum(variants):
    """An enum with the numbers of the page."""
    return Struct("number" / U8, "value" / Switch(this.number, variants))


ScopedId = CStruct("participant" / U32, "op_id" / U128)
RiskAssertion = CStruct("model_kind" / U8, "score" / U16, "as_of" / U64, "valid_until" / U64, "evidence_hash" / Hash)
Guarantee = CStruct("amount" / U64, "until" / U64)
Disclosure = CStruct(
    "lender" / String, "service_provider" / U32, "annual_cost_bps" / U32, "schedule" / U32, "page_hash" / Hash, "shown_ms" / U32
)
Consent = CStruct("given_at" / U64, "until" / U64, "record_hash" / Hash)
Order = CStruct("merchant" / Short, "category" / U16, "order_hash" / Hash, "trace" / Short, "envelope_hash" / Hash)
Licence = CStruct("number" / String, "scenes" / U16, "expires_at" / U64)
Key = CStruct(
    "key" / U32, "suite" / U8, "public_key" / Bytes, "valid_from" / U64, "valid_until" / U64, "revoked_at" / Option(U64)
)
Balance = CStruct("debits_pending" / U128, "debits_posted" / U128, "credits_pending" / U128, "credits_posted" / U128)

# Section 3 and 4: batches and the operations this client makes.
BatchHeader = CStruct(
    "format" / U16, "chain" / Hash, "participant" / U32, "key" / U32, "expires_at" / U64, "n_ops" / U32, "ops_root" / Hash
)
MandatePropose = CStruct(
    "issuer" / U32, "payer" / Short, "ceiling" / U64, "payment_cap" / U64, "scenes" / U16, "tier" / U8, "expires_at" / U64,
    "request_commitment" / Hash,
)
MandateActivate = CStruct(
    "mandate" / ScopedId, "payer_at_issuer" / Short, "ceiling" / U64, "payment_cap" / U64, "scenes" / U16,
    "guarantee" / Option(Guarantee), "assertion" / Option(RiskAssertion), "disclosure" / Disclosure, "consent" / Consent,
)
Pay = CStruct(
    "mandate" / ScopedId, "amount" / U64, "currency" / U16, "scene" / U8, "order" / Order, "schedule" / U32,
    "guarantee_version" / U32, "assertion_version" / U32, "consent_version" / U32, "assertion" / RiskAssertion,
)
MANDATE_PROPOSE, MANDATE_ACTIVATE, PAY = 16, 17, 32
Operation = CStruct(
    "op_id" / U128, "linked" / Bool, "body" / enum({MANDATE_PROPOSE: MandatePropose, MANDATE_ACTIVATE: MandateActivate, PAY: Pay})
)

# Section 6: the log.
EntityKey = enum({
    1: U32, 2: ScopedId, 3: ScopedId, 4: ScopedId, 5: ScopedId, 6: ScopedId, 7: U64,
    8: CStruct("participant" / U32, "window" / U64), 9: U32, 10: CStruct(), 11: U32, 12: U64,
})
Participant = CStruct(
    "id" / U32, "role" / U8, "name" / String, "legal_name" / String, "active" / Bool, "licence" / Licence, "keys" / Vec(Key),
    "encryption" / Option(CStruct("suite" / U8, "public_key" / Bytes)),
)
Payment = CStruct(
    "id" / ScopedId, "status" / U8, "mandate" / ScopedId, "issuer" / U32, "amount" / U64, "currency" / U16, "scene" / U8,
    "order" / Order, "schedule" / U32, "instalments" / U8, "requested_at" / U64, "answer_by" / U64, "capture_by" / U64,
    "captured_at" / U64, "held" / U64, "captured" / U64, "released" / U64, "refund_reserved" / U64, "refunded" / U64,
    "charged_back" / U64, "n_refunds" / U16, "captures" / Vec(CStruct("window" / U64, "amount" / U64)),
    "fees" / Vec(CStruct("payee" / U32, "posted" / U64, "returned" / U64)), "acquirer_assertion" / RiskAssertion,
    "issuer_assertion" / Option(RiskAssertion), "disclosure" / Option(Disclosure), "reason" / U16,
)
Window = CStruct(
    "id" / U64, "status" / U8, "opened_at" / U64, "closes_at" / U64, "closed_at" / U64,
    "nets" / Vec(CStruct("participant" / U32, "net" / I128)), "instruction_hash" / Hash,
)
Position = CStruct(
    "participant" / U32, "cap" / U64, "liquidity" / Balance, "holds" / U64, "unsettled_debits" / U128, "unsettled_credits" / U128
)
WindowPayments = CStruct("window" / U64, "n_payments" / U64, "root" / Hash)
PARTICIPANT, PAYMENT, WINDOW, POSITION, WINDOW_PAYMENTS = 1, 4, 7, 9, 12
Entity = enum({
    PARTICIPANT: Participant, PAYMENT: Payment, WINDOW: Window, POSITION: Position, WINDOW_PAYMENTS: WindowPayments
})
Cause = enum({0: CStruct(), 1: ScopedId, 2: CStruct(), 3: CStruct()})
EntityEntry = CStruct("key" / EntityKey, "version" / U64, "prev_index" / U64, "state" / Entity, "cause" / Cause)
BatchEntry = CStruct(
    "batch_seq" / U64, "batch_hash" / Hash, "participant" / U32, "expires_at" / U64, "n_ops" / U32, "ops_root" / Hash,
    "receipts_root" / Hash,
)
BlockEntry = CStruct(
    "height" / U64, "header_hash" / Hash, "time" / U64, "active_root" / Hash, "n_batches_total" / U64, "n_ops_total" / U64
)
Entry = enum({1: EntityEntry, 2: BatchEntry, 3: BlockEntry})
DONE, REFUSED = 0, 1
Receipt = CStruct("op_id" / U128, "result" / enum({DONE: EntityKey, REFUSED: U16}), "time" / U64, "height" / U64)

# Section 8: headers and certificates.
Header = CStruct(
    "format" / U16, "chain_id" / Hash, "height" / U64, "round" / U32, "time_ms" / U64, "parent_hash" / Hash,
    "proposer" / Fixed(20), "n_batches" / U32, "batches_root" / Hash, "log" / CStruct("size" / U64, "root" / Hash),
    "validators_hash" / Hash, "next_validators_hash" / Hash, "rules" / U32,
)
Validator = CStruct("address" / Fixed(20), "participant" / U32, "public_key" / Hash, "power" / U64)
VoteBody = CStruct(
    "chain_id" / Hash, "kind" / U8, "height" / U64, "round" / U32, "value" / Option(Hash), "validator" / Fixed(20)
)
CommitCertificate = CStruct(
    "height" / U64, "round" / U32, "value" / Hash, "signatures" / Vec(CStruct("validator" / Fixed(20), "signature" / Fixed(64)))
)


class Wrong(Exception):
    """Something does not hold."""


def ensure(holds, what):
    if not holds:
        raise Wrong(what)


def decode(kind, data):
    """A value that fills its bytes, in its only encoding."""
    try:
        value = kind.parse(data)
        ensure(kind.build(value) == data, "bytes left over, or not in their only form")
    except Wrong:
        raise
    except Exception as error:
        raise Wrong(f"cannot be decoded: {error}") from error
    return value


# Section 2: hashes, trees, signatures.
def derive(context, data):
    return blake3.blake3(data, derive_key_context=context).digest()


def leaf(data):
    return blake3.blake3(b"\0" + data).digest()


def node(left, right):
    return blake3.blake3(b"\1" + left + right).digest()


def log_leaf(data):
    return hashlib.sha256(b"\0" + data).digest()


def log_node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def merkle_root(leaves):
    if not leaves:
        return blake3.blake3(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node(merkle_root(leaves[:split]), merkle_root(leaves[split:]))


def root_of_path(hash_, index, size, path, join):
    """RFC 9162, section 2.1.3.2."""
    ensure(index < size, "no such place in the tree")
    fn, sn = index, size - 1
    for sibling in path:
        ensure(sn > 0, "the path is too long")
        if fn & 1 or fn == sn:
            hash_ = join(sibling, hash_)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            hash_ = join(hash_, sibling)
        fn >>= 1
        sn >>= 1
    ensure(sn == 0, "the path is too short")
    return hash_


def verify_signature(public_key, message, signature):
    try:
        VerifyKey(bytes(public_key)).verify(bytes(message), bytes(signature))
        return True
    except (BadSignatureError, ValueError):
        return False


def sign_batch(signing_key, chain, participant, expires_at, operations):
    """Section 3: the exact bytes of a batch."""
    encoded = [Operation.build(operation) for operation in operations]
    header = BatchHeader.build({
        "format": 1, "chain": chain, "participant": participant, "key": 1, "expires_at": expires_at, "n_ops": len(encoded),
        "ops_root": merkle_root([leaf(it) for it in encoded]),
    })
    body = b"".join(len(it).to_bytes(4, "little") + it for it in encoded)
    return header + body + signing_key.sign(derive("anji v1 batch header", header)).signature
