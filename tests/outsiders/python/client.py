"""A wallet in another language: signs batches byte by byte, submits them over gRPC, checks receipts and evidence.

    client.py SETTINGS.json

The settings name the proto folder, the trust file, and for `acquirer` and `issuer` their node's address, token, participant and
signing seed. Exits 0, or says what is wrong.
"""

import importlib
import json
import pathlib
import secrets
import sys
import tempfile
import time

import grpc
from grpc_tools import protoc
from nacl.signing import SigningKey

import anji_format as f
import evidence


def stubs(folder):
    """Compiles the published proto files."""
    out = tempfile.mkdtemp()
    names = ["ledger", "wallet", "evidence"]
    files = [f"anji/v1/{name}.proto" for name in names]
    f.ensure(protoc.main(["protoc", f"-I{folder}", f"--python_out={out}", f"--grpc_python_out={out}", *files]) == 0, "protoc failed")
    sys.path.insert(0, out)
    load = importlib.import_module
    return load("anji.v1.wallet_pb2"), load("anji.v1.wallet_pb2_grpc"), load("anji.v1.evidence_pb2"), load("anji.v1.evidence_pb2_grpc")


def now_ms():
    return time.time_ns() // 1_000_000


def op_id():
    return now_ms() << 80 | secrets.randbits(80)


class Party:
    """A participant with its node."""

    def __init__(self, settings, chain, modules):
        self.wallet, wallet_grpc, self.evidence, evidence_grpc = modules
        self.chain, self.participant = chain, settings["participant"]
        self.key = SigningKey(bytes.fromhex(settings["seed"]))
        channel = grpc.insecure_channel(settings["grpc"])
        self.service = wallet_grpc.WalletServiceStub(channel)
        self.desk = evidence_grpc.EvidenceServiceStub(channel)
        self.metadata = [("authorization", f"Bearer {settings['token']}")]

    def submit(self, *operations):
        """Signs a batch and waits for its receipts: (result, receipt) by operation."""
        batch = f.sign_batch(self.key, self.chain, self.participant, now_ms() + 300_000, list(operations))
        request = self.wallet.SubmitBatchRequest(signed_batch=batch, wait=self.wallet.WAIT_DECIDED)
        answer = self.service.SubmitBatch(request, metadata=self.metadata, timeout=60)
        f.ensure(answer.batch_hash == f.derive("anji v1 batch", batch), "the node computes another batch hash")
        receipts = answer.receipts.receipts
        f.ensure(len(receipts) == len(operations), "another number of receipts")
        for operation, receipt in zip(operations, receipts):
            f.ensure(receipt.op_id == operation["op_id"].to_bytes(16, "big"), "the receipt of another operation")
        return [receipt.WhichOneof("result") for receipt in receipts], receipts

    def get_evidence(self, *claims):
        """A bundle, as soon as it can be made."""
        request = self.evidence.GetEvidenceRequest(claims=claims)
        for _ in range(100):
            try:
                return self.desk.GetEvidence(request, metadata=self.metadata, timeout=30).bundle
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.FAILED_PRECONDITION:
                    raise
                time.sleep(0.2)
        raise f.Wrong("no evidence within 20 s")


def assertion():
    return {"model_kind": 1, "score": 100, "as_of": now_ms() - 1000, "valid_until": now_ms() + 3_600_000, "evidence_hash": b"\7" * 32}


def operation(number, body):
    return {"op_id": op_id(), "linked": False, "body": {"number": number, "value": body}}


def propose(issuer):
    return operation(f.MANDATE_PROPOSE, {
        "issuer": issuer, "payer": b"\1" * 16, "ceiling": 1_000_000, "payment_cap": 500_000, "scenes": 1 << 1, "tier": 1,
        "expires_at": now_ms() + 86_400_000, "request_commitment": b"\1" * 32,
    })


