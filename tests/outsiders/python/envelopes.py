"""SM2 signatures and envelopes by other people's libraries: section 2 and 11 of proto/FORMAT.md, written from that page alone.

    envelopes.py SETTINGS.json

Checks what the settings hold with OpenSSL, gmalg, cryptography and pyhpke, makes its own of each, and writes them to the file that the settings
name as `out`. Exits 0, or says what is wrong.
"""

import json
import pathlib
import secrets
import subprocess
import sys
import tempfile

import gmalg
from borsh_construct import Bytes, CStruct, U8, U16, U32, Vec
from construct import Bytes as Fixed
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey

import anji_format as f

X25519, SM2 = 1, 2
CHACHA, SM4_GCM = 1, 2
IDENTIFIER = b"1234567812345678"

# chain, subject (a payment), purpose
About = CStruct("chain" / f.Hash, "subject" / f.enum({2: f.ScopedId}), "purpose" / U8)
Recipient = CStruct("participant" / U32, "suite" / U8, "key_hash" / f.Hash)
Head = CStruct(
    "magic" / Fixed(8), "version" / U16, "about" / About, "sender" / U32, "recipients" / Vec(Recipient), "cipher" / U8,
    "secret_hash" / f.Hash,
)
Envelope = CStruct("head" / Head, "ciphertext" / Bytes)
Wraps = CStruct("magic" / Fixed(8), "version" / U16, "envelope" / f.Hash, "wraps" / Vec(CStruct("participant" / U32, "bytes" / Bytes)))

HPKE = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.CHACHA20_POLY1305)
WRAP = "anji v1 envelope wrap"


class OpenSsl:
    """The command line, which wants keys, signatures and ciphertexts as DER."""

    def __init__(self, private, point):
        self.holder = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.holder.name)
        # ecPublicKey on sm2p256v1
        algorithm = bytes.fromhex("301306072a8648ce3d020106082a811ccf5501822d")
        bits = b"\x03\x42\x00" + point
        self.public = self.file("public.der", b"\x30" + bytes([len(algorithm + bits)]) + algorithm + bits)
        inner = b"\x02\x01\x01\x04\x20" + private + b"\xa1\x44" + bits
        inner = b"\x30" + bytes([len(inner)]) + inner
        outer = b"\x02\x01\x00" + algorithm + b"\x04" + bytes([len(inner)]) + inner
        self.private = self.file("private.der", b"\x30\x81" + bytes([len(outer)]) + outer)

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        return str(path)

    def run(self, *arguments):
        command = ["openssl", "pkeyutl", *arguments]
        return subprocess.run(command, capture_output=True, check=False)

    def signing(self, message):
        return ["-rawin", "-digest", "sm3", "-pkeyopt", f"distid:{IDENTIFIER.decode()}", "-in", self.file("message", message)]

    def verifies(self, message, signature):
        der = sequence(integer(signature[:32]), integer(signature[32:]))
        ran = self.run("-verify", "-pubin", "-keyform", "DER", "-inkey", self.public, "-sigfile", self.file("sig", der), *self.signing(message))
        return ran.returncode == 0

    def sign(self, message):
        out = str(self.folder / "made")
        ran = self.run("-sign", "-keyform", "DER", "-inkey", self.private, "-out", out, *self.signing(message))
        f.ensure(ran.returncode == 0, f"OpenSSL signs: {ran.stderr}")
        r, s = numbers(pathlib.Path(out).read_bytes(), 2)
        return r.rjust(32, b"\0") + s.rjust(32, b"\0")

    def decrypt(self, cipher):
        """C1 ‖ C3 ‖ C2 of the page, as the sequence of GM/T 0009."""
        x, y, c3, c2 = cipher[1:33], cipher[33:65], cipher[65:97], cipher[97:]
        der = sequence(integer(x), integer(y), b"\x04\x20" + c3, b"\x04" + bytes([len(c2)]) + c2)
        ran = self.run("-decrypt", "-keyform", "DER", "-inkey", self.private, "-in", self.file("cipher", der))
        return ran.stdout if ran.returncode == 0 else None

    def encrypt(self, text):
        ran = self.run("-encrypt", "-pubin", "-keyform", "DER", "-inkey", self.public, "-in", self.file("text", text))
        f.ensure(ran.returncode == 0, f"OpenSSL encrypts: {ran.stderr}")
        x, y, c3, c2 = numbers(ran.stdout, 4)
        return b"\x04" + x.rjust(32, b"\0") + y.rjust(32, b"\0") + c3 + c2


