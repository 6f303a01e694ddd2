// Package dmsg has the two objects that open a stream of dmsg, as of 2026.
//
// Only names, types and order of the fields are facts of the wire; what stands in no field is left out.
package dmsg

import (
	"fmt"
	"net"
)

// PubKey is a compressed point.
type PubKey [33]byte

// MarshalBinary returns the bytes.
func (k PubKey) MarshalBinary() ([]byte, error) { return k[:], nil }

// UnmarshalBinary takes the bytes.
func (k *PubKey) UnmarshalBinary(data []byte) error {
	if copy(k[:], data) != len(data) || len(data) != len(k) {
		return fmt.Errorf("a key of %d bytes", len(data))
	}
	return nil
}

// SHA256 is a hash.
type SHA256 [32]byte

// Addr is a key and a port.
type Addr struct {
	PK   PubKey
	Port uint16
}

// StreamRequest opens a stream.
type StreamRequest struct {
	Timestamp int64
	SrcAddr   Addr
	DstAddr   Addr
	IPinfo    bool
	GeoInfo   bool
	NoiseMsg  []byte
}

// StreamResponse answers a StreamRequest.
type StreamResponse struct {
	ReqHash    SHA256
	Accepted   bool
	IP         net.IP
	GeoCountry string
	GeoRegion  string
	GeoLat     float64
	GeoLon     float64
	ErrCode    uint16
	NoiseMsg   []byte
}

// PeerAnnounce tells a server that its client is a server, too.
type PeerAnnounce struct {
	Timestamp int64
	SrcPK     PubKey
}
