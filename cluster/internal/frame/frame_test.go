package frame_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/starling-im/starling/cluster/internal/frame"
)

// The golden bytes hold the encoding: a change of them is a new version.
func TestGolden(t *testing.T) {
	link := frame.AppendLink(nil, frame.Link{Version: 1, From: 1, To: 2, Epoch: 3, Seq: 4, Table: 5})
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"frame", frame.AppendRecord(link, frame.Delta, []byte("hi")), "01010028" +
			"0000000000000001" + "0000000000000002" + "0000000000000003" + "0000000000000004" + "0000000000000005" + "02026869"},
		{"ack", frame.AppendAck(nil, frame.Ack{Version: 1, From: 1, To: 2, Epoch: 3, Applied: 4, Received: 5, Gap: true}), "01020029" +
			"0000000000000001" + "0000000000000002" + "0000000000000003" + "0000000000000004" + "0000000000000005" + "01"},
		{"op", frame.AppendOp(nil, &frame.Op{Seq: 7, Stamp: 8, TTL: 9, Table: "t", Key: "k", Value: []byte("v")}, 1), "0a" + "00070809" + "0174" + "016b" + "0176"},
		{"batch", frame.AppendBatch(nil, frame.Batch{Prev: 1, Last: 2, Rows: 3, Digest: 4}), "010203" + "0000000000000004"},
		{"piece", frame.AppendPiece(nil, frame.Piece{Kind: frame.Delta, Total: 9, Start: 3, Data: []byte("x")}), "0209" + "03" + "78"},
		{"topic", frame.AppendNamed(nil, frame.KindTopic, frame.Named{From: "a", Inc: 1, Seq: 2, Name: "n", Body: []byte("b")}), "0104000d" + "0161" + "0000000000000001" + "02" + "016e" + "62"},
		{"answer", frame.AppendAnswer(nil, frame.Answer{Outcome: frame.Failed, Body: []byte("no")}), "01060001" + "02" + "6e6f"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := hex.EncodeToString(c.got); got != c.want {
				t.Errorf("encoded\n%s, want\n%s", got, c.want)
			}
		})
	}
}

func sample() *frame.Beacon {
	return &frame.Beacon{
		ID: "abc", Name: "node one", Address: "host:1", Inc: 1, Start: 2, Now: 3, Seq: 4, State: 5, MinVer: 1, MaxVer: 2,
		Table: 6, Rows: 7, Digest: 8,
		Peers:  []frame.Peer{{ID: "def", Inc: 9, Status: frame.Dead, Epoch: 10, Echo: 16}, {ID: "ghi", Inc: 12, Status: frame.Alive, Epoch: 13}},
		Topics: []frame.TopicSeq{{Topic: 14, Seq: 15}},
		Dead:   []frame.Copy{{ID: "jkl", Inc: 17, Seq: 18, Torn: 19}},
	}
}

func TestBeacon(t *testing.T) {
	b := sample()
	enc := frame.AppendBeacon(nil, b)
	got, err := frame.ParseBeacon(enc)
	if err != nil || !reflect.DeepEqual(got, b) {
		t.Errorf("round trip: %+v, %v", got, err)
	}
	enc = append(enc, 200, 3, 'n', 'e', 'w') // a field of a later version
	if got, err = frame.ParseBeacon(enc); err != nil || !reflect.DeepEqual(got, b) {
		t.Errorf("with an unknown field: %+v, %v", got, err)
	}
}

// TestLater: what a later version appends to a header is passed over.
func TestLater(t *testing.T) {
	a := frame.Ack{Version: 1, From: 1, To: 2, Epoch: 3, Applied: 4, Received: 4}
	enc := frame.AppendAck(nil, a)
	enc[3] += 2
	if got, err := frame.ParseAck(append(enc, "xx"...)); err != nil || got != a {
		t.Errorf("with more in the header: %+v, %v", got, err)
	}
}

