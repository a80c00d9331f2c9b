// Reads the log over HTTP with the packages of Go's checksum database (golang.org/x/mod/sumdb/note and tlog): note signatures,
// record proofs, tree proofs.
//
//	log SETTINGS.json
package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const tileHeight = 8

type settings struct {
	Trust   string `json:"trust"`
	LogHTTP string `json:"log_http"`
	Older   struct {
		Size int64  `json:"size"`
		Root string `json:"root"`
	} `json:"older"`
}

type trust struct {
	ChainID    string `json:"chain_id"`
	Validators []struct {
		Participant int    `json:"participant"`
		PublicKey   string `json:"public_key"`
	} `json:"validators"`
}

func check(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "does not hold: %s: %v\n", what, err)
		os.Exit(1)
	}
}

func ensure(holds bool, what string) {
	if !holds {
		check(fmt.Errorf("no"), what)
	}
}

func readJSON(file string, into interface{}) {
	text, err := os.ReadFile(file)
	check(err, file)
	check(json.Unmarshal(text, into), file)
}

type site struct{ base string }

func (s site) get(path string) ([]byte, error) {
	client := http.Client{Timeout: 15 * time.Second}
	answer, err := client.Get(s.base + path)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, answer.Status)
	}
	return io.ReadAll(io.LimitReader(answer.Body, 32<<20))
}

// The checksum database writes the height of tiles into their paths; C2SP tlog-tiles leaves it out.
func tilePath(tile tlog.Tile) string {
	return strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", tileHeight), "tile/", 1)
}

func (s site) Height() int { return tileHeight }

func (s site) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data, err := s.get("/" + tilePath(tile))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func (s site) SaveTiles([]tlog.Tile, [][]byte) {}

// An entry out of its bundle: a big-endian u16 length before each.
func (s site) entry(index, size int64) []byte {
	bundle := tlog.Tile{H: tileHeight, L: 0, N: index >> tileHeight, W: 1 << tileHeight}
	if rest := size - bundle.N<<tileHeight; rest < 1<<tileHeight {
		bundle.W = int(rest)
	}
	data, err := s.get("/" + strings.Replace(tilePath(bundle), "tile/0/", "tile/entries/", 1))
	check(err, "entries")
	for place := bundle.N << tileHeight; ; place++ {
		ensure(len(data) >= 2, "an entry is cut")
		length := int(binary.BigEndian.Uint16(data))
		ensure(len(data) >= 2+length, "an entry is cut")
		if place == index {
			return data[2 : 2+length]
		}
		data = data[2+length:]
	}
}

func main() {
	var with settings
	var pinned trust
	readJSON(os.Args[1], &with)
	readJSON(with.Trust, &pinned)
	origin := "anji." + pinned.ChainID[:32]
	log := site{"http://" + with.LogHTTP}

	var verifiers []note.Verifier
	for _, it := range pinned.Validators {
		public, err := hex.DecodeString(it.PublicKey)
		check(err, "a public key")
		text, err := note.NewEd25519VerifierKey(origin, public)
		check(err, "a verifier key")
		verifier, err := note.NewVerifier(text)
		check(err, "a verifier")
		verifiers = append(verifiers, verifier)
	}
	message, err := log.get("/checkpoint")
	check(err, "the checkpoint")
	opened, err := note.Open(message, note.VerifierList(verifiers...))
	check(err, "the checkpoint's signatures")
	ensure(len(opened.Sigs) >= 3, "signatures of more than two thirds")
	for place := range message {
		// The text and its signatures by known keys: no byte of the text can be changed.
		if place >= len(opened.Text) {
			break
		}
		flipped := append([]byte(nil), message...)
		flipped[place] ^= 1
		_, err := note.Open(flipped, note.VerifierList(verifiers...))
		ensure(err != nil, "a changed checkpoint does not open")
	}

	lines := strings.Split(opened.Text, "\n")
	ensure(len(lines) >= 4 && lines[0] == origin, "the origin")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err, "the size")
	rootBytes, err := base64.StdEncoding.DecodeString(lines[2])
	check(err, "the root")
	var root tlog.Hash
	ensure(copy(root[:], rootBytes) == tlog.HashSize, "the root's length")

	reader := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, log)
	computed, err := tlog.TreeHash(size, reader)
	check(err, "the root out of the tiles")
	ensure(computed == root, "the root out of the tiles")
	for _, index := range []int64{0, size / 3, size / 2, size - 1} {
		entry := log.entry(index, size)
		proof, err := tlog.ProveRecord(size, index, reader)
		check(err, "a record proof")
		check(tlog.CheckRecord(proof, size, root, index, tlog.RecordHash(entry)), "a record proof")
		other := append(append([]byte(nil), entry...), 0)
		ensure(tlog.CheckRecord(proof, size, root, index, tlog.RecordHash(other)) != nil, "another record does not pass")
	}
	var older tlog.Hash
	olderBytes, err := hex.DecodeString(with.Older.Root)
	check(err, "the older root")
	ensure(copy(older[:], olderBytes) == tlog.HashSize, "the older root's length")
	proof, err := tlog.ProveTree(size, with.Older.Size, reader)
	check(err, "a tree proof")
	check(tlog.CheckTree(proof, size, root, with.Older.Size, older), "a tree proof")
	older[0] ^= 1
	ensure(tlog.CheckTree(proof, size, root, with.Older.Size, older) != nil, "a fork does not pass")
	fmt.Printf("log: %d entries, %d signatures of the log's keys, records and trees proven\n", size, len(opened.Sigs))
}