def integer(number):
    number = number.lstrip(b"\0") or b"\0"
    number = b"\0" + number if number[0] & 0x80 else number
    return b"\x02" + bytes([len(number)]) + number


def sequence(*parts):
    body = b"".join(parts)
    return (b"\x30" if len(body) < 128 else b"\x30\x81") + bytes([len(body)]) + body


def numbers(der, count):
    """The contents of a sequence's members, without signs."""
    at, found = 2 if der[1] < 128 else 3, []
    for _ in range(count):
        tag, length = der[at], der[at + 1]
        content = der[at + 2:at + 2 + length]
        found.append(content.lstrip(b"\0") if tag == 2 else content)
        at += 2 + length
    f.ensure(at == len(der), "DER that goes on")
    return found


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1:]


class Sm2Key:
    """An SM2 key in two libraries."""

    def __init__(self, private):
        self.gmalg = gmalg.SM2(private, IDENTIFIER)
        self.point = self.gmalg.generate_pk(private)
        self.public = bytes([2 | self.point[-1] & 1]) + self.point[1:33]
        self.openssl = OpenSsl(private, self.point)

    def verifies(self, message, signature):
        both = {self.gmalg.verify(message, signature[:32], signature[32:]), self.openssl.verifies(message, signature)}
        f.ensure(len(both) == 1, "gmalg and OpenSSL disagree")
        return both.pop()

    def decrypt(self, cipher):
        text = self.gmalg.decrypt(cipher)
        f.ensure(self.openssl.decrypt(cipher) == text, "gmalg and OpenSSL disagree")
        return text


def signatures(settings):
    """The batch is signed as the page says; then signatures of others over the same digest."""
    key, batch = Sm2Key(bytes.fromhex(settings["private"])), bytes.fromhex(settings["batch"])
    f.ensure(key.public == bytes.fromhex(settings["public"]), "the public key")
    digest, signature = f.derive("anji v1 batch header", batch[:86]), batch[-64:]
    f.ensure(key.verifies(digest, signature), "the batch's signature does not verify")
    f.ensure(not key.verifies(flipped(digest, 0), signature), "another digest passes")
    f.ensure(not key.verifies(digest, flipped(signature, 63)), "another signature passes")
    r, s = key.gmalg.sign(digest)
    made = {"gmalg": r.rjust(32, b"\0") + s.rjust(32, b"\0"), "openssl": key.openssl.sign(digest)}
    return {name: (batch[:-64] + it).hex() for name, it in made.items()}


class Party:
    """A recipient."""

    def __init__(self, settings):
        self.number, self.suite, private = settings["participant"], settings["suite"], bytes.fromhex(settings["private"])
        if self.suite == SM2:
            self.key = Sm2Key(private)
            self.public = self.key.public
        else:
            private = X25519PrivateKey.from_private_bytes(private)
            self.key = KEMKey.from_pyca_cryptography_key(private)
            self.public = private.public_key().public_bytes_raw()

    def recipient(self):
        key_hash = f.derive("anji v1 encryption key", bytes([self.suite]) + self.public)
        return {"participant": self.number, "suite": self.suite, "key_hash": key_hash}

    def binding(self, head):
        return f.derive(WRAP, self.number.to_bytes(4, "little") + head)

    def unwrap(self, head, wrap):
        if self.suite == SM2:
            text = self.key.decrypt(wrap)
            f.ensure(text[32:] == self.binding(head), "the secret is bound to something else")
            return text[:32]
        return HPKE.create_recipient_context(wrap[:32], self.key, info=WRAP.encode()).open(wrap[32:], aad=self.binding(head))

    def wrap(self, head, secret):
        if self.suite == SM2:
            # Each library for one of the two parties.
            text = secret + self.binding(head)
            return self.key.openssl.encrypt(text) if self.number % 2 else self.key.gmalg.encrypt(text)
        public = KEMKey.from_pyca_cryptography_key(X25519PublicKey.from_public_bytes(self.public))
        encapped, context = HPKE.create_sender_context(public, info=WRAP.encode())
        return encapped + context.seal(secret, aad=self.binding(head))