func TestRefused(t *testing.T) {
	link := frame.AppendLink(nil, frame.Link{Seq: 1})
	beacon := frame.AppendBeacon(nil, sample())
	other := bytes.Clone(link)
	other[0] = 9
	for _, c := range []struct {
		name  string
		parse func() error
		want  error
	}{
		{"nothing", func() error { _, _, err := frame.ParseLink(nil); return err }, frame.ErrMalformed},
		{"version", func() error { _, _, err := frame.ParseLink(other); return err }, frame.ErrVersion},
		{"kind", func() error { _, err := frame.ParseAck(link); return err }, frame.ErrMalformed},
		{"short header", func() error { _, _, err := frame.ParseLink(link[:20]); return err }, frame.ErrMalformed},
		{"record beyond the end", func() error { _, _, err := frame.ParseLink(append(link, 2, 100, 'x')); return err }, frame.ErrMalformed},
		{"too long", func() error { _, _, err := frame.ParseLink(make([]byte, frame.MaxFrame+1)); return err }, frame.ErrMalformed},
		{"ack of what has not come", func() error {
			_, err := frame.ParseAck(frame.AppendAck(nil, frame.Ack{Applied: 2, Received: 1}))
			return err
		}, frame.ErrMalformed},
		{"beacon without id", func() error { _, err := frame.ParseBeacon(frame.AppendBeacon(nil, &frame.Beacon{Inc: 1})); return err }, frame.ErrMalformed},
		{"beacon with a long name", func() error {
			_, err := frame.ParseBeacon(frame.AppendBeacon(nil, &frame.Beacon{ID: "a", Inc: 1, Name: strings.Repeat("x", 256)}))
			return err
		}, frame.ErrMalformed},
		{"beacon cut off", func() error { _, err := frame.ParseBeacon(beacon[:len(beacon)-1]); return err }, frame.ErrMalformed},
		{"piece beyond the whole", func() error {
			_, err := frame.ParsePiece(frame.AppendPiece(nil, frame.Piece{Kind: frame.Delta, Total: 2, Start: 1, Data: []byte("xx")}))
			return err
		}, frame.ErrMalformed},
		{"whole too long", func() error {
			_, err := frame.ParsePiece(frame.AppendPiece(nil, frame.Piece{Kind: frame.Delta, Total: frame.MaxRecord + 1, Data: []byte("x")}))
			return err
		}, frame.ErrMalformed},
		{"batch that goes backwards", func() error {
			_, err := frame.ParseBatch(frame.AppendBatch(nil, frame.Batch{Prev: 2, Last: 1}))
			return err
		}, frame.ErrMalformed},
		{"batch with broken op", func() error {
			_, err := frame.ParseBatch(frame.AppendBatch(nil, frame.Batch{Ops: frame.Ops{3, 0, 1}}))
			return err
		}, frame.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.parse(); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestRecords(t *testing.T) {
	var rs frame.Records
	bodies := []string{"", "a", strings.Repeat("b", 127), strings.Repeat("c", 128), strings.Repeat("d", 70000)}
	for i, b := range bodies {
		before := len(rs)
		rs = frame.AppendRecord(rs, frame.RecordKind(i+1), []byte(b))
		if n := len(rs) - before; n != frame.RecordSize(len(b)) {
			t.Errorf("record of %d bytes takes %d, not %d", len(b), n, frame.RecordSize(len(b)))
		}
	}
	for i, b := range bodies {
		if k, body := rs.Next(); k != frame.RecordKind(i+1) || string(body) != b {
			t.Errorf("record %d: kind %d, %d bytes", i, k, len(body))
		}
	}
	if len(rs) != 0 {
		t.Error("something is left")
	}
}

// FuzzParse: no reader panics, and what one accepts it encodes to something that it reads in the same way.
func FuzzParse(f *testing.F) {
	ops := frame.AppendOp(nil, &frame.Op{Seq: 1, Stamp: 2, Table: "t", Key: "k", Value: []byte("v")}, 1)
	ops = frame.AppendOp(ops, &frame.Op{Delete: true, Seq: 2, Table: "t", Key: "k"}, 1)
	for _, seed := range [][]byte{
		frame.AppendRecord(frame.AppendLink(nil, frame.Link{Seq: 1}), frame.Delta, []byte("x")),
		frame.AppendAck(nil, frame.Ack{Applied: 1, Received: 2}),
		frame.AppendBeacon(nil, sample()),
		frame.AppendNamed(nil, frame.KindTopic, frame.Named{From: "a", Name: "b", Body: []byte("c")}),
		frame.AppendAnswer(nil, frame.Answer{Outcome: frame.Done}),
		frame.AppendBatch(nil, frame.Batch{Last: 2, Ops: ops}),
		frame.AppendPiece(nil, frame.Piece{Kind: frame.Delta, Total: 3, Data: []byte("x")}),
		frame.AppendSnapshot(nil, frame.Snapshot{ID: 1}),
		frame.AppendChannel(nil, "c", []byte("x")),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, rs, err := frame.ParseLink(b); err == nil {
			out := frame.AppendLink(nil, h)
			for rs := rs; len(rs) > 0; {
				k, body := rs.Next()
				out = frame.AppendRecord(out, k, body)
			}
			if got, _, err := frame.ParseLink(out); err != nil || got != h {
				t.Errorf("%+v reads %+v, %v", h, got, err)
			}
		}
		if a, err := frame.ParseAck(b); err == nil {
			again(t, a, frame.AppendAck(nil, a), frame.ParseAck)
		}
		if v, err := frame.ParseBeacon(b); err == nil {
			again(t, v, frame.AppendBeacon(nil, v), frame.ParseBeacon)
		}
		if v, err := frame.ParseNamed(b, frame.KindTopic); err == nil {
			again(t, v, frame.AppendNamed(nil, frame.KindTopic, v), func(b []byte) (frame.Named, error) { return frame.ParseNamed(b, frame.KindTopic) })
		}
		if v, err := frame.ParseAnswer(b); err == nil {
			again(t, v, frame.AppendAnswer(nil, v), frame.ParseAnswer)
		}
		if v, err := frame.ParseBatch(b); err == nil {
			for ops := v.Ops; len(ops) > 0; {
				op := ops.Next()
				one := frame.Ops(frame.AppendOp(nil, &op, frame.MaxVersion))
				if got := one.Next(); !reflect.DeepEqual(got, op) {
					t.Errorf("op %+v reads %+v", op, got)
				}
			}
			again(t, v, frame.AppendBatch(nil, v), frame.ParseBatch)
		}
		if v, err := frame.ParsePiece(b); err == nil {
			again(t, v, frame.AppendPiece(nil, v), frame.ParsePiece)
		}
		_, _ = frame.ParseSnapshot(b)
		_, _, _ = frame.ParseChannel(b)
	})
}

func again[V any](t *testing.T, v V, enc []byte, parse func([]byte) (V, error)) {
	t.Helper()
	got, err := parse(enc)
	if err != nil || !reflect.DeepEqual(got, v) {
		t.Errorf("%+v reads %+v, %v", v, got, err)
	}
}
