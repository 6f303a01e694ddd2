// Package routing has the types of the calls of route setup, as Skywire's visors and setup nodes send them.
//
// Only names, types and order of the fields are facts of the wire; what stands in no field is left out.
package routing

import (
	"fmt"
	"time"

	"ringway/golden/dmsg"
)

// UUID names a transport.
type UUID [16]byte

// MarshalBinary returns the bytes.
func (u UUID) MarshalBinary() ([]byte, error) { return u[:], nil }

// UnmarshalBinary takes the bytes.
func (u *UUID) UnmarshalBinary(data []byte) error {
	if copy(u[:], data) != len(data) || len(data) != len(u) {
		return fmt.Errorf("a UUID of %d bytes", len(data))
	}
	return nil
}

// RouteDescriptor is the two keys and the two ports of a route.
type RouteDescriptor [70]byte

// RouteID names a rule in one visor's table.
type RouteID uint32

// Rule is what a visor does with packets of one id.
type Rule []byte

// Hop is a transport from one visor to the next.
type Hop struct {
	TpID UUID
	From dmsg.PubKey
	To   dmsg.PubKey
}

// BidirectionalRoute is what a setup node is asked for.
type BidirectionalRoute struct {
	Desc      RouteDescriptor
	KeepAlive time.Duration
	Forward   []Hop
	Reverse   []Hop
}

// EdgeRules are the rules of one end.
type EdgeRules struct {
	Desc    RouteDescriptor
	Forward Rule
	Reverse Rule
}

// Failure is how a visor says no.
type Failure struct {
	Code byte
	Msg  string
}

func (f Failure) Error() string { return fmt.Sprintf("failure code %d (%s)", f.Code, f.Msg) }

// HealthCheckArgs asks a setup node whether it is there.
type HealthCheckArgs struct{}

// HealthCheckReply says that it is.
type HealthCheckReply struct {
	Status  string
	Version string
	Commit  string
	Date    string
}