def encipher(cipher, secret, head, text):
    key, nonce = f.derive("anji v1 envelope key", secret), f.derive("anji v1 envelope nonce", secret)[:12]
    if cipher == CHACHA:
        return ChaCha20Poly1305(key).encrypt(nonce, text, head)
    it = Cipher(algorithms.SM4(key[:16]), modes.GCM(nonce)).encryptor()
    it.authenticate_additional_data(head)
    return it.update(text) + it.finalize() + it.tag


def decipher(cipher, secret, head, ciphertext):
    key, nonce = f.derive("anji v1 envelope key", secret), f.derive("anji v1 envelope nonce", secret)[:12]
    if cipher == CHACHA:
        return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, head)
    it = Cipher(algorithms.SM4(key[:16]), modes.GCM(nonce, ciphertext[-16:])).decryptor()
    it.authenticate_additional_data(head)
    return it.update(ciphertext[:-16]) + it.finalize()


def open_envelope(fixed, wraps, party):
    envelope, wraps = Envelope.parse(fixed), Wraps.parse(wraps)
    head = Head.build(envelope.head)
    f.ensure(fixed.startswith(head) and head.startswith(b"anji env\x01\0"), "the head")
    f.ensure(wraps.envelope == f.derive("anji v1 envelope", fixed), "the wraps are another envelope's")
    named = [{"participant": it.participant, "suite": it.suite, "key_hash": it.key_hash} for it in envelope.head.recipients]
    f.ensure(party.recipient() in named, "not a recipient")
    wrap = next(it.bytes for it in wraps.wraps if it.participant == party.number)
    secret = party.unwrap(head, bytes(wrap))
    f.ensure(f.derive("anji v1 envelope secret", secret) == envelope.head.secret_hash, "another secret")
    padded = decipher(envelope.head.cipher, secret, head, bytes(envelope.ciphertext))
    try:
        decipher(envelope.head.cipher, secret, flipped(head, 20), bytes(envelope.ciphertext))
        raise f.Wrong("another head passes")
    except InvalidTag:
        pass
    length = int.from_bytes(padded[:4], "little")
    f.ensure(len(padded) % 256 == 0 and not any(padded[4 + length:]), "the padding")
    return padded[4:4 + length]


def seal_envelope(about, sender, cipher, parties, text):
    secret, parties = secrets.token_bytes(32), sorted(parties, key=lambda it: it.number)
    head = Head.build({
        "magic": b"anji env", "version": 1, "about": about, "sender": sender, "recipients": [it.recipient() for it in parties],
        "cipher": cipher, "secret_hash": f.derive("anji v1 envelope secret", secret),
    })
    padded = len(text).to_bytes(4, "little") + text
    padded += bytes(-len(padded) % 256)
    ciphertext = encipher(cipher, secret, head, padded)
    fixed = head + len(ciphertext).to_bytes(4, "little") + ciphertext
    wraps = [{"participant": it.number, "bytes": it.wrap(head, secret)} for it in parties]
    wraps = Wraps.build({"magic": b"anji wrp", "version": 1, "envelope": f.derive("anji v1 envelope", fixed), "wraps": wraps})
    return {"envelope": fixed.hex(), "wraps": wraps.hex()}


def run(settings):
    made = {"batches": signatures(settings["signing"]), "envelopes": []}
    parties = [Party(it) for it in settings["parties"]]
    text = bytes.fromhex(settings["text"])
    for it in settings["envelopes"]:
        fixed, wraps = bytes.fromhex(it["envelope"]), bytes.fromhex(it["wraps"])
        for party in parties:
            f.ensure(open_envelope(fixed, wraps, party) == text, f"the text as {party.number} reads it")
        head = Envelope.parse(fixed).head
        made["envelopes"].append(seal_envelope(head.about, head.sender, head.cipher, parties, text))
    salt, field = bytes.fromhex(settings["salt"]), text
    f.ensure(f.derive("anji v1 commitment", salt + field).hex() == settings["commitment"], "the commitment")
    pathlib.Path(settings["out"]).write_text(json.dumps(made))
    print(f"{len(made['batches'])} signatures and {len(made['envelopes'])} envelopes of ours and theirs agree")


if __name__ == "__main__":
    run(json.loads(pathlib.Path(sys.argv[1]).read_text()))
