// Package dmsg2024 has the two objects that open a stream of dmsg, as of 2024.
package dmsg2024

import (
	"net"

	"ringway/golden/dmsg"
)

// StreamRequest opens a stream.
type StreamRequest struct {
	Timestamp int64
	SrcAddr   dmsg.Addr
	DstAddr   dmsg.Addr
	IPinfo    bool
	NoiseMsg  []byte
}

// StreamResponse answers a StreamRequest.
type StreamResponse struct {
	ReqHash  dmsg.SHA256
	Accepted bool
	IP       net.IP
	ErrCode  uint16
	NoiseMsg []byte
}
