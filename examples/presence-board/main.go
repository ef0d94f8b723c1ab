// Command presence-board shows package cluster at work: three processes share a table of who is here, in one command.
//
//	go run ./examples/presence-board
//
// The process that this starts is romeo, who starts juliet and nurse. Each prints how the board changes before its eyes.
// Type "juliet on the balcony" to give juliet a status line, "kill nurse" to see what the others make of that.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"strings"

	"github.com/starling-im/starling/cluster"
)

func main() {
	name, token, peers := "romeo", cluster.NewToken(), []string(nil)
	if len(os.Args) == 4 {
		name, token, peers = os.Args[1], os.Args[2], os.Args[3:]
	}
	n, err := cluster.Start(context.Background(), cluster.Config{
		Name: name, Cluster: "presence-board", Token: token, Listen: "127.0.0.1:0", Peers: peers, Log: slog.New(slog.DiscardHandler),
	})
	check(err)
	board := cluster.NewTable(n, "board", cluster.Text()) // a status line for everybody who is here
	go show(name, board.Watch(256))
	check(board.Put(name, "here"))
	check(n.Join(context.Background()))

	processes, doors := map[string]*os.Process{}, map[string]io.Writer{}
	if peers == nil {
		for _, other := range []string{"juliet", "nurse"} {
			p := exec.Command(os.Args[0], other, token, n.Self().Address)
			p.Stdout, p.Stderr = os.Stdout, os.Stderr
			doors[other], err = p.StdinPipe() // closed by the end of this process, which ends that one
			check(err)
			check(p.Start())
			processes[other] = p.Process
		}
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		who, what, _ := strings.Cut(in.Text(), " ")
		switch {
		case who == name:
			check(board.Put(name, what))
		case doors[who] != nil:
			_, _ = fmt.Fprintln(doors[who], in.Text()) // it may be dead
		case who == "kill" && processes[what] != nil:
			_ = processes[what].Kill()
		}
	}
	check(n.Close())
}

// show prints what changes on the board.
func show(name string, changes *cluster.Subscription[cluster.Change[string]]) {
	for c := range changes.C {
		switch {
		case c.New == nil:
			fmt.Printf("%s sees: %s is gone\n", name, c.Key)
		case c.Old == nil:
			fmt.Printf("%s sees: %s is %s\n", name, c.Key, c.New.Value)
		default:
			fmt.Printf("%s sees: %s is now %s\n", name, c.Key, c.New.Value)
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
