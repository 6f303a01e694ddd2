// A client of the dmsg dialect, written from docs/dmsg.md on the libraries that the Go implementation stands
// on: flynn/noise, hashicorp/yamux, encoding/gob. Nothing here is shared with the relay's own code, so what
// both agree on is the wire.
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/btcsuite/btcd/btcec"
	"github.com/flynn/noise"
	"github.com/hashicorp/yamux"
)

// PubKey is a compressed point.
type PubKey [33]byte

// MarshalBinary makes gob carry the key as bytes.
func (k PubKey) MarshalBinary() ([]byte, error) { return k[:], nil }

// UnmarshalBinary reads them.
func (k *PubKey) UnmarshalBinary(b []byte) error {
	if copy(k[:], b) != len(k) {
		return errors.New("public key of a wrong length")
	}
	return nil
}

// SHA256 is a hash; gob carries it number by number.
type SHA256 [32]byte

// Addr is where a stream starts or ends.
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
	NoiseMsg  []byte
}

// StreamResponse answers it.
type StreamResponse struct {
	ReqHash  SHA256
	Accepted bool
	IP       net.IP
	ErrCode  uint16
	NoiseMsg []byte
}

// Key is a key pair.
type Key struct {
	secret *btcec.PrivateKey
	pub    PubKey
}

func newKey() Key {
	secret, err := btcec.NewPrivateKey(btcec.S256())
	check(err, "key")
	return keyOf(secret)
}

func keyOf(secret *btcec.PrivateKey) Key {
	k := Key{secret: secret}
	copy(k.pub[:], secret.PubKey().SerializeCompressed())
	return k
}

func (k Key) dhKey() noise.DHKey {
	var secret [32]byte
	k.secret.D.FillBytes(secret[:])
	return noise.DHKey{Private: secret[:], Public: append([]byte(nil), k.pub[:]...)}
}

func (k Key) sign(payload []byte) []byte {
	hash := sha256.Sum256(payload)
	compact, err := btcec.SignCompact(btcec.S256(), k.secret, hash[:], true)
	check(err, "sign")
	return append(append([]byte(nil), compact[1:]...), compact[0]-31)
}

func verify(pub PubKey, payload, sig []byte) error {
	hash := sha256.Sum256(payload)
	compact := append([]byte{sig[64] + 31}, sig[:64]...)
	found, _, err := btcec.RecoverCompact(btcec.S256(), compact, hash[:])
	if err != nil {
		return err
	}
	if !bytes.Equal(found.SerializeCompressed(), pub[:]) {
		return errors.New("signed by another key")
	}
	return nil
}

type secp256k1 struct{}

func (secp256k1) GenerateKeypair(io.Reader) (noise.DHKey, error) { return newKey().dhKey(), nil }
func (secp256k1) DHLen() int                                     { return 33 }
func (secp256k1) DHName() string                                 { return "Secp256k1" }
func (secp256k1) DH(secret, public []byte) ([]byte, error) {
	point, err := btcec.ParsePubKey(public, btcec.S256())
	if err != nil {
		return nil, err
	}
	x, y := btcec.S256().ScalarMult(point.X, point.Y, secret)
	shared := btcec.PublicKey{Curve: btcec.S256(), X: x, Y: y}
	hash := sha256.Sum256(shared.SerializeCompressed())
	return append(hash[:], 0), nil
}

var suite = noise.NewCipherSuite(secp256k1{}, noise.CipherChaChaPoly, noise.HashSHA256)

// sealer and opener of one direction, nonces counting from 1.
type direction struct {
	mu     sync.Mutex
	cipher noise.Cipher
	nonce  uint64
}

func (d *direction) seal(plain []byte) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nonce++
	out := make([]byte, 8, 8+len(plain)+16)
	binary.BigEndian.PutUint64(out, d.nonce)
	return d.cipher.Encrypt(out, d.nonce, nil, plain)
}

func (d *direction) open(sealed []byte) ([]byte, error) {
	if len(sealed) < 8 {
		return nil, errors.New("object too short")
	}
	return d.cipher.Decrypt(nil, binary.BigEndian.Uint64(sealed), nil, sealed[8:])
}

func readFrame(r io.Reader) ([]byte, error) {
	var prefix [2]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint16(prefix[:]))
	_, err := io.ReadFull(r, body)
	return body, err
}

