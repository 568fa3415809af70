package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"banyan/internal/randtest"
)

// mailsYAML tells customers of what was shipped, and the bank of what was paid.
const mailsYAML = `projection: mails
order: ORDER
tables:
  orders: {from: shop.orders, columns: {id: bigint key, status: text}}
effects:
  shipped:
    from: shop.orders
    on: [OrderShipped]
    mail:
      to: ann@example.com
      subject: "Order ${state.id}"
      body: "It is ${state.status}."
  paid:
    from: shop.orders
    on: [OrderPaid]
    http: {url: "URL", json: {order: state.id}}
`

// outside is what effects reach: a mail server and somebody to call. Both are
// real.
type outside struct {
	smtp string // host:port
	url  string

	mu    sync.Mutex
	mails map[string]int             // by subject
	calls map[string]map[string]bool // the keys under which an order was told
	// fickle makes one call in so many fail, 0 none.
	fickle, n int
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	o := &outside{mails: map[string]int{}, calls: map[string]map[string]bool{}}
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &letter{o}, nil }))
	s.Domain = "localhost"
	s.ErrorLog = log.New(io.Discard, "", 0) // of connections whose client was killed
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln) // ends with Close
	}()
	t.Cleanup(func() { s.Close(); <-done })
	o.smtp = ln.Addr().String()
	srv := httptest.NewServer(http.HandlerFunc(o.call))
	t.Cleanup(srv.Close)
	o.url = srv.URL + "/paid"
	return o
}

type letter struct{ o *outside }

func (l *letter) Mail(string, *smtp.MailOptions) error { return nil }
func (l *letter) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (l *letter) Reset()                               {}
func (l *letter) Logout() error                        { return nil }

func (l *letter) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if s, ok := strings.CutPrefix(line, "Subject: "); ok {
			l.o.mu.Lock()
			l.o.mails[strings.TrimSpace(s)]++
			l.o.mu.Unlock()
		}
	}
	return nil
}

func (o *outside) call(w http.ResponseWriter, r *http.Request) {
	var body struct{ Order json.Number }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	order := body.Order.String()
	if o.calls[order] == nil {
		o.calls[order] = map[string]bool{}
	}
	o.calls[order][r.Header.Get("Idempotency-Key")] = true
	if o.n++; o.fickle > 0 && o.n%o.fickle == 0 {
		w.WriteHeader(http.StatusBadGateway)
	}
}

// been is the orders that have been in a status.
func (s *shop) been(status string) map[string]bool {
	all := map[string]bool{}
	for _, o := range s.orders {
		if strings.Contains(o.history, status+" ") {
			all[fmt.Sprint(o.id)] = true
		}
	}
	return all
}

// counted wants each effect to have left once. A mail that was being sent when
// its sender was killed is in doubt: it has left once or not at all, and is
// listed.
func (h *house) counted(o *outside) {
	h.t.Helper()
	h.eventually("all effects are sent, or in doubt", func() bool {
		return h.one(`SELECT count(*)::text FROM banyan.effect WHERE state <> 'sent' AND (kind = 'http' OR state <> 'doubtful')`) == "0"
	})
	h.shop.mu.Lock()
	defer h.shop.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	doubtful := map[string]bool{}
	for _, subject := range h.query(`SELECT convert_from(payload, 'UTF8')::jsonb ->> 'subject' FROM banyan.effect WHERE state = 'doubtful'`) {
		doubtful[subject] = true
	}
	h.t.Logf("%d mails, %d orders called for, %d in doubt", len(o.mails), len(o.calls), len(doubtful))
	for id := range h.shop.been("shipped") {
		subject := "Order " + id
		if n := o.mails[subject]; n > 1 || n == 0 && !doubtful[subject] {
			h.t.Errorf("%s was told %d times, in doubt: %t", subject, n, doubtful[subject])
		}
	}
	for subject := range o.mails {
		if id := strings.TrimPrefix(subject, "Order "); !h.shop.been("shipped")[id] {
			h.t.Errorf("a mail about %q, which was not shipped", subject)
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(h.shop.been("paid"))), slices.Sorted(maps.Keys(o.calls))); diff != "" {
		h.t.Errorf("orders that were called for (-want +got):\n%s", diff)
	}
	for id, keys := range o.calls {
		if len(keys) != 1 {
			h.t.Errorf("order %s was called for under %d keys: %v", id, len(keys), slices.Collect(maps.Keys(keys)))
		}
	}
}

