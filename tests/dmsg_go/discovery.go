package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"
)

// entry is what a client says of itself in a discovery. The order of the fields is that of the signature.
type entry struct {
	Version   string  `json:"version"`
	Sequence  uint64  `json:"sequence"`
	Timestamp int64   `json:"timestamp"`
	Static    string  `json:"static"`
	Client    *client `json:"client,omitempty"`
	Signature string  `json:"signature,omitempty"`
}

type client struct {
	DelegatedServers []string `json:"delegated_servers"`
}

// register tells a discovery which server this client has a session with.
func (c *Client) register(discovery string) error {
	told := entry{
		Version:   "0.0.1",
		Timestamp: time.Now().UnixNano(),
		Static:    hex.EncodeToString(c.key.pub[:]),
		Client:    &client{[]string{hex.EncodeToString(c.server[:])}},
	}
	unsigned, err := json.Marshal(told)
	if err != nil {
		return err
	}
	told.Signature = hex.EncodeToString(c.key.sign(unsigned))
	signed, err := json.Marshal(told)
	if err != nil {
		return err
	}
	answer, err := http.Post(discovery+"/dmsg-discovery/entry/", "application/json", bytes.NewReader(signed))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status + " " + string(text))
	}
	return nil
}