func writeFrame(w io.Writer, body []byte) error {
	frame := make([]byte, 2, 2+len(body))
	binary.BigEndian.PutUint16(frame, uint16(len(body)))
	_, err := w.Write(append(frame, body...))
	return err
}

// Client is a session with a server.
type Client struct {
	key    Key
	server PubKey
	conn   net.Conn
	mux    *yamux.Session
	out    direction
	in     direction
}

// connect makes a session.
func connect(key Key, server PubKey, address string) (*Client, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	state, err := noise.NewHandshakeState(noise.Config{
		CipherSuite:   suite,
		Random:        rand.Reader,
		Pattern:       noise.HandshakeXK,
		Initiator:     true,
		StaticKeypair: key.dhKey(),
		PeerStatic:    server[:],
	})
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	first, _, _, err := state.WriteMessage(nil, nil)
	if err != nil {
		return nil, err
	}
	if err := writeFrame(conn, first); err != nil {
		return nil, err
	}
	second, err := readFrame(conn)
	if err != nil {
		return nil, err
	}
	if _, _, _, err := state.ReadMessage(nil, second); err != nil {
		return nil, err
	}
	third, k1, k2, err := state.WriteMessage(nil, nil)
	if err != nil {
		return nil, err
	}
	if err := writeFrame(conn, third); err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	config := yamux.DefaultConfig()
	config.LogOutput = io.Discard
	mux, err := yamux.Client(conn, config)
	if err != nil {
		return nil, err
	}
	client := &Client{key: key, server: server, conn: conn, mux: mux}
	// The Go implementation gives the two keys out in this order.
	client.out.cipher, client.in.cipher = k2.Cipher(), k1.Cipher()
	return client, nil
}

func encode(value interface{}) []byte {
	var out bytes.Buffer
	check(gob.NewEncoder(&out).Encode(value), "gob")
	return out.Bytes()
}

func (c *Client) writeObject(w io.Writer, value interface{}) ([]byte, error) {
	body := encode(value)
	signed := append(c.key.sign(body), body...)
	return signed, writeFrame(w, c.out.seal(signed))
}

func (c *Client) readObject(r io.Reader) ([]byte, error) {
	frame, err := readFrame(r)
	if err != nil {
		return nil, err
	}
	signed, err := c.in.open(frame)
	if err == nil && len(signed) <= 65 {
		err = errors.New("object without a body")
	}
	return signed, err
}

// Stream is one between two clients, encrypted from end to end.
type Stream struct {
	*yamux.Stream
	out, in direction
	seen    uint64
	rest    []byte
}

func (s *Stream) Write(plain []byte) (int, error) {
	written := 0
	for len(plain) > 0 {
		count := len(plain)
		if count > 4070 {
			count = 4070
		}
		if err := writeFrame(s.Stream, s.out.seal(plain[:count])); err != nil {
			return written, err
		}
		written += count
		plain = plain[count:]
	}
	return written, nil
}

func (s *Stream) Read(into []byte) (int, error) {
	if len(s.rest) == 0 {
		frame, err := readFrame(s.Stream)
		if err != nil {
			return 0, err
		}
		nonce := binary.BigEndian.Uint64(frame)
		if nonce <= s.seen {
			return 0, errors.New("nonce seen before")
		}
		s.seen = nonce
		if s.rest, err = s.in.open(frame); err != nil {
			return 0, err
		}
	}
	count := copy(into, s.rest)
	s.rest = s.rest[count:]
	return count, nil
}

func (c *Client) kk(peer PubKey, isInitiator bool) (*noise.HandshakeState, error) {
	return noise.NewHandshakeState(noise.Config{
		CipherSuite:   suite,
		Random:        rand.Reader,
		Pattern:       noise.HandshakeKK,
		Initiator:     isInitiator,
		StaticKeypair: c.key.dhKey(),
		PeerStatic:    peer[:],
	})
}

