package frame_test

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/starling-im/starling/cluster/internal/frame"
)

var update = flag.Bool("update", false, "write the golden file of the newest version")

// samples are messages as a version has them. Values that a version does not know are set all the same.
func samples(version uint8) []string {
	link := frame.AppendLink(nil, frame.Link{Version: version, From: 1, To: 2, Epoch: 3, Seq: 4, Table: 5})
	op := frame.AppendOp(nil, &frame.Op{Seq: 7, Stamp: 8, TTL: 9, Table: "t", Key: "k", Value: []byte("v"), More: frame.MoreOf(10)}, version)
	op = frame.AppendOp(op, &frame.Op{Delete: true, Seq: 8, Table: "t", Key: "k"}, version)
	batch := frame.AppendBatch(nil, frame.Batch{Prev: 6, Last: 8, Rows: 3, Digest: 4, Ops: op})
	estate := frame.Estate{ID: 1, Owner: "a", Inc: 2, Seq: 3, Torn: 4, Age: 5}
	b := sample()
	b.MinVer, b.MaxVer = version, version
	var lines []string
	for _, s := range []struct {
		name string
		b    []byte
	}{
		{"link", frame.AppendRecord(link, frame.Delta, batch)},
		{"ack", frame.AppendAck(nil, frame.Ack{Version: version, From: 1, To: 2, Epoch: 3, Applied: 4, Received: 5, Gap: true})},
		{"batch", batch},
		{"piece", frame.AppendPiece(nil, frame.Piece{Kind: frame.Delta, Total: 9, Start: 3, Data: []byte("x")})},
		{"beacon", frame.AppendBeacon(nil, b)},
		{"call", frame.AppendNamed(nil, frame.KindCall, frame.Named{From: "a", Inc: 1, Seq: 2, Name: "n", Body: []byte("b")})},
		{"answer", frame.AppendAnswer(nil, frame.Answer{Outcome: frame.Failed, Body: []byte("no")})},
		{"snapshot", frame.AppendSnapshot(nil, frame.Snapshot{ID: 1, Seq: 2, Rows: 3, Digest: 4})},
		{"estate", frame.AppendEstate(nil, estate)},
		{"channel", frame.AppendChannel(nil, "c", []byte("x"))},
	} {
		lines = append(lines, s.name+" "+hex.EncodeToString(s.b))
	}
	return lines
}

func file(version uint8) string { return filepath.Join("testdata", fmt.Sprintf("v%d.txt", version)) }

// TestGoldenVersions: each version that is spoken is written as the build that had it as its newest wrote it. So the next
// version writes nothing new to members of this one.
func TestGoldenVersions(t *testing.T) {
	if *update {
		if err := os.WriteFile(file(frame.MaxVersion), []byte(strings.Join(samples(frame.MaxVersion), "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for v := uint8(frame.MinVersion); v <= frame.MaxVersion; v++ {
		want, err := os.ReadFile(file(v))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(samples(v), "\n") + "\n"; got != string(want) {
			t.Errorf("version %d is written as\n%swant\n%s", v, got, want)
		}
	}
}

// TestNeighbours reads what the builds of this version and the next one wrote: all of it when their version is spoken
// here; of the others the beacon, and all whose headers do not name a version, passing over what is new.
func TestNeighbours(t *testing.T) {
	for _, v := range []uint8{1, 2} {
		lines, err := os.ReadFile(file(v))
		if err != nil {
			t.Fatal(err)
		}
		msg := map[string][]byte{}
		for line := range strings.Lines(string(lines)) {
			name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
			if msg[name], err = hex.DecodeString(text); err != nil {
				t.Fatal(err)
			}
		}
		beacon, err := frame.ParseBeacon(msg["beacon"])
		if err != nil || beacon.MaxVer != v || !reflect.DeepEqual(beacon.Peers, sample().Peers) || !reflect.DeepEqual(beacon.Dead, sample().Dead) {
			t.Errorf("beacon of version %d: %+v, %v", v, beacon, err)
		}
		batch, err := frame.ParseBatch(msg["batch"])
		if err != nil {
			t.Fatalf("batch of version %d: %v", v, err)
		}
		put, del := batch.Ops.Next(), batch.Ops.Next()
		if put.Seq != 7 || put.Stamp != 8 || put.TTL != 9 || put.Key != "k" || string(put.Value) != "v" || !del.Delete || del.Seq != 8 || len(batch.Ops) > 0 {
			t.Errorf("rows of version %d: %+v, %+v, %d bytes left", v, put, del, len(batch.Ops))
		}
		if v == frame.OpVersion && put.More != frame.MoreOf(10) || v < frame.OpVersion && put.More != (frame.More{}) {
			t.Errorf("rows of version %d: what was added is %+v", v, put.More)
		}
		if e, err := frame.ParseEstate(msg["estate"]); err != nil || e.Age != 5 || e.Owner != "a" {
			t.Errorf("estate of version %d: %+v, %v", v, e, err)
		}
		_, _, err = frame.ParseLink(msg["link"])
		if spoken := v <= frame.MaxVersion; spoken != (err == nil) {
			t.Errorf("link frame of version %d: %v", v, err)
		}
	}
}

// TestPassedOver: kinds, flags and fields that are not known here are passed over.
func TestPassedOver(t *testing.T) {
	b := frame.AppendLink(nil, frame.Link{Seq: 1})
	b = frame.AppendRecord(b, 200, []byte("of a later version"))
	b = frame.AppendRecord(b, frame.Delta, []byte("x"))
	_, rs, err := frame.ParseLink(b)
	if err != nil {
		t.Fatal(err)
	}
	if k, _ := rs.Next(); k != 200 {
		t.Errorf("kind %d", k)
	}
	if k, body := rs.Next(); k != frame.Delta || string(body) != "x" {
		t.Errorf("then %d, %q", k, body)
	}
	op := frame.AppendOp(nil, &frame.Op{Seq: 7, Table: "t", Key: "k", Value: []byte("v")}, 1)
	op[0] += 12
	op = append(op, "8 bytes, and more"[:12]...)
	op[1] |= 0x80
	ops := append(frame.Ops(op), frame.AppendOp(nil, &frame.Op{Seq: 8, Table: "t", Key: "l"}, 1)...)
	batch, err := frame.ParseBatch(frame.AppendBatch(nil, frame.Batch{Last: 8, Ops: ops}))
	if err != nil {
		t.Fatal(err)
	}
	if first, second := batch.Ops.Next(), batch.Ops.Next(); first.Key != "k" || first.Delete || string(first.Value) != "v" || second.Key != "l" {
		t.Errorf("rows %+v, %+v", first, second)
	}
}

// TestRewrite: rows kept in the newest version are what the older one would have written.
func TestRewrite(t *testing.T) {
	op := frame.Op{Seq: 7, Table: "t", Key: "k", Value: []byte("v"), More: frame.MoreOf(10)}
	now, then := frame.AppendOp(nil, &op, frame.MaxVersion), frame.AppendOp(nil, &op, frame.MinVersion)
	if got := frame.Ops(now).Rewrite(nil, frame.MinVersion); string(got) != string(then) {
		t.Errorf("%x, want %x", got, then)
	}
}
