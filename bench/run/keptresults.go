package main

import (
	"bytes"
	"fmt"
	"strings"
)

// keptTitle begins the part of the results about archives and stream management.
const keptTitle = "# Archive and stream management\n"

// keptResults renders what was measured with archives and with stream management.
func (b *bench) keptResults() []byte {
	var w bytes.Buffer
	fmt.Fprint(&w, keptTitle, "\nWritten by `make bench`, which see; not by hand.\n\n")
	fmt.Fprintf(&w, "    go run ./bench/run -part archive -runs %d -pairs %d -duration %v -settle %v\n\n", b.runs, b.pairs, b.duration, b.settle)
	fmt.Fprintf(&w, "%s. %s. Generator and server share the processors. Median of %d interleaved runs of %v each; lowest and highest in "+
		"parentheses. Another server that took longer than %v for one of them was measured once.\n\n", b.started.UTC().Format("2006-01-02"), machine(), b.rounds, min(b.duration, keptLength), slowAfter)
	for _, k := range b.keepers {
		if !strings.HasPrefix(k.name, starlingName) {
			fmt.Fprintf(&w, "- %s: %s\n", k.name, k.on.version)
		}
	}
	fmt.Fprint(&w, "\nThe servers are set up as for the comparison without archives, their settings are in `bench/run`. All keep what everybody sends and gets, a copy for each of "+
		"both. ejabberd keeps archives in Mnesia unless it is told to use SQL, and Prosody in files. PostgreSQL commits durably. "+
		"Clients with stream management ask for an acknowledgement with all that they send at once, and answer when they are asked.\n\n")
	b.ownMessages(&w)
	b.keptMessages(&w)
	b.pageTimes(&w)
	b.returns(&w)
	b.heaps(&w)
	b.mistakes(&w)
	return w.Bytes()
}

// figures writes rows of figures, a column for each server that has any in one of them.
func (b *bench) figures(w *bytes.Buffer, names []string, rows []row) {
	if names = b.present(names, rows); len(names) == 0 {
		return
	}
	fmt.Fprintf(w, "| | %s |\n|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)+1))
	for _, r := range rows {
		fmt.Fprintf(w, "| %s |", r)
		for _, name := range names {
			fmt.Fprintf(w, " %s |", b.cell(r, name))
		}
		fmt.Fprint(w, "\n")
	}
	fmt.Fprint(w, "\n")
}

// present returns those servers that have figures in one of the rows.
func (b *bench) present(names []string, rows []row) (all []string) {
	for _, name := range names {
		for _, r := range rows {
			if _, ok := b.median(r, name); ok {
				all = append(all, name)
				break
			}
		}
	}
	return all
}

func (b *bench) ownMessages(w *bytes.Buffer) {
	fmt.Fprintf(w, "## What they add to a message\n\nµs of Starling's CPU per message of 432 bytes, plaintext, %d pairs, each with so many messages under way, from the first "+
		"message until the server is at rest after the last. Each session says the same all the time, but for the number of the message, unless it is told otherwise; "+
		"what says something else each time is words that compress to two thirds:\n\n", b.pairs)
	own := []string{bareName, sqliteName, postgresName, managedName, bothName}
	b.figures(w, own, []row{keptOne, keptEight, keptWords, rateEight})
	for _, r := range []struct{ server, store row }{{keptOne, storeOne}, {keptEight, storeEight}, {server: keptWords}} {
		bare, ok := b.median(r.server, bareName)
		if !ok {
			continue
		}
		for _, name := range b.present(own[1:], []row{r.server}) {
			v, _ := b.median(r.server, name)
			fmt.Fprintf(w, "- %s: %s adds %.1f µs", r.server, strings.TrimPrefix(name, starlingName+", "), v-bare)
			if itself, ok := b.median(r.store, name); ok {
				fmt.Fprintf(w, ", and PostgreSQL itself takes %.1f µs", itself)
			}
			if budget := map[string]string{sqliteName: "12", managedName: "1"}[name]; budget != "" && r.server != keptOne {
				fmt.Fprintf(w, " (budget %s)", budget)
			}
			fmt.Fprint(w, ".\n")
		}
	}
	for _, r := range []row{ackOne, ackEight} {
		for _, name := range b.present([]string{managedName, bothName}, []row{r}) {
			fmt.Fprintf(w, "- %s: with %s all is so %s ms after the last message came.\n", r, strings.TrimPrefix(name, starlingName+", "), b.cell(r, name))
		}
	}
	fmt.Fprint(w, "\n")
}

func (b *bench) keptMessages(w *bytes.Buffer) {
	fmt.Fprint(w, "## A message that is kept\n\nµs of server CPU per message as above, without stream management:\n\n")
	rows := []row{keptOne, keptEight, rateEight}
	b.tableOf(w, sqliteName, "", b.present([]string{sqliteName, mnesiaName, erlSQLName, filesName, luaSQLName}, rows), rows)
}

func (b *bench) pageTimes(w *bytes.Buffer) {
	fmt.Fprintf(w, "## A page of a long archive\n\nms from the request until its client has read the last of %d messages; %d tries each:\n\n", pageSize, pageTries)
	rows := []row{pageFirst, pageMiddle, pageLast}
	names := b.present([]string{sqliteName, postgresName, mnesiaName, erlSQLName, filesName, luaSQLName}, rows)
	b.tableOf(w, sqliteName, "", names, rows)
	var words []string
	for _, name := range names {
		words = append(words, fmt.Sprintf("%s %d", name, b.filled[name]))
	}
	fmt.Fprintf(w, "Messages in the archive: %s. Starling's were sent, each message; so they were into Mnesia and files, which bounds their number; the databases of the others were filled by copying one message.\n\n",
		strings.Join(words, "; "))
}

func (b *bench) returns(w *bytes.Buffer) {
	fmt.Fprintf(w, "## Coming back\n\n%d sessions with stream management lose their connections at once. While they are away each is sent %d messages; then they log in with PLAIN, "+
		"%d at a time, resume and read them. No archives; measured once.\n\n", stormSessions, stormMessages, stormAtOnce)
	rows := []row{allBack, backCPU}
	b.tableOf(w, starlingName, "", b.present([]string{starlingName, "ejabberd", "Prosody"}, rows), rows)
	if cost, ok := b.median(hash, starlingName); ok {
		fmt.Fprintf(w, "Of Starling's, %.0f µs are the hash of the password; the others compare it as it is.\n\n", cost)
	}
}

func (b *bench) heaps(w *bytes.Buffer) {
	fmt.Fprintf(w, "## Memory of an idle session\n\nBytes of Starling's live heap and stacks, %d sessions in plaintext that have fetched the roster and sent presence; measured once:\n\n", heapSessions)
	b.figures(w, []string{starlingName}, []row{plainHeap, managedHeap})
	plain, ok := b.median(plainHeap, starlingName)
	if with, has := b.median(managedHeap, starlingName); ok && has {
		fmt.Fprintf(w, "Stream management adds %.0f bytes (budget 100).\n\n", with-plain)
	}
}
