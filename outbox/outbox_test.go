package outbox_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"banyan/event"
	"banyan/internal/pgtest"
	"banyan/outbox"
)

var shop = outbox.Source{Name: "shop", SystemID: "7001", Timeline: 1, Slot: "banyan_shop"}

// quick makes takeovers take no longer than a test should. An owner of which nothing
// was heard for so long as its expiry may lose its lease, and on a machine with much to
// do that is soon: the tests let a lease end by release and by stall.
func quick(o outbox.Options) outbox.Options {
	if o.Heartbeat == 0 {
		o.Heartbeat = 50 * time.Millisecond
	}
	if o.Expiry == 0 {
		o.Expiry = 30 * time.Second
	}
	o.Host = "here"
	return o
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func open(t testing.TB, url string, opts outbox.Options) *outbox.Store {
	t.Helper()
	s, err := outbox.Open(testContext(t), url, quick(opts))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func acquire(t testing.TB, s *outbox.Store, src outbox.Source) *outbox.Owner {
	t.Helper()
	o, err := s.Acquire(testContext(t), src, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close(context.Background()) })
	return o
}

// start gives a fresh store and its owner.
func start(t testing.TB, opts outbox.Options) (*pgtest.DB, *outbox.Store, *outbox.Owner) {
	t.Helper()
	db := pgtest.New(t)
	s := open(t, db.URL, opts)
	return db, s, acquire(t, s, shop)
}

var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// at is the n-th position of a made-up source.
func at(n int) outbox.To {
	return outbox.To{Commit: uint64(n * 100), End: uint64(n*100 + 10), Time: day.Add(time.Duration(n) * time.Second)}
}

// order is the event of order key at position n.
func order(key string, n, ordinal int) event.Event {
	p := event.Position{Generation: 1, LSN: at(n).Commit, Ordinal: int64(ordinal)}
	return event.Event{
		ID: event.ID{Source: "shop", Aggregate: "Order", Key: key, Position: p}, Position: p,
		Type: "OrderPlaced", Version: 1, Topic: "shop.orders", Time: at(n).Time, Rules: 1,
		Data: json.RawMessage(fmt.Sprintf(`{"state":{"id":%q,"n":%d}}`, key, n)),
	}
}

func put(ctx context.Context, step event.Step) func(*outbox.Tx) error {
	return func(tx *outbox.Tx) error { return tx.Put(ctx, &step) }
}

// commit stores count orders at position n, spread over the partitions.
func commit(t testing.TB, o *outbox.Owner, n, count int) {
	t.Helper()
	ctx := testContext(t)
	if err := o.Commit(ctx, at(n), put(ctx, orders(n, count))); err != nil {
		t.Fatal(err)
	}
}

func orders(n, count int) event.Step {
	var step event.Step
	for i := range count {
		step.Events = append(step.Events, order(fmt.Sprint(n, "-", i), n, i))
	}
	return step
}

// stored reads all events of all partitions from seq after the acknowledged
// one, and fails on a gap.
func stored(t testing.TB, o *outbox.Owner) []event.Event {
	t.Helper()
	ctx := testContext(t)
	shelves, err := o.Shelves(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var all []event.Event
	for _, s := range shelves {
		for after := s.Acked; ; {
			got, err := o.Stored(ctx, s.Topic, s.Partition, after, 100, 1<<20)
			if outbox.Passing(err) && ctx.Err() == nil {
				continue // a session of the pool that the test has ended
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(got) == 0 {
				if after != s.Assigned {
					t.Fatalf("%s/%d ends at %d, assigned %d", s.Topic, s.Partition, after, s.Assigned)
				}
				break
			}
			after = got[len(got)-1].Seq
			all = append(all, got...)
		}
	}
	return all
}

// acknowledgeAll plays the relay.
func acknowledgeAll(t testing.TB, o *outbox.Owner) {
	t.Helper()
	ctx := testContext(t)
	shelves, err := o.Shelves(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var acks []outbox.Ack
	for _, s := range shelves {
		acks = append(acks, outbox.Ack{Topic: s.Topic, Partition: s.Partition, Seq: s.Assigned, Offset: s.Assigned - 1})
	}
	if err := o.Acknowledge(ctx, acks); err != nil {
		t.Fatal(err)
	}
}

// eventually polls where there is no signal to wait for.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// proxy stands between an owner and its store, and cuts the wire where a test
// wants it cut.
type proxy struct {
	t      testing.TB
	l      net.Listener
	target string

	mu    sync.Mutex
	mode  cut
	then  cut // the mode after the cut
	conns map[net.Conn]bool
	hit   chan struct{}
}

type cut int

const (
	whole     cut = iota
	beforeIt      // what the client sends next never arrives
	afterIt       // it arrives and is answered, the answer never arrives
	refuseAll     // nobody can connect
)

func newProxy(t testing.TB, storeURL string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(storeURL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, l: l, target: u.Host, conns: map[net.Conn]bool{}, hit: make(chan struct{}, 100)}
	u.Host = l.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.cutAll()
		wg.Wait()
	})
	return p, u.String()
}

func (p *proxy) set(mode cut) { p.setThen(mode, whole) }

func (p *proxy) setThen(mode, then cut) {
	p.mu.Lock()
	p.mode, p.then = mode, then
	p.mu.Unlock()
}

func (p *proxy) get() cut {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode
}

// next ends the mode of one cut.
func (p *proxy) next() {
	p.mu.Lock()
	p.mode = p.then
	p.mu.Unlock()
}

// cutAll closes every connection that is open.
func (p *proxy) cutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	if p.get() == refuseAll {
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	var swallow sync.Mutex // guards armed
	armed := false         // this connection's answers are lost from now on
	var wg sync.WaitGroup
	wg.Go(func() { // client to server
		defer server.Close()
		defer client.Close()
		buf := make([]byte, 64<<10)
		commits := false // only the session that commits is cut, not the heartbeats
		for hello := true; ; hello = false {
			n, err := client.Read(buf)
			if err != nil {
				return
			}
			if hello {
				commits = bytes.Contains(buf[:n], []byte("banyan owner"))
			}
			switch mode := p.get(); {
			case mode == beforeIt && commits:
				p.next()
				p.hit <- struct{}{}
				return
			case mode == afterIt && commits:
				p.next()
				swallow.Lock()
				armed = true
				swallow.Unlock()
			}
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
		}
	})
	wg.Go(func() { // server to client
		defer server.Close()
		defer client.Close()
		var head [5]byte
		for {
			if _, err := io.ReadFull(server, head[:]); err != nil {
				return
			}
			body := make([]byte, int(binary.BigEndian.Uint32(head[1:]))-4)
			if _, err := io.ReadFull(server, body); err != nil {
				return
			}
			swallow.Lock()
			lost := armed
			swallow.Unlock()
			if lost {
				if head[0] == 'Z' && body[0] == 'I' { // the transaction is over
					p.hit <- struct{}{}
					return
				}
				if head[0] != 'Z' {
					continue
				}
			}
			if _, err := client.Write(append(head[:], body...)); err != nil {
				return
			}
		}
	})
	wg.Wait()
}

var errOnPurpose = errors.New("on purpose")