func TestEffectsLeaveOnce(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"partitioned", "aligned"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			rng := randtest.New(t)
			o := newOutside(t)
			o.fickle = 7
			h := newHouse(t, strings.NewReplacer("ORDER", order, "URL", o.url).Replace(mailsYAML))
			h.env = []string{"BANYAN_SMTP=" + o.smtp, "BANYAN_SMTP_TLS=none", "BANYAN_SMTP_FROM=shop@example.com"}
			h.shop.settle() // effects begin here
			r := h.start("--instance", "only")
			r.Await("running")
			restart := func() {
				r = h.start("--instance", "only")
				r.Await("running")
			}
			h.underLoad(func() {
				for range 3 {
					<-randtest.Within(rng, time.Second)
					r.Kill()
					restart()
				}
				h.must(0, "rebuild", "mails", "--wait")
				h.exchange("swap", "mails")
				r.Kill()
				restart()
				h.owned("mails", r) // or the rollback runs what nobody seems to run, and both take from each other
				h.exchange("rollback", "mails")
				<-randtest.Within(rng, time.Second)
				h.exchange("swap", "mails")
				r.Stop()
				restart()
			})
			h.passed("mails")
			h.must(0, "verify", "mails")
			h.counted(o)
			r.Stop()

			// What is in doubt is for a person to decide.
			var list struct {
				Counts  map[string]int
				Effects []struct {
					ID       int64
					Kind     string
					Attempts int
				}
			}
			a := h.projector("effects", "list", "mails", "--state", "doubtful", "-o", "json")
			if err := decodeLoosely(a.Out, &list); err != nil {
				t.Fatalf("%v: %s", err, a)
			}
			if (a.Code == 1) != (list.Counts["doubtful"] > 0) || a.Code > 1 || list.Counts["doubtful"] != len(list.Effects) {
				t.Errorf("%d doubtful, %d listed: %s", list.Counts["doubtful"], len(list.Effects), a)
			}
			h.must(0, "effects", "resend", "mails", "--all")
			h.must(0, "run", "--until-caught-up")
			h.must(0, "effects", "list", "mails")
			o.mu.Lock()
			defer o.mu.Unlock()
			if diff := cmp.Diff(len(h.shop.been("shipped")), len(o.mails)); diff != "" {
				t.Errorf("after the doubtful ones were sent again (-want +got):\n%s", diff)
			}
		})
	}
}

// remindersYAML reminds of what is not paid in time.
const remindersYAML = `projection: reminders
order: aligned
tables:
  overdue:
    from: shop.orders
    delete: [OrderPaid, OrderCancelled]
    ignore: ["*"]
    columns: {id: bigint key, due_at: timestamptz = old.due_at}
timers:
  unpaid:
    from: shop.orders
    on: [OrderPlaced]
    at: event.time + duration("90s")
    cancel_on: [OrderPaid, OrderCancelled]
    then:
      upsert: {overdue: {id: timer.key, due_at: timer.at}}
effects:
  remind:
    on: {timer: unpaid}
    http: {url: "URL", json: {order: timer.key}}
`

