// Visors that ask a setup node for routes, and do what it asks of them, by Go's net/rpc.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/rpc"
	"strings"
	"sync"
	"time"
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

func descriptor(from, to PubKey, fromPort, toPort uint16) (d RouteDescriptor) {
	copy(d[:33], from[:])
	copy(d[33:66], to[:])
	binary.BigEndian.PutUint16(d[66:], fromPort)
	binary.BigEndian.PutUint16(d[68:], toPort)
	return d
}

// RouteID names a rule in one visor's table.
type RouteID uint32

// Rule is what a visor does with packets of one id.
type Rule []byte

const (
	consume = iota
	forward
	intermediary
)

func (r Rule) kind() byte  { return r[8] }
func (r Rule) id() RouteID { return RouteID(binary.BigEndian.Uint32(r[9:])) }

// ends returns the descriptor of a rule of an end.
func (r Rule) ends() (d RouteDescriptor) {
	copy(d[:], r[13:])
	return d
}

// next returns the transport that a rule sends to, and the id there.
func (r Rule) next() (transport UUID, id RouteID) {
	rest := r[13:]
	if r.kind() == forward {
		rest = rest[70:]
	}
	copy(transport[:], rest[4:])
	return transport, RouteID(binary.BigEndian.Uint32(rest))
}

// Hop is a transport from one visor to the next.
type Hop struct {
	TpID UUID
	From PubKey
	To   PubKey
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

// visor is a client with a table of rules.
type visor struct {
	client *Client
	setup  PubKey

	mu        sync.Mutex
	last      RouteID
	reserved  map[RouteID]bool
	rules     map[RouteID]Rule
	groups    map[RouteDescriptor]EdgeRules
	noTransit bool
}

// RPCGateway is what a setup node asks.
type RPCGateway struct{ *visor }

func newVisor(client *Client, setup PubKey) *visor {
	v := &visor{
		client:   client,
		setup:    setup,
		reserved: map[RouteID]bool{},
		rules:    map[RouteID]Rule{},
		groups:   map[RouteDescriptor]EdgeRules{},
	}
	go v.serve()
	// The server answers once it has the session.
	_, err := client.mux.Ping()
	check(err, "ping")
	return v
}

// serve answers the setup node, and nobody else.
func (v *visor) serve() {
	server := rpc.NewServer()
	check(server.RegisterName("RPCGateway", RPCGateway{v}), "register")
	for {
		stream, peer, err := v.client.acceptFrom(136)
		if errors.Is(err, errNoListener) {
			continue
		}
		if err != nil {
			return
		}
		must(peer == v.setup, "somebody else asks for rules")
		go server.ServeConn(stream)
	}
}

// ReserveIDs gives as many ids.
func (g RPCGateway) ReserveIDs(n uint8, ids *[]RouteID) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := uint8(0); i < n; i++ {
		g.last++
		g.reserved[g.last] = true
		*ids = append(*ids, g.last)
	}
	return nil
}

// AddIntermediaryRules takes rules for what passes.
func (g RPCGateway) AddIntermediaryRules(rules []Rule, ok *bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.noTransit {
		return Failure{1, "does not transit"}
	}
	for _, rule := range rules {
		must(rule.kind() == intermediary && len(rule) == 50, "a rule for what passes")
		g.add(rule)
	}
	*ok = true
	return nil
}

// AddEdgeRules takes the rules of an end.
func (g RPCGateway) AddEdgeRules(rules EdgeRules, ok *bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.introduce(rules)
	*ok = true
	return nil
}

// DelRules forgets.
func (g RPCGateway) DelRules(ids []RouteID, ok *bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range ids {
		delete(g.reserved, id)
		delete(g.rules, id)
	}
	*ok = true
	return nil
}

func (v *visor) add(rule Rule) {
	must(v.reserved[rule.id()], "a rule for an id that was not reserved")
	delete(v.reserved, rule.id())
	must(binary.BigEndian.Uint64(rule) == uint64(30*time.Second), "the keep-alive time that was asked for")
	v.rules[rule.id()] = rule
}

func (v *visor) introduce(rules EdgeRules) {
	must(rules.Forward.kind() == forward && len(rules.Forward) == 120, "a rule for what leaves")
	must(rules.Reverse.kind() == consume && len(rules.Reverse) == 83, "a rule for what arrives")
	v.add(rules.Forward)
	v.add(rules.Reverse)
	v.groups[rules.Desc] = rules
}

// holds returns ids that are reserved and rules.
func (v *visor) holds() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.reserved) + len(v.rules)
}

// ask makes one call of the setup node.
func (v *visor) ask(source uint16, method string, asked, answered interface{}) error {
	stream, err := v.client.dial(v.setup, source, 36)
	if err != nil {
		return err
	}
	client := rpc.NewClient(stream)
	defer client.Close()
	return client.Call("SetupRPCGateway."+method, asked, answered)
}

