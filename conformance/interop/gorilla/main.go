// gorilla/websocket as the foreign peer of wsabi's echo examples, without compression:
// `gorilla drive CASES URL` tests a server, `gorilla judge CASES` tests a client.
//
// The twin of peer.py: same cases, same output. It has no fragments of a chosen size.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

const deadline = 60 * time.Second // for one case

type message struct {
	Type  string
	Size  int
	Count int
}

type closing struct {
	Code   int
	Reason string
}

type testCase struct {
	Name         string
	Messages     []message
	Pings        []int
	Pong         *int
	Close        *closing
	InvalidUTF8  bool `json:"invalid_utf8"`
	Oversize     *message
	ExpectClose  int `json:"expect_close"`
	Origin       string
	ExpectStatus int `json:"expect_status"`
	Cut          bool
	Stop         bool
	Refuse       int
}

type fields map[string]any

var output sync.Mutex

func say(line fields) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err) // only strings, numbers and booleans are said
	}
	output.Lock()
	defer output.Unlock()
	fmt.Printf("%s\n", text)
}

// --- what is sent -----------------------------------------------------------------------

func cycled(head, pattern []byte, size int) []byte {
	data := make([]byte, 0, size+len(pattern))
	data = append(data, head...)
	for len(data) < size {
		data = append(data, pattern...)
	}
	return data[:size]
}

func payload(kind string, size, index int) []byte {
	head := []byte(fmt.Sprintf("%d|", index))
	if kind == "text" {
		data := cycled(head, []byte("wsabi größer ∮ 漢字 😀 "), size)
		// Whole characters only.
		for i := len(data) - 1; i >= 0 && !utf8.Valid(data); i-- {
			data[i] = '.'
		}
		return data
	}
	pattern := make([]byte, 251)
	for i := range pattern {
		pattern[i] = byte((i*7 + 3) % 256)
	}
	return cycled(head, pattern, size)
}

func each(messages []message, do func(m message, data []byte) error) error {
	for _, m := range messages {
		for index := 0; index == 0 || index < m.Count; index++ {
			if err := do(m, payload(m.Type, m.Size, index)); err != nil {
				return err
			}
		}
	}
	return nil
}

// --- one connection ---------------------------------------------------------------------

func opcode(kind string) int {
	if kind == "text" {
		return websocket.TextMessage
	}
	return websocket.BinaryMessage
}

func compare(m message, want []byte, kind int, got []byte) error {
	if kind != opcode(m.Type) {
		return fmt.Errorf("the echo of a %s message has the opcode %d", m.Type, kind)
	}
	if len(got) != len(want) {
		return fmt.Errorf("the echo has %d bytes, not %d", len(got), len(want))
	}
	if !bytes.Equal(got, want) {
		return errors.New("the echo differs")
	}
	return nil
}

func echoes(ws *websocket.Conn, messages []message) error {
	sent := make(chan error, 1)
	go func() {
		sent <- each(messages, func(m message, data []byte) error {
			return ws.WriteMessage(opcode(m.Type), data)
		})
	}()
	err := each(messages, func(m message, want []byte) error {
		kind, got, err := ws.ReadMessage()
		if err != nil {
			return err
		}
		return compare(m, want, kind, got)
	})
	if err != nil {
		ws.Close() // or the sender may wait for ever
		<-sent
		return err
	}
	return <-sent
}

// RFC 6455 §5.5.3: a pong may answer only the latest of several pings. The Close frame follows the
// last pong, for reading goes on until something else than a control frame comes.
func pings(ws *websocket.Conn, sizes []int, wanted closing) error {
	var sent []string
	for _, size := range sizes {
		data := payload("binary", size, 0)
		sent = append(sent, string(data))
		if err := ws.WriteControl(websocket.PingMessage, data, time.Now().Add(deadline)); err != nil {
			return err
		}
	}
	ws.SetPongHandler(func(data string) error {
		for i, ping := range sent {
			if ping != data {
				continue
			}
			sent = sent[i+1:]
			if len(sent) == 0 {
				return sendClose(ws, wanted)
			}
			return nil
		}
		return errors.New("a pong came with another payload than our pings had")
	})
	return closeReply(ws, wanted)
}