// A timer goes off once, whatever is killed, rebuilt and swapped, also where it is
// the quiet of the source that lets it go off.
func TestTimersGoOffOnce(t *testing.T) {
	t.Parallel()
	rng := randtest.New(t)
	o := newOutside(t)
	h := newHouse(t, strings.ReplaceAll(remindersYAML, "URL", o.url))
	h.shop.settle()
	r := h.start("--instance", "only")
	r.Await("running")
	h.shop.trade(200) // a starved shop tells little under load
	h.underLoad(func() {
		for i := range 6 {
			<-randtest.Within(rng, 800*time.Millisecond)
			switch i {
			case 2:
				h.must(0, "rebuild", "reminders", "--wait")
				h.exchange("swap", "reminders")
			case 4: // by two who run it, of which one would have to give way
				h.owned("reminders", r)
				h.exchange("rollback", "reminders")
			}
			r.Kill()
			r = h.start("--instance", "only")
			r.Await("running")
		}
	})
	for range 5 { // time passes, and nothing happens that anybody is told of
		h.shop.mu.Lock()
		h.shop.src.Now = h.shop.src.Now.Add(40 * time.Second)
		h.shop.src.LSN += 0x100
		h.shop.mu.Unlock()
		h.exact("reminders")
	}
	h.eventually("all is sent", func() bool { return h.one(`SELECT count(*)::text FROM banyan.effect WHERE state <> 'sent'`) == "0" })
	h.must(0, "verify", "reminders", "--version", "2")
	r.Stop()
	want := []string{}
	for _, order := range h.shop.orders {
		if order.reminded > 0 {
			want = append(want, fmt.Sprint(order.id))
		}
		if order.reminded > 1 {
			t.Fatalf("the books are wrong: %+v", order)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(o.calls))); diff != "" {
		t.Errorf("reminders (-want +got):\n%s", diff)
	}
	for id, keys := range o.calls {
		if len(keys) != 1 {
			t.Errorf("order %s was reminded of under %d keys: %v", id, len(keys), keys)
		}
	}
	if len(want) < 20 {
		t.Errorf("only %d orders were overdue", len(want))
	}
}

func (s *shop) reminders() map[string]*books {
	b := book(`id, to_char(due_at AT TIME ZONE 'UTC', 'HH24:MI:SS.MS')`)
	for _, o := range s.orders {
		if !o.overdue.IsZero() {
			b.add(o.id, o.overdue.UTC().Format("15:04:05.000"))
		}
	}
	return map[string]*books{"overdue": b}
}

// A run that sends nothing promises all the same, and another one sends.
func TestEffectsAreLeftToOthers(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	h := newHouse(t, strings.NewReplacer("ORDER", "partitioned", "URL", o.url).Replace(mailsYAML))
	h.shop.trade(20) // before the first start: not a word of it leaves the house
	before := h.shop.been("paid")
	h.must(0, "run", "--until-caught-up", "--no-effects")
	h.shop.trade(200)
	h.must(0, "run", "--until-caught-up", "--no-effects")
	if len(o.calls) > 0 {
		t.Errorf("%d calls were made", len(o.calls))
	}
	var list struct{ Counts map[string]int }
	if err := decodeLoosely(h.must(0, "effects", "list", "mails", "-o", "json").Out, &list); err != nil || list.Counts["promised"] == 0 {
		t.Errorf("promised: %v, %v", list, err)
	}
	h.must(0, "run", "--until-caught-up", "--smtp", o.smtp, "--smtp-tls", "none", "--smtp-from", "shop@example.com")
	for id := range before {
		if o.calls[id] != nil && !strings.Contains(h.shop.orders[mustInt(t, id)].history, "paid") {
			t.Errorf("order %s was paid before the first start", id)
		}
	}
	if want := len(h.shop.been("paid")) - len(before); len(o.calls) != want {
		t.Errorf("%d orders were called for, want %d; the ledger has %v", len(o.calls), want, h.query(`SELECT kind || ' ' || state || ' ' || count(*) FROM banyan.effect GROUP BY kind, state`))
	}
	for subject, n := range o.mails {
		if n != 1 {
			t.Errorf("%s was told %d times", subject, n)
		}
	}
}

func mustInt(t *testing.T, s string) (n int) {
	t.Helper()
	if _, err := fmt.Sscan(s, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Without a mail server a mail is not lost: it says what is missing, and waits.
func TestMailWithoutAServerWaits(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	h := newHouse(t, strings.NewReplacer("ORDER", "partitioned", "URL", o.url).Replace(mailsYAML))
	h.shop.settle()
	h.must(0, "run", "--until-caught-up")
	h.shop.trade(300)
	a := h.must(0, "run", "--until-caught-up")
	if !strings.Contains(a.Err, "smtp") && !strings.Contains(a.Err, "SMTP") {
		t.Errorf("it does not say that there is no mail server: %s", a)
	}
	if n := h.one(`SELECT count(*)::text FROM banyan.effect WHERE kind = 'mail' AND state = 'sent'`); n != "0" {
		t.Errorf("%s mails are sent, to nobody", n)
	}
	h.projector("effects", "resend", "mails", "--all")
	h.must(0, "run", "--until-caught-up", "--smtp", o.smtp, "--smtp-tls", "none", "--smtp-from", "shop@example.com")
	h.counted(o)
}
