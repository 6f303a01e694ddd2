package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"strings"
	"time"

	"ringway/golden/dmsg"
	"ringway/golden/routing"
)

// setupGateway answers as a setup node would.
type setupGateway struct{}

// HealthCheck says that the node is there.
func (setupGateway) HealthCheck(_ *routing.HealthCheckArgs, reply *routing.HealthCheckReply) error {
	*reply = routing.HealthCheckReply{Status: "OK", Version: "1.0", Commit: "c", Date: "d"}
	return nil
}

// DialRouteGroup answers routes that are kept alive, and refuses the others.
func (setupGateway) DialRouteGroup(route routing.BidirectionalRoute, rules *routing.EdgeRules) error {
	switch route.KeepAlive {
	case 0:
		return errors.New("bidirectional route does not have forward hops")
	case 1:
		return errors.New(strings.Repeat("long ", 200))
	}
	*rules = edgeRules(route.Desc)
	return nil
}

// rpcGateway answers as a visor would.
type rpcGateway struct{}

// ReserveIDs gives as many ids, unless there are too many.
func (rpcGateway) ReserveIDs(n uint8, ids *[]routing.RouteID) error {
	if n == 255 {
		return routing.Failure{Code: 4, Msg: "no ids"}
	}
	for i := uint8(0); i < n; i++ {
		*ids = append(*ids, routing.RouteID(uint32(i)*0x7f))
	}
	return nil
}

// AddIntermediaryRules takes all rules but none.
func (rpcGateway) AddIntermediaryRules(rules []routing.Rule, ok *bool) error {
	*ok = len(rules) > 0
	return nil
}

// AddEdgeRules refuses.
func (rpcGateway) AddEdgeRules(_ routing.EdgeRules, _ *bool) error {
	return routing.Failure{Code: 1, Msg: "rules exist"}
}

// DelRules forgets.
func (rpcGateway) DelRules(_ []routing.RouteID, ok *bool) error {
	*ok = true
	return nil
}

func setup(out *file) {
	conversation(out, "setup", "SetupRPCGateway", setupGateway{}, func(client *rpc.Client) {
		var health routing.HealthCheckReply
		must(client.Call("SetupRPCGateway.HealthCheck", &routing.HealthCheckArgs{}, &health))
		var rules routing.EdgeRules
		must(client.Call("SetupRPCGateway.DialRouteGroup", route(30*time.Second), &rules))
		refused(client.Call("SetupRPCGateway.DialRouteGroup", routing.BidirectionalRoute{}, &rules))
		refused(client.Call("SetupRPCGateway.DialRouteGroup", route(1), &rules))
		must(client.Call("SetupRPCGateway.DialRouteGroup", route(time.Hour), &rules))
	})
	conversation(out, "unknown", "SetupRPCGateway", setupGateway{}, func(client *rpc.Client) {
		var health routing.HealthCheckReply
		var rules routing.EdgeRules
		refused(client.Call("SetupRPCGateway.Capabilities", &routing.HealthCheckArgs{}, &health))
		refused(client.Call("TransportGateway.AddTransport", route(1), &rules))
		refused(client.Call("Nothing", &routing.HealthCheckArgs{}, &health))
		must(client.Call("SetupRPCGateway.HealthCheck", &routing.HealthCheckArgs{}, &health))
	})
}

func router(out *file) {
	conversation(out, "three ids", "RPCGateway", rpcGateway{}, func(client *rpc.Client) {
		var ids []routing.RouteID
		must(client.Call("RPCGateway.ReserveIDs", uint8(3), &ids))
	})
	conversation(out, "router", "RPCGateway", rpcGateway{}, func(client *rpc.Client) {
		var ids []routing.RouteID
		must(client.Call("RPCGateway.ReserveIDs", uint8(3), &ids))
		must(client.Call("RPCGateway.ReserveIDs", uint8(0), &ids))
		refused(client.Call("RPCGateway.ReserveIDs", uint8(255), &ids))
		var ok bool
		rules := []routing.Rule{intermediary(1, 0x80, uuid(1)), intermediary(0xffffffff, 2, uuid(0x80))}
		must(client.Call("RPCGateway.AddIntermediaryRules", rules, &ok))
		must(client.Call("RPCGateway.AddIntermediaryRules", []routing.Rule{}, &ok))
		refused(client.Call("RPCGateway.AddEdgeRules", edgeRules(descriptor()), &ok))
		must(client.Call("RPCGateway.DelRules", []routing.RouteID{1, 0xffffffff}, &ok))
	})
}

