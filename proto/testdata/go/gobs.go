package main

import (
	"encoding/gob"
	"fmt"
	"math"
	"net"

	"ringway/golden/dmsg"
	"ringway/golden/dmsg2024"
)

func numbers(out *file) {
	for _, number := range []int64{
		0, 1, -1, 63, 64, -64, -65, 127, 128, -128, -129, 1 << 31, -1 << 31, math.MaxInt64, math.MinInt64,
	} {
		out.vector(fmt.Sprintf("int %d", number), stream(number))
	}
	for _, number := range []uint64{0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x10000, math.MaxUint32, math.MaxUint64} {
		out.vector(fmt.Sprintf("uint %d", number), stream(number))
	}
	for _, number := range []float64{
		0, 1, -1, 17, 0.1, 48.8566, -122.4194, math.MaxFloat64, math.SmallestNonzeroFloat64, math.Inf(1),
	} {
		out.vector(fmt.Sprintf("float %v", number), stream(number))
	}
	for _, boolean := range []bool{false, true} {
		out.vector(fmt.Sprintf("bool %v", boolean), stream(boolean))
	}
}

// everything has a field of every kind that dmsg uses.
type everything struct {
	Bool   bool
	Int    int32
	Uint   uint16
	Float  float64
	Bytes  []byte
	Text   string
	Key    dmsg.PubKey
	Hash   dmsg.SHA256
	Addr   dmsg.Addr
	Addrs  []dmsg.Addr
	Chunks [][]byte
	Last   uint64
}

// tree contains itself.
type tree struct {
	Name     string
	Children []tree
}

// newer is a StreamRequest with fields that nobody has heard of, before, between and behind the known ones.
type newer struct {
	First     map[string]map[int][]string
	Timestamp int64
	Second    tree
	SrcAddr   newerAddr
	Third     []any
	DstAddr   newerAddr
	Fourth    [2][3]complex128
	Fifth     *newerAddr
	Sixth     struct{ Deep struct{ Deeper []float32 } }
	NoiseMsg  []byte
	Seventh   any
	Eighth    [4]byte
	Ninth     map[dmsg.PubKey]bool
	Tenth     fmt.Stringer
}

type newerAddr struct {
	Before []uint64
	PK     dmsg.PubKey
	Port   uint16
	After  string
}

func kinds(out *file) {
	out.vector("bytes", stream([]byte{0, 0x7f, 0x80, 0xff}))
	out.vector("bytes, none", stream([]byte{}))
	out.vector("text", stream("text"))
	out.vector("array of bytes", stream([4]byte{0, 0x7f, 0x80, 0xff}))
	out.vector("list of numbers", stream([]uint32{0, 1, 0x80, math.MaxUint32}))
	out.vector("list of bytes", stream([][]byte{{}, {1}, {2, 3}}))
	out.vector("map", stream(map[string]int{"key": -5}))
	out.vector("complex", stream(complex(1, -2)))
	out.vector("key", stream(key(2)))
	out.vector("struct without fields", stream(struct{}{}))

	out.vector("everything, empty", stream(everything{}))
	full := everything{
		Bool: true, Int: math.MinInt32, Uint: math.MaxUint16, Float: 0.1,
		Bytes: []byte{0x80}, Text: "text", Key: key(2), Hash: hash(),
		Addr:   dmsg.Addr{Port: 1},
		Addrs:  []dmsg.Addr{{}, {PK: key(3), Port: 80}, {}},
		Chunks: [][]byte{{1, 2}, nil, {3}},
		Last:   math.MaxUint64,
	}
	out.vector("everything, full", stream(full))
	out.vector("everything, the last field only", stream(everything{Last: 1}))

	out.vector("several values of several types", stream(
		dmsg.Addr{PK: key(2), Port: 1}, "between", dmsg.Addr{PK: key(3), Port: 2}, []string{"a", ""},
		everything{Last: 3}, everything{Last: 4}, uint8(5),
	))
	deep := tree{Name: "1", Children: []tree{{Name: "2"}, {Children: []tree{{Name: "3"}}}}}
	out.vector("struct that contains itself", stream(deep))
}