def activate(mandate):
    day = now_ms() + 86_400_000
    return operation(f.MANDATE_ACTIVATE, {
        "mandate": mandate, "payer_at_issuer": b"\2" * 16, "ceiling": 1_000_000, "payment_cap": 500_000, "scenes": 1 << 1,
        "guarantee": {"amount": 1_000_000, "until": day}, "assertion": {**assertion(), "valid_until": day},
        "disclosure": {
            "lender": "Lender", "service_provider": 3, "annual_cost_bps": 1460, "schedule": 1, "page_hash": b"\3" * 32,
            "shown_ms": 5000,
        },
        "consent": {"given_at": now_ms() - 1000, "until": day, "record_hash": b"\4" * 32},
    })


def pay(mandate, amount):
    return operation(f.PAY, {
        "mandate": mandate, "amount": amount, "currency": 156, "scene": 1,
        "order": {"merchant": b"\5" * 16, "category": 5411, "order_hash": b"\5" * 32, "trace": b"\6" * 16, "envelope_hash": bytes(32)},
        "schedule": 1, "guarantee_version": 1, "assertion_version": 1, "consent_version": 1, "assertion": assertion(),
    })


def check_damage(data, trust):
    """No byte can be changed unnoticed, with the seal or with one made again."""
    for place in range(0, len(data), 7):
        bad = bytearray(data)
        bad[place] ^= 1 << place % 8
        resealed = bytes(bad[:-32]) + f.derive("anji v1 evidence bundle", bytes(bad[:-32]))
        for changed in (bytes(bad), resealed):
            try:
                evidence.verify(changed, trust)
            except f.Wrong:
                continue
            f.ensure(changed == data, f"byte {place} was changed and nobody noticed")


def run(settings):
    trust = evidence.Trust(pathlib.Path(settings["trust"]).read_text())
    modules = stubs(settings["proto"])
    acquirer, issuer = (Party(settings[name], trust.chain, modules) for name in ("acquirer", "issuer"))
    proposal = propose(issuer.participant)
    f.ensure(acquirer.submit(proposal)[0] == ["done"], "the mandate was refused")
    mandate = {"participant": acquirer.participant, "op_id": proposal["op_id"]}
    f.ensure(issuer.submit(activate(mandate))[0] == ["done"], "the activation was refused")
    good, bad = pay(mandate, 12_345), pay(mandate, 600_000)
    results, receipts = acquirer.submit(good, bad)
    f.ensure(results == ["done", "refused"], f"receipts: {results}")
    f.ensure(receipts[1].refused.code in (4011, 4017), f"refused with {receipts[1].refused.code}")
    print(f"submitted: {len(receipts)} payments in block {receipts[0].height}")

    pb = modules[2]
    id_of = lambda op: {"participant": acquirer.participant, "op_id": op["op_id"].to_bytes(16, "big")}  # noqa: E731
    state = pb.EvidenceClaim(entity=pb.EvidenceEntity(payment=id_of(good)))
    data = acquirer.get_evidence(pb.EvidenceClaim(operation=id_of(good)), pb.EvidenceClaim(operation=id_of(bad)), state)
    paid, refused, standing = evidence.verify(data, trust)
    f.ensure(paid[2].body.value.amount == 12_345 and paid[3].result.number == f.DONE, "the payment's operation")
    f.ensure(refused[3].result.number == f.REFUSED and refused[3].result.value == receipts[1].refused.code, "the refusal")
    entry = standing[2]
    f.ensure(entry.key.value.op_id == good["op_id"] and entry.state.value.captured == 12_345, "the payment's state")
    check_damage(data, trust)
    out = pathlib.Path(settings["out"])
    out.write_bytes(data)
    print(f"evidence: {len(data)} bytes hold: payment done, other refused, state of version {entry.version}")
    for claims in (
        [pb.EvidenceClaim(entity=pb.EvidenceEntity(position=acquirer.participant))],
        [pb.EvidenceClaim(entity=pb.EvidenceEntity(window=1))],
        [pb.EvidenceClaim(entity=pb.EvidenceEntity(participant=issuer.participant), height=1)],
    ):
        (told,) = evidence.verify(acquirer.get_evidence(*claims), trust)
        f.ensure(told[0] == "state", "a state")


if __name__ == "__main__":
    try:
        run(json.loads(pathlib.Path(sys.argv[1]).read_text()))
    except f.Wrong as wrong:
        sys.exit(f"does not hold: {wrong}")