// dial opens a stream to a port of another client.
func (c *Client) dial(peer PubKey, source, port uint16) (*Stream, error) {
	raw, err := c.mux.OpenStream()
	if err != nil {
		return nil, err
	}
	_ = raw.SetDeadline(time.Now().Add(5 * time.Second))
	state, err := c.kk(peer, true)
	if err != nil {
		return nil, err
	}
	first, _, _, err := state.WriteMessage(nil, nil)
	if err != nil {
		return nil, err
	}
	request := StreamRequest{
		Timestamp: time.Now().UnixNano(),
		SrcAddr:   Addr{c.key.pub, source},
		DstAddr:   Addr{peer, port},
		NoiseMsg:  first,
	}
	signed, err := c.writeObject(raw, request)
	if err != nil {
		return nil, err
	}
	response, err := c.response(raw, signed, peer)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	_, k1, k2, err := state.ReadMessage(nil, response.NoiseMsg)
	if err != nil {
		return nil, err
	}
	_ = raw.SetDeadline(time.Time{})
	stream := &Stream{Stream: raw}
	stream.out.cipher, stream.in.cipher = k1.Cipher(), k2.Cipher()
	return stream, nil
}

func (c *Client) response(r io.Reader, request []byte, peer PubKey) (*StreamResponse, error) {
	signed, err := c.readObject(r)
	if err != nil {
		return nil, err
	}
	if err := verify(peer, signed[65:], signed[:65]); err != nil {
		return nil, err
	}
	var response StreamResponse
	if err := gob.NewDecoder(bytes.NewReader(signed[65:])).Decode(&response); err != nil {
		return nil, err
	}
	if response.ReqHash != SHA256(sha256.Sum256(request)) {
		return nil, errors.New("answer to another request")
	}
	if !response.Accepted {
		return nil, fmt.Errorf("refused with code %d", response.ErrCode)
	}
	return &response, nil
}

// lookupIP asks the server where this client comes from.
func (c *Client) lookupIP() (net.IP, error) {
	raw, err := c.mux.OpenStream()
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(5 * time.Second))
	signed, err := c.writeObject(raw, StreamRequest{
		Timestamp: time.Now().UnixNano(),
		SrcAddr:   Addr{c.key.pub, 49152},
		DstAddr:   Addr{c.server, 1},
		IPinfo:    true,
	})
	if err != nil {
		return nil, err
	}
	response, err := c.response(raw, signed, c.server)
	if err != nil {
		return nil, err
	}
	return response.IP, nil
}

// accept takes the next stream; a wrong request or a port that nobody listens on is an error.
func (c *Client) accept(port uint16) (*Stream, error) {
	stream, _, err := c.acceptFrom(port)
	return stream, err
}

// acceptFrom returns whose stream it is as well.
func (c *Client) acceptFrom(port uint16) (*Stream, PubKey, error) {
	raw, err := c.mux.AcceptStream()
	if err != nil {
		return nil, PubKey{}, err
	}
	return c.answer(raw, port)
}

// answer opens a stream that somebody asks for.
func (c *Client) answer(raw *yamux.Stream, port uint16) (*Stream, PubKey, error) {
	var request StreamRequest
	signed, err := c.readObject(raw)
	if err != nil {
		return nil, PubKey{}, err
	}
	if err := gob.NewDecoder(bytes.NewReader(signed[65:])).Decode(&request); err != nil {
		return nil, PubKey{}, err
	}
	if err := verify(request.SrcAddr.PK, signed[65:], signed[:65]); err != nil {
		return nil, PubKey{}, err
	}
	if request.DstAddr != (Addr{c.key.pub, port}) {
		_ = raw.Close()
		return nil, PubKey{}, errNoListener
	}
	state, err := c.kk(request.SrcAddr.PK, false)
	if err != nil {
		return nil, PubKey{}, err
	}
	if _, _, _, err := state.ReadMessage(nil, request.NoiseMsg); err != nil {
		return nil, PubKey{}, err
	}
	second, k1, k2, err := state.WriteMessage(nil, nil)
	if err != nil {
		return nil, PubKey{}, err
	}
	_, err = c.writeObject(raw, StreamResponse{
		ReqHash:  SHA256(sha256.Sum256(signed)),
		Accepted: true,
		NoiseMsg: second,
	})
	if err != nil {
		return nil, PubKey{}, err
	}
	stream := &Stream{Stream: raw}
	stream.in.cipher, stream.out.cipher = k1.Cipher(), k2.Cipher()
	return stream, request.SrcAddr.PK, nil
}

var errNoListener = errors.New("nobody listens on that port")

func parseKey(text string) PubKey {
	var key PubKey
	raw, err := hex.DecodeString(text)
	check(err, "public key")
	copy(key[:], raw)
	return key
}