func runCase(ws *websocket.Conn, c testCase) error {
	now := time.Now()
	if err := ws.SetReadDeadline(now.Add(deadline)); err != nil {
		return err
	}
	if err := ws.SetWriteDeadline(now.Add(deadline)); err != nil {
		return err
	}
	if c.Close == nil {
		c.Close = &closing{Code: websocket.CloseNormalClosure}
	}
	if c.Pong != nil {
		if err := ws.WriteControl(websocket.PongMessage, payload("binary", *c.Pong, 0), now.Add(deadline)); err != nil {
			return err
		}
	}
	if c.Pings != nil {
		return pings(ws, c.Pings, *c.Close)
	}
	if err := echoes(ws, c.Messages); err != nil {
		return err
	}
	if c.Stop {
		say(fields{"stop": true})
	}
	if c.ExpectClose != 0 {
		return expectClose(ws, c)
	}
	return closeWith(ws, *c.Close)
}

// The code and reason of the peer's Close frame.
func closed(ws *websocket.Conn) (int, string, error) {
	_, data, err := ws.ReadMessage()
	if err == nil {
		return 0, "", fmt.Errorf("a message of %d bytes came instead of a Close frame", len(data))
	}
	var end *websocket.CloseError
	if errors.As(err, &end) && end.Code != websocket.CloseAbnormalClosure {
		return end.Code, end.Text, nil
	}
	return 0, "", fmt.Errorf("no Close frame came: %w", err)
}

func expectClose(ws *websocket.Conn, c testCase) error {
	// The peer may close before it has all of it: what counts is how.
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if c.InvalidUTF8 {
			_ = ws.WriteMessage(websocket.TextMessage, []byte("not UTF-8: \xc3\x28"))
		}
		if c.Oversize != nil {
			_ = ws.WriteMessage(opcode(c.Oversize.Type), payload(c.Oversize.Type, c.Oversize.Size, 0))
		}
	}()
	code, _, err := closed(ws)
	ws.Close()
	<-sent
	if err == nil && code != c.ExpectClose {
		return fmt.Errorf("the connection ended with %d, not %d", code, c.ExpectClose)
	}
	return err
}

// The code to ask the library for; one of its own stands for a Close frame without a code.
func (c closing) code() int {
	if c.Code == 0 {
		return websocket.CloseNoStatusReceived
	}
	return c.Code
}

func sendClose(ws *websocket.Conn, wanted closing) error {
	frame := websocket.FormatCloseMessage(wanted.code(), wanted.Reason)
	return ws.WriteControl(websocket.CloseMessage, frame, time.Now().Add(deadline))
}

func closeReply(ws *websocket.Conn, wanted closing) error {
	got, reason, err := closed(ws)
	switch {
	case err != nil:
		return err
	case got != wanted.code():
		return fmt.Errorf("the reply to Close %d has the code %d", wanted.code(), got)
	case reason != "" && reason != wanted.Reason:
		return fmt.Errorf("the reply to Close has the reason %q, ours was %q", reason, wanted.Reason)
	}
	return nil
}

func closeWith(ws *websocket.Conn, wanted closing) error {
	if err := sendClose(ws, wanted); err != nil {
		return err
	}
	return closeReply(ws, wanted)
}

func verdict(c testCase, err error) {
	line := fields{"case": c.Name, "why": nil}
	if err != nil {
		line["why"] = err.Error()
	}
	say(line)
}

// --- a client that tests a server -------------------------------------------------------

func connect(address, origin string) (*websocket.Conn, int, error) {
	headers := http.Header{}
	if origin != "" {
		where, err := url.Parse(address)
		if err != nil {
			return nil, 0, err
		}
		headers.Set("Origin", strings.ReplaceAll(origin, "{host}", where.Host))
	}
	dialer := websocket.Dialer{HandshakeTimeout: deadline}
	ws, response, err := dialer.Dial(address, headers)
	if errors.Is(err, websocket.ErrBadHandshake) {
		return nil, response.StatusCode, nil
	}
	return ws, 0, err
}

