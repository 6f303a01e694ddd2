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

// usage: dmsg SERVERKEY ADDRESS
func main() {
	server, address := parseKey(os.Args[1]), os.Args[2]
	join := func(key Key) *Client {
		client, err := connect(key, server, address)
		check(err, "session")
		return client
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