func (v *visor) dialRoute(source uint16, route BidirectionalRoute) (rules EdgeRules, err error) {
	return rules, v.ask(source, "DialRouteGroup", route, &rules)
}

// path returns hops over these visors, with a transport for each pair.
func path(visors ...*visor) (hops []Hop) {
	for i := range visors[1:] {
		from, to := visors[i].client.key.pub, visors[i+1].client.key.pub
		hop := Hop{From: from, To: to}
		copy(hop.TpID[:8], from[1:])
		copy(hop.TpID[8:], to[1:])
		hops = append(hops, hop)
	}
	return hops
}

// walk follows a packet along hops by the rules in the visors' tables.
func walk(rule Rule, hops []Hop, visors []*visor) Rule {
	for _, hop := range hops {
		must(rule.kind() != consume, "a packet goes on")
		transport, id := rule.next()
		must(transport == hop.TpID, "over the transport of the route")
		for _, v := range visors {
			if v.client.key.pub == hop.To {
				v.mu.Lock()
				rule = v.rules[id]
				v.mu.Unlock()
			}
		}
		must(rule != nil, "the next visor has a rule for it")
	}
	must(rule.kind() == consume, "a packet arrives")
	return rule
}

// routes has a source, a destination and one in between set up a route over the server.
func routes(a, b, c *Client, setup PubKey) {
	source, between, destination := newVisor(a, setup), newVisor(b, setup), newVisor(c, setup)
	visors := []*visor{source, between, destination}
	var health HealthCheckReply
	soon(func() bool { return source.ask(49200, "HealthCheck", &HealthCheckArgs{}, &health) == nil }, "health")
	must(health.Status == "OK" && health.Version != "", "health "+health.Status)
	err := source.ask(49201, "Capabilities", &HealthCheckArgs{}, &health)
	must(err != nil && strings.HasPrefix(err.Error(), "rpc: can't find method"), "no capabilities")
	fmt.Println("ok health")

	there := descriptor(a.key.pub, c.key.pub, 50000, 80)
	back := descriptor(c.key.pub, a.key.pub, 80, 50000)
	route := BidirectionalRoute{
		Desc:      there,
		KeepAlive: 30 * time.Second,
		Forward:   path(source, between, destination),
		Reverse:   path(destination, between, source),
	}
	rules, err := source.dialRoute(49202, route)
	check(err, "route")
	source.mu.Lock()
	source.introduce(rules)
	source.mu.Unlock()
	end, is := destination.groups[there]
	must(is && rules.Desc == back, "groups have the descriptors of what arrives")
	must(walk(rules.Forward, route.Forward, visors).ends() == there, "there")
	must(walk(end.Forward, route.Reverse, visors).ends() == back, "back")
	must(rules.Forward.ends() == there && end.Forward.ends() == back, "what leaves")
	for _, v := range visors {
		must(v.holds() == 2 && len(v.reserved) == 0, "two rules and nothing else")
	}
	fmt.Println("ok route")

	refusedRoutes(source, between, destination, route)
	fmt.Println("ok refused routes")
}

// refusedRoutes leave nothing with anybody, and say why at once.
func refusedRoutes(source, between, destination *visor, route BidirectionalRoute) {
	began := time.Now()
	between.noTransit = true
	_, err := source.dialRoute(49203, route)
	must(err != nil && strings.Contains(err.Error(), "does not transit"), fmt.Sprint("refused by a visor: ", err))
	between.noTransit = false

	gone := &visor{client: &Client{key: newKey()}}
	absent := route
	absent.Forward = path(source, gone, destination)
	_, err = source.dialRoute(49204, absent)
	must(err != nil && strings.Contains(err.Error(), fmt.Sprintf("%x", gone.client.key.pub[:])),
		fmt.Sprint("a visor that is not there: ", err))

	_, err = destination.dialRoute(49205, route)
	must(err != nil && strings.Contains(err.Error(), "who asks"), fmt.Sprint("somebody else's route: ", err))
	_, err = source.dialRoute(49206, BidirectionalRoute{Desc: route.Desc})
	must(err != nil && err.Error() == "bidirectional route does not have forward hops", fmt.Sprint("no hops: ", err))
	relay := route
	relay.Forward = path(source, &visor{client: &Client{key: Key{pub: source.setup}}}, destination)
	_, err = source.dialRoute(49207, relay)
	must(err != nil && strings.Contains(err.Error(), "no visor"), fmt.Sprint("the relay as a visor: ", err))
	stream, err := source.client.dial(source.setup, 49208, 36)
	check(err, "a stream to the setup node")
	_, err = stream.Write([]byte("\x05what?"))
	check(err, "what is no call")
	_, err = stream.Read(make([]byte, 1))
	must(err != nil, "what is no call ends the stream")
	must(time.Since(began) < 3*time.Second, "refusals took "+time.Since(began).String())
	for _, v := range []*visor{source, between, destination} {
		soon(func() bool { return v.holds() == 2 }, "nothing is left of refused routes")
	}
}