func objects(out *file) {
	request := dmsg2024.StreamRequest{
		Timestamp: timestamp,
		SrcAddr:   dmsg.Addr{PK: key(2), Port: 49152},
		DstAddr:   dmsg.Addr{PK: key(3), Port: 36},
		NoiseMsg:  noise(),
	}
	out.vector("request of 2024", stream(request))
	lookup := dmsg2024.StreamRequest{
		Timestamp: timestamp, SrcAddr: request.SrcAddr, DstAddr: dmsg.Addr{PK: key(3), Port: 1}, IPinfo: true,
	}
	out.vector("request of 2024 for the address", stream(lookup))
	out.vector("request of 2026", stream(dmsg.StreamRequest{
		Timestamp: timestamp, SrcAddr: request.SrcAddr, DstAddr: request.DstAddr, NoiseMsg: noise(),
	}))
	out.vector("request of 2026 for the place", stream(dmsg.StreamRequest{
		Timestamp: timestamp, SrcAddr: request.SrcAddr, DstAddr: lookup.DstAddr, IPinfo: true, GeoInfo: true,
	}))
	out.vector("request without fields", stream(dmsg.StreamRequest{}))
	out.vector("request from before 1970", stream(dmsg.StreamRequest{Timestamp: math.MinInt64}))

	response := dmsg2024.StreamResponse{ReqHash: hash(), Accepted: true, NoiseMsg: noise()}
	out.vector("response of 2024", stream(response))
	out.vector("response of 2024 that refuses", stream(dmsg2024.StreamResponse{ReqHash: hash(), ErrCode: 306}))
	out.vector("response of 2024 with a short address", stream(dmsg2024.StreamResponse{
		ReqHash: hash(), Accepted: true, IP: net.IPv4(192, 0, 2, 1).To4(),
	}))
	out.vector("response of 2026", stream(dmsg.StreamResponse{ReqHash: hash(), Accepted: true, NoiseMsg: noise()}))
	out.vector("response of 2026 with the place", stream(dmsg.StreamResponse{
		ReqHash: hash(), Accepted: true, IP: net.ParseIP("2001:db8::1"),
		GeoCountry: "FR", GeoRegion: "IDF", GeoLat: 48.8566, GeoLon: 2.3522,
	}))
	out.vector("response without fields", stream(dmsg.StreamResponse{}))
	out.vector("announcement of a server", stream(dmsg.PeerAnnounce{Timestamp: timestamp, SrcPK: key(2)}))

	gob.Register(newerAddr{})
	gob.Register(tree{})
	addr := newerAddr{Before: []uint64{1, math.MaxUint64}, PK: key(2), Port: 49152, After: "after"}
	unknown := newer{
		First:     map[string]map[int][]string{"one": {-1: {"two", ""}}},
		Timestamp: timestamp,
		Second:    tree{Name: "1", Children: []tree{{Name: "2", Children: []tree{{}}}}},
		SrcAddr:   addr,
		Third:     []any{1, "two", nil, addr, []byte{3}, tree{Name: "in an interface"}},
		DstAddr:   newerAddr{PK: key(3), Port: 36},
		Fourth:    [2][3]complex128{{1, 2i, 3}, {}},
		Fifth:     &addr,
		NoiseMsg:  noise(),
		Seventh:   addr,
		Eighth:    [4]byte{0, 0x7f, 0x80, 0xff},
		Ninth:     map[dmsg.PubKey]bool{key(2): true},
	}
	unknown.Sixth.Deep.Deeper = []float32{0, 0.5, -1}
	out.vector("request with unknown fields", stream(unknown))
}

const timestamp = 1_700_000_000_123_456_789

// key returns 33 bytes: a prefix, then bytes of every length in an array.
func key(prefix byte) (key dmsg.PubKey) {
	for i := range key {
		key[i] = byte(i * 8)
	}
	key[0] = prefix
	return key
}

func hash() (hash dmsg.SHA256) {
	for i := range hash {
		hash[i] = byte(255 - i*8)
	}
	return hash
}

func noise() []byte {
	noise := make([]byte, 49)
	for i := range noise {
		noise[i] = byte(i + 100)
	}
	return noise
}
