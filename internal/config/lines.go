package config

import (
	"bytes"
	"fmt"

	"github.com/pelletier/go-toml/v2/unstable"
)

// lineNumbers returns the line on which each key of a TOML document is first named, tables included. Keys are written
// with dots, values of lists as "list[0]". The document must be valid.
func lineNumbers(doc []byte) map[string]int {
	n := numberer{lines: make(map[string]int), lists: make(map[string]int), line: 1}
	n.parser.Reset(doc)
	table := ""
	for n.parser.NextExpression() {
		switch e := n.parser.Expression(); e.Kind {
		case unstable.Table:
			table = n.name("", e.Key())
		case unstable.ArrayTable:
			table = n.item(e.Key())
		case unstable.KeyValue:
			n.keyValue(table, e)
		}
	}
	return n.lines
}

type numberer struct {
	parser unstable.Parser
	lines  map[string]int
	lists  map[string]int // number of tables so far in each list of tables
	offset int            // up to here lines are counted
	line   int            // the line of offset
}

// name notes the line of each part of a dotted key below prefix, and returns the whole key.
func (n *numberer) name(prefix string, parts unstable.Iterator) string {
	for parts.Next() {
		part := parts.Node()
		prefix = join(prefix, string(part.Data))
		n.note(prefix, part)
		if count := n.lists[prefix]; count > 0 && !parts.IsLast() {
			prefix = fmt.Sprintf("%s[%d]", prefix, count-1) // a table inside the last one of a list
		}
	}
	return prefix
}

// item begins the next table of a list of tables and returns its key.
func (n *numberer) item(parts unstable.Iterator) string {
	list, last := n.name("", parts), parts
	for last.Next() && !last.IsLast() {
	}
	item := fmt.Sprintf("%s[%d]", list, n.lists[list])
	n.lists[list]++
	n.note(item, last.Node())
	return item
}

func (n *numberer) keyValue(prefix string, e *unstable.Node) {
	n.value(n.name(prefix, e.Key()), e.Value())
}

// value notes the lines of what is inside a value.
func (n *numberer) value(key string, v *unstable.Node) {
	switch children := v.Children(); v.Kind {
	case unstable.InlineTable:
		for children.Next() {
			n.keyValue(key, children.Node())
		}
	case unstable.Array:
		for i := 0; children.Next(); i++ {
			item := fmt.Sprintf("%s[%d]", key, i)
			n.note(item, children.Node())
			n.value(item, children.Node())
		}
	}
}

// note keeps the first line of a key. Keys come in the order of the document.
func (n *numberer) note(key string, at *unstable.Node) {
	if _, ok := n.lines[key]; ok {
		return
	}
	if offset := int(at.Raw.Offset); offset > n.offset {
		n.line += bytes.Count(n.parser.Data()[n.offset:offset], []byte{'\n'})
		n.offset = offset
	}
	n.lines[key] = n.line
}