func driveCase(address string, c testCase) error {
	ws, status, err := connect(address, c.Origin)
	if err != nil {
		return err
	}
	if ws == nil {
		if status == c.ExpectStatus {
			return nil
		}
		return fmt.Errorf("refused with %d", status)
	}
	defer ws.Close()
	if c.ExpectStatus != 0 {
		return fmt.Errorf("the handshake was accepted, not refused with %d", c.ExpectStatus)
	}
	if !c.Cut {
		return runCase(ws, c)
	}
	if err := ws.WriteMessage(websocket.TextMessage, []byte("cut off after this")); err != nil {
		return err
	}
	ws.Close() // without a Close frame
	return driveCase(address, testCase{Messages: []message{{Type: "text", Size: 10}}})
}

// --- a server that tests a client -------------------------------------------------------

// The paths of Autobahn's fuzzing server, over our own table of cases.
type judge struct {
	mutex    sync.Mutex
	cases    []testCase
	pending  *testCase // passes when the client comes back
	upgrader websocket.Upgrader
}

func (j *judge) caseOf(r *http.Request) *testCase {
	query := r.URL.Query()
	number, err := strconv.Atoi(query.Get("case"))
	if err != nil || query.Get("agent") == "" || number < 1 || number > len(j.cases) {
		return nil
	}
	return &j.cases[number-1]
}

// The client's connections come one after another, and are served so.
func (j *judge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	if j.pending != nil {
		verdict(*j.pending, nil)
		j.pending = nil
	}
	var c *testCase
	switch r.URL.Path {
	case "/getCaseCount", "/updateReports":
	case "/runCase":
		c = j.caseOf(r)
		if c != nil {
			break
		}
		fallthrough
	default:
		say(fields{"note": "the client asked for " + r.URL.String()})
		http.Error(w, "no such path", http.StatusNotFound)
		return
	}
	if c != nil && c.Refuse != 0 {
		j.pending = c
		http.Error(w, "refused by the case", c.Refuse)
		return
	}
	ws, err := j.upgrader.Upgrade(w, r, nil)
	if err != nil {
		say(fields{"note": err.Error()})
		return
	}
	defer ws.Close()
	switch {
	case c == nil:
		err = j.tell(ws, r.URL.Path)
		if err != nil {
			say(fields{"note": err.Error()})
		}
	case c.Cut:
		j.pending = c
	default:
		verdict(*c, runCase(ws, *c))
	}
}

func (j *judge) tell(ws *websocket.Conn, path string) error {
	if err := ws.SetReadDeadline(time.Now().Add(deadline)); err != nil {
		return err
	}
	if path == "/getCaseCount" {
		if err := ws.WriteMessage(websocket.TextMessage, []byte(strconv.Itoa(len(j.cases)))); err != nil {
			return err
		}
	}
	err := closeWith(ws, closing{Code: websocket.CloseNormalClosure})
	if path == "/updateReports" {
		say(fields{"done": true})
	}
	return err
}

func (j *judge) listen() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	say(fields{"url": "ws://" + listener.Addr().String()})
	return http.Serve(listener, j)
}

func table(path string) ([]testCase, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var cases []testCase
	if err := json.Unmarshal(text, &cases); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cases, nil
}

func run(args []string) error {
	if len(args) < 2 || (args[0] == "drive") != (len(args) == 3) || (args[0] == "judge") != (len(args) == 2) {
		return errors.New("usage: drive CASES URL | judge CASES")
	}
	cases, err := table(args[1])
	if err != nil {
		return err
	}
	if args[0] == "judge" {
		return (&judge{cases: cases}).listen()
	}
	for _, c := range cases {
		verdict(c, driveCase(args[2], c))
	}
	return nil
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
