package main_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// proxy stands between projector and its database, and can cut the wire just
// where it hurts: at the commit.
type proxy struct {
	t      *testing.T
	target string
	l      net.Listener
	wg     sync.WaitGroup

	// before and after say how many of the next commits are lost on their way,
	// or done and answered into the void.
	before, after atomic.Int32
	cuts          atomic.Int32

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

// newProxy gives a proxy to the database, and the database's URL through it.
func newProxy(t *testing.T, db string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(db)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, target: u.Host, conns: map[net.Conn]bool{}}
	if p.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	u.Host = p.l.Addr().String()
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		p.l.Close()
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.cutAll()
		p.wg.Wait()
	})
	return p, u.String()
}

func (p *proxy) accept() {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil { // the server is away
			client.Close()
			continue
		}
		if !p.keep(client, server) {
			return
		}
		p.wg.Go(func() { p.up(client, server) })
		p.wg.Go(func() {
			_, _ = io.Copy(client, server)
			p.drop(client, server)
		})
	}
}

func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.closed {
			c.Close()
			continue
		}
		p.conns[c] = true
	}
	return !p.closed
}

func (p *proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(p.conns, c)
	}
}

// cutAll ends every connection.
func (p *proxy) cutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// up carries what the client says to the server, but for what is to be cut.
func (p *proxy) up(client, server net.Conn) {
	defer p.drop(client, server)
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(bytes.ToLower(buf[:n]), []byte("commit\x00")) {
			switch {
			case take(&p.before):
				p.cuts.Add(1)
				return
			case take(&p.after):
				p.cuts.Add(1)
				client.Close() // before the answer can come
				_, _ = server.Write(buf[:n])
				return
			}
		}
		if _, err := server.Write(buf[:n]); err != nil {
			if !errors.Is(err, net.ErrClosed) {
				p.t.Logf("proxy: %v", err)
			}
			return
		}
	}
}

// take takes one of those that are left.
func take(n *atomic.Int32) bool {
	for {
		left := n.Load()
		if left <= 0 {
			return false
		}
		if n.CompareAndSwap(left, left-1) {
			return true
		}
	}
}
