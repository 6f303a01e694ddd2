package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

func check(err error, what string) {
	if err != nil {
		fmt.Println("FAILED", what, err)
		os.Exit(1)
	}
}

func must(is bool, what string) {
	if !is {
		check(errors.New("not so"), what)
	}
}

// usage: dmsg SERVERKEY ADDRESS [routes | SERVERKEY ADDRESS DISCOVERY]
//
// With two servers the clients have one each, and tell the discovery which.
func main() {
	server, address := parseKey(os.Args[1]), os.Args[2]
	if len(os.Args) == 6 {
		acrossServers(server, address, parseKey(os.Args[3]), os.Args[4], os.Args[5])
		return
	}
	join := func(key Key) *Client {
		client, err := connect(key, server, address)
		check(err, "session")
		return client
	}
	if len(os.Args) == 4 {
		routes(join(newKey()), join(newKey()), join(newKey()), server)
		return
	}
	a, b := join(newKey()), join(newKey())
	for _, client := range []*Client{a, b} {
		_, err := client.mux.Ping()
		check(err, "ping")
	}
	go b.serve(80)
	fmt.Println("ok session")

	ip, err := a.lookupIP()
	check(err, "lookup")
	must(ip.Equal(net.IPv4(127, 0, 0, 1)), "address "+ip.String())
	fmt.Println("ok address")

	bothWays(a, b)
	fmt.Println("ok stream")

	refusals(a, b)
	fmt.Println("ok refusals")

	many(a, b)
	fmt.Println("ok many")

	newest(a, b, join)
	fmt.Println("ok newest")
	soon(func() bool { return a.mux.NumStreams() == 0 }, "no stream is left")
	fmt.Println("ok nothing left")
}

// acrossServers has clients of two servers dial each other, in both directions.
func acrossServers(first PubKey, firstAt string, second PubKey, secondAt string, discovery string) {
	a, err := connect(newKey(), first, firstAt)
	check(err, "session")
	b, err := connect(newKey(), second, secondAt)
	check(err, "session")
	go a.serve(80)
	go b.serve(80)
	check(a.register(discovery), "register")
	check(b.register(discovery), "register")
	for _, way := range [][2]*Client{{a, b}, {b, a}} {
		// The servers have a link a moment after both are in the discovery.
		var stream *Stream
		soon(func() bool {
			stream, err = way[0].dial(way[1].key.pub, 49200, 80)
			return err == nil
		}, "a stream across servers")
		echo(stream, bytes.Repeat([]byte("across"), 100_000))
	}
	refusals(a, b)
	fmt.Println("ok across")
	c, err := connect(newKey(), second, secondAt)
	check(err, "session")
	check(c.register(discovery), "register")
	d, err := connect(newKey(), first, firstAt)
	check(err, "session")
	check(d.register(discovery), "register")
	e, err := connect(newKey(), second, secondAt)
	check(err, "session")
	check(e.register(discovery), "register")
	// The setup node is the first server, and two of the visors are clients of the second one.
	routes(d, c, e, first)
	soon(func() bool { return a.mux.NumStreams() == 0 && b.mux.NumStreams() == 0 }, "no stream is left")
	fmt.Println("ok nothing left")
}

// serve echoes what comes on a port, and ends with the last byte.
func (c *Client) serve(port uint16) {
	for {
		stream, err := c.accept(port)
		if errors.Is(err, errNoListener) {
			continue
		}
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(stream, stream)
			_ = stream.Close()
		}()
	}
}

// echo sends bytes and reads them back. This version of yamux reads nothing more once it has closed its half.
func echo(stream *Stream, sent []byte) {
	go func() {
		_, err := stream.Write(sent)
		check(err, "write")
	}()
	got := make([]byte, len(sent))
	_, err := io.ReadFull(stream, got)
	check(err, "read")
	must(bytes.Equal(got, sent), "same bytes")
	check(stream.Close(), "close")
}

// bothWays sends several windows and reads them back.
func bothWays(a, b *Client) {
	stream, err := a.dial(b.key.pub, 49152, 80)
	check(err, "dial")
	sent := make([]byte, 3<<20)
	for i := range sent {
		sent[i] = byte(i * 7 >> 3)
	}
	echo(stream, sent)
}

// refusals end at once, not after a time-out.
func refusals(a, b *Client) {
	for what, dial := range map[string]func() (*Stream, error){
		"nobody":  func() (*Stream, error) { return a.dial(newKey().pub, 49153, 80) },
		"no port": func() (*Stream, error) { return a.dial(b.key.pub, 49154, 81) },
	} {
		began := time.Now()
		_, err := dial()
		must(err != nil, what+" was dialed")
		must(time.Since(began) < 2*time.Second, what+" took "+time.Since(began).String())
	}
	stream, err := a.dial(b.key.pub, 49155, 80)
	check(err, "dial after refusals")
	echo(stream, []byte("still here"))
}

// many streams at once, each with bytes of its own.
func many(a, b *Client) {
	var all sync.WaitGroup
	for i := 0; i < 200; i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			stream, err := a.dial(b.key.pub, uint16(50000+i), 80)
			check(err, "dial")
			echo(stream, bytes.Repeat([]byte{byte(i)}, 10_000))
		}(i)
	}
	all.Wait()
}

// newest session of a key is the one that is dialed.
func newest(a, b *Client, join func(Key) *Client) {
	again := join(b.key)
	go again.serve(82)
	_, err := again.mux.Ping()
	check(err, "ping")
	stream, err := a.dial(b.key.pub, 49156, 82)
	check(err, "dial the newest")
	echo(stream, []byte("newest"))
	soon(b.mux.IsClosed, "the older session ends")
}

// soon waits until something is so.
func soon(is func() bool, what string) {
	for deadline := time.Now().Add(10 * time.Second); !is(); {
		must(time.Now().Before(deadline), what)
		time.Sleep(10 * time.Millisecond)
	}
}