// conversation lets a client of net/rpc talk with its server and writes what each has said.
func conversation(out *file, name, service string, receiver any, talk func(*rpc.Client)) {
	here, there := net.Pipe()
	asked, answered := &recorder{ReadWriteCloser: here}, &recorder{ReadWriteCloser: there}
	server := rpc.NewServer()
	must(server.RegisterName(service, receiver))
	done := make(chan struct{})
	go func() {
		server.ServeConn(answered)
		close(done)
	}()
	client := rpc.NewClient(asked)
	talk(client)
	must(client.Close())
	<-done
	out.vector(name+": asked", asked.written.Bytes())
	out.vector(name+": answered", answered.written.Bytes())
}

// recorder keeps what is written.
type recorder struct {
	io.ReadWriteCloser
	written bytes.Buffer
}

func (r *recorder) Write(data []byte) (int, error) {
	r.written.Write(data)
	return r.ReadWriteCloser.Write(data)
}

func refused(err error) {
	if _, is := err.(rpc.ServerError); !is {
		fail(fmt.Errorf("not refused by the server: %v", err))
	}
}

func descriptor() (desc routing.RouteDescriptor) {
	from, to := key(2), key(3)
	copy(desc[:33], from[:])
	copy(desc[33:66], to[:])
	copy(desc[66:], []byte{0xc0, 0x00, 0x00, 0x2c})
	return desc
}

func edgeRules(desc routing.RouteDescriptor) routing.EdgeRules {
	return routing.EdgeRules{Desc: desc, Forward: forward(3, 4, uuid(1), desc), Reverse: consume(5, desc)}
}

// consume is a rule for what arrives.
func consume(id uint32, desc routing.RouteDescriptor) routing.Rule {
	return append(head(0, id), desc[:]...)
}

// forward is a rule for what leaves.
func forward(id, next uint32, transport routing.UUID, desc routing.RouteDescriptor) routing.Rule {
	return append(append(head(1, id), desc[:]...), step(next, transport)...)
}

// intermediary is a rule for what passes.
func intermediary(id, next uint32, transport routing.UUID) routing.Rule {
	return append(head(2, id), step(next, transport)...)
}

// head is what all rules begin with.
func head(kind byte, id uint32) routing.Rule {
	rule := binary.BigEndian.AppendUint64(nil, uint64(30*time.Second))
	return binary.BigEndian.AppendUint32(append(rule, kind), id)
}

// step is where a packet goes: an id, a transport, and as many bytes as a key is longer than that.
func step(next uint32, transport routing.UUID) []byte {
	step := append(binary.BigEndian.AppendUint32(nil, next), transport[:]...)
	return append(step, make([]byte, 33-len(transport))...)
}

func route(keepAlive time.Duration) routing.BidirectionalRoute {
	middle := key(2)
	middle[32] = 1
	there := []routing.Hop{
		{TpID: uuid(1), From: key(2), To: middle},
		{TpID: uuid(0x80), From: middle, To: key(3)},
	}
	back := []routing.Hop{{TpID: routing.UUID{}, From: key(3), To: dmsg.PubKey(key(2))}}
	return routing.BidirectionalRoute{Desc: descriptor(), KeepAlive: keepAlive, Forward: there, Reverse: back}
}

func uuid(first byte) (id routing.UUID) {
	for i := range id {
		id[i] = first + byte(i)
	}
	return id
}
