package effects

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/jackc/pgx/v5"

	"banyan/event"
	"banyan/internal/pgtest"
	"banyan/projections/control"
)

// postbox is a real SMTP server on a socket.
type postbox struct {
	mu    sync.Mutex
	mails []string
	came  chan struct{}
	// answer, where set, decides what the server says to a mail's data.
	answer func(n int) error
	// cut, where set, breaks the connection instead of answering.
	cut func(n int) bool
	n   int
}

func (b *postbox) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &letter{box: b, conn: c}, nil
}

type letter struct {
	box  *postbox
	conn *smtp.Conn
}

func (l *letter) Mail(string, *smtp.MailOptions) error { return nil }
func (l *letter) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (l *letter) Reset()                               {}
func (l *letter) Logout() error                        { return nil }
func (l *letter) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	b := l.box
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n++
	if b.answer != nil {
		if err := b.answer(b.n); err != nil {
			return err
		}
	}
	b.mails = append(b.mails, string(text))
	select {
	case b.came <- struct{}{}:
	default:
	}
	if b.cut != nil && b.cut(b.n) {
		return l.conn.Conn().Close() // taken, and nobody hears of it
	}
	return nil
}

func (b *postbox) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.mails...)
}

func newPostbox(t *testing.T) (*postbox, *SMTP) {
	t.Helper()
	b := &postbox{came: make(chan struct{}, 1000)}
	s := smtp.NewServer(b)
	s.Domain = "localhost"
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return b, &SMTP{Host: "127.0.0.1", Port: ln.Addr().(*net.TCPAddr).Port, From: "shop@example.com", TLS: "none", Timeout: 10 * time.Second}
}

// ledger is a store with a projection "mails", and a way to promise.
type ledger struct {
	t     *testing.T
	store *control.Store
}

func newLedger(t *testing.T) *ledger {
	t.Helper()
	db := pgtest.New(t)
	store, err := control.Open(t.Context(), db.Pool(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	l := &ledger{t, store}
	l.within(func(tx pgx.Tx) error {
		_, _, err := store.Declare(t.Context(), tx, control.Declaration{Projection: "mails", Source: "shop", Digest: "1"})
		return err
	})
	return l
}

func (l *ledger) within(do func(pgx.Tx) error) {
	l.t.Helper()
	if err := pgx.BeginFunc(l.t.Context(), l.store.Pool(), do); err != nil {
		l.t.Fatal(err)
	}
}

// promise promises effect n of kind, and reports whether it is new.
func (l *ledger) promise(n int, kind string, payload any) bool {
	l.t.Helper()
	body, err := json.Marshal(payload)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := Check(kind, body); err != nil {
		l.t.Fatal(err)
	}
	var made int64
	l.within(func(tx pgx.Tx) error {
		made, err = l.store.Promise(l.t.Context(), tx, []control.Effect{{
			Projection: "mails", Source: fmt.Sprintf("shop/Order/%d@1:0/%X.0", n, n), Name: "told", Kind: kind, Payload: body,
			Position: event.Position{Generation: 1, LSN: uint64(n)},
		}})
		return err
	})
	return made == 1
}

func (l *ledger) counts() map[control.EffectState]int64 {
	l.t.Helper()
	c, err := l.store.EffectCounts(l.t.Context(), "mails")
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

// until waits until the ledger holds n effects of a state.
func (l *ledger) until(state control.EffectState, n int64) {
	l.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for l.counts()[state] != n {
		select {
		case <-tick.C:
		case <-limit:
			l.t.Fatalf("the ledger holds %v, want %d %s", l.counts(), n, state)
		}
	}
}

// send runs a sender until the test, or the returned function, ends it.
func (l *ledger) send(tr *Transport) (stop func()) {
	l.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.t.Context()))
	s := &Sender{Store: l.store, Projection: "mails", Owner: "test", Transport: tr, Idle: 10 * time.Millisecond, Retry: time.Millisecond}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			l.t.Errorf("the sender ended: %v", err)
		}
	})
	l.t.Cleanup(stop)
	return stop
}

func mailTo(n int) Mail {
	return Mail{To: []string{"ann@example.com"}, Subject: fmt.Sprintf("Order %d", n), Body: "It is on its way.\n"}
}

func TestMailsAreSentOnceHoweverOftenPromised(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	box, server := newPostbox(t)
	for n := range 30 {
		l.promise(n+1, KindMail, mailTo(n+1))
	}
	stopA, stopB := l.send(&Transport{SMTP: server}), l.send(&Transport{SMTP: server})
	for n := range 30 { // a replay promises all of it again, while it is sent
		if l.promise(n+1, KindMail, mailTo(n+1)) {
			t.Errorf("effect %d was promised twice", n+1)
		}
	}
	l.until(control.Sent, 30)
	stopA()
	stopB()
	seen := map[string]int{}
	for _, m := range box.all() {
		for line := range strings.Lines(m) {
			if s, ok := strings.CutPrefix(line, "Subject: "); ok {
				seen[strings.TrimSpace(s)]++
			}
		}
	}
	for n := range 30 {
		if got := seen[fmt.Sprintf("Order %d", n+1)]; got != 1 {
			t.Errorf("order %d was told %d times", n+1, got)
		}
	}
}

