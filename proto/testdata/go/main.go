// Command golden writes what Go's own encoding/gob and net/rpc make of the values that the tests of dmsg
// expect, as golden vectors:
//
//	cd proto/testdata/go && go run . ../dmsg_gob.hex ../dmsg_rpc.hex
//
// The ids of types depend on the order in which a process uses them first; main fixes it.
package main

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"strings"

	"ringway/golden/dmsg"
	"ringway/golden/dmsg2024"
	"ringway/golden/routing"
)

func main() {
	if len(os.Args) != 3 {
		fail(fmt.Errorf("usage: golden GOB RPC"))
	}
	number(
		dmsg.StreamRequest{}, dmsg.StreamResponse{}, dmsg.PeerAnnounce{},
		rpc.Request{}, rpc.Response{}, struct{}{},
		routing.HealthCheckArgs{}, routing.HealthCheckReply{},
		routing.BidirectionalRoute{}, routing.EdgeRules{}, []routing.Rule{}, []routing.RouteID{},
		dmsg2024.StreamRequest{}, dmsg2024.StreamResponse{},
	)
	gobs := &file{}
	gobs.comment("gob streams of Go's encoding/gob, made by proto/testdata/go")
	numbers(gobs)
	kinds(gobs)
	objects(gobs)
	gobs.save(os.Args[1])

	calls := &file{}
	calls.comment("conversations of Go's net/rpc, one direction a vector, made by proto/testdata/go")
	setup(calls)
	router(calls)
	calls.save(os.Args[2])
}

// number gives ids to the types of values, in this order.
func number(values ...any) {
	for _, value := range values {
		must(gob.NewEncoder(io.Discard).Encode(value))
	}
}

// file is a golden file: a comment, and one paragraph a vector.
type file struct{ text strings.Builder }

func (f *file) comment(text string) { fmt.Fprintf(&f.text, "# %s\n", text) }

func (f *file) vector(name string, encoded []byte) {
	fmt.Fprintf(&f.text, "\nname: %s\nhex: %x\n", name, encoded)
}

func (f *file) save(path string) { must(os.WriteFile(path, []byte(f.text.String()), 0o644)) }

// stream returns the stream of these values.
func stream(values ...any) []byte {
	var out bytes.Buffer
	encoder := gob.NewEncoder(&out)
	for _, value := range values {
		must(encoder.Encode(value))
	}
	return out.Bytes()
}

func must(err error) {
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "golden:", err)
	os.Exit(1)
}