func TestMailServerSaysLaterThenNever(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	box, server := newPostbox(t)
	box.answer = func(n int) error {
		if n < 3 {
			return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "come back"}
		}
		return nil
	}
	l.promise(1, KindMail, mailTo(1))
	stop := l.send(&Transport{SMTP: server})
	l.until(control.Sent, 1)
	stop()
	if n := len(box.all()); n != 1 {
		t.Errorf("%d mails", n)
	}
	box.mu.Lock()
	box.answer = func(int) error { return &smtp.SMTPError{Code: 550, Message: "no such user"} }
	box.mu.Unlock()
	l.promise(2, KindMail, mailTo(2))
	l.send(&Transport{SMTP: server})
	l.until(control.Failed, 1)
	list, err := l.store.Effects(t.Context(), "mails", control.EffectFilter{States: []control.EffectState{control.Failed}})
	if err != nil || len(list) != 1 || !list[0].RetryAt.IsZero() || !strings.Contains(list[0].Error, "550") {
		t.Errorf("failed effects: %+v, %v", list, err)
	}
}

// A server that takes a mail and loses the connection before it says so leaves
// a doubt, which nobody but a person resolves.
func TestMailInDoubtIsNotSentAgain(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	box, server := newPostbox(t)
	box.cut = func(n int) bool { return n == 1 }
	l.promise(1, KindMail, mailTo(1))
	stop := l.send(&Transport{SMTP: server})
	l.until(control.Doubtful, 1)
	stop()
	l.send(&Transport{SMTP: server}) // a new sender leaves it alone too
	l.promise(2, KindMail, mailTo(2))
	l.until(control.Sent, 1)
	if n := len(box.all()); n != 2 {
		t.Errorf("%d mails, want the doubtful one and the second", n)
	}
	if n, err := l.store.Resend(t.Context(), "mails"); err != nil || n != 1 {
		t.Fatalf("resend: %d, %v", n, err)
	}
	l.until(control.Sent, 2)
}

func TestCallsCarryOneKeyThroughAllAttempts(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	var mu sync.Mutex
	keys := map[string]int{}
	bodies := map[string]string{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		k := r.Header.Get("Idempotency-Key")
		keys[k]++
		bodies[k] = string(b)
		switch {
		case keys[k] == 1:
			w.WriteHeader(http.StatusBadGateway)
		case keys[k] == 2:
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				c.Close() // done, and nobody hears of it
			}
		}
	}))
	defer srv.Close()
	for n := range 10 {
		l.promise(n+1, KindHTTP, Call{URL: srv.URL + "/notify", Body: fmt.Sprintf(`{"order":%d}`, n+1)})
	}
	l.send(&Transport{})
	l.until(control.Sent, 10)
	mu.Lock()
	defer mu.Unlock()
	if len(keys) != 10 {
		t.Errorf("%d different keys, want 10: %v", len(keys), keys)
	}
	for n := range 10 {
		key := (&control.Effect{Projection: "mails", Source: fmt.Sprintf("shop/Order/%d@1:0/%X.0", n+1, n+1), Name: "told"}).Key()
		if keys[key] != 3 || bodies[key] != fmt.Sprintf(`{"order":%d}`, n+1) {
			t.Errorf("key %q: %d attempts, body %q", key, keys[key], bodies[key])
		}
	}
}

func TestCallFollowsNoRedirect(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{}, 1)
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached <- struct{}{} }))
	defer other.Close()
	srv := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer srv.Close()
	body, _ := json.Marshal(Call{URL: srv.URL, Body: "{}"})
	if o, err := new(Transport).Send(t.Context(), "k", KindHTTP, body); o != Refused || err == nil {
		t.Errorf("a redirect gives %s, %v", o, err)
	}
	if len(reached) > 0 {
		t.Error("the redirect was followed")
	}
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kind, payload, want string }{
		{KindMail, `{"to":[],"subject":"x"}`, "no receiver"},
		{KindMail, `{"to":["nobody"],"subject":"x"}`, `"nobody" is no mail address`},
		{KindMail, `{"to":["a@example.com"]}`, "subject: empty"},
		{KindHTTP, `{"url":"ftp://x"}`, `url: "ftp://x"`},
		{KindHTTP, `{"url":"http://x","method":"GET"}`, `method: "GET"`},
		{"sms", `{}`, `"sms"`},
	} {
		if err := Check(c.kind, []byte(c.payload)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %q", c.kind, c.payload, err, c.want)
		}
	}
}
