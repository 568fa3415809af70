package main_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"banyan/compare"
	"banyan/internal/pgtest"
)

// peers are the addresses that a process is connected to, or sends to, at this moment;
// nil where it has ended.
func peers(pid int) map[string]bool {
	sockets := map[string]bool{}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name())); err == nil && strings.HasPrefix(to, "socket:[") {
			sockets[strings.Trim(to[len("socket:"):], "[]")] = true
		}
	}
	all := map[string]bool{}
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		text, err := os.ReadFile("/proc/net/" + table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) > 9 && sockets[f[9]] {
				all[table[:3]+" "+address(f[2])] = true
			}
		}
	}
	return all
}

// address reads 0100007F:1F90; a socket that listens has port 0.
func address(hex string) string {
	host, port, _ := strings.Cut(hex, ":")
	n, _ := strconv.ParseUint(port, 16, 16)
	if host == "0100007F" || strings.HasSuffix(host, "FFFF00000100007F") {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.FormatUint(n, 10))
}

// trap is an address at which nobody may call.
func trap(t *testing.T) (addr string, calls *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	calls = &atomic.Int64{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			calls.Add(1)
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String(), calls
}

// A run talks to the broker, to its own database and to the candidate, to nobody else:
// not to the shop's database, whose address stands all around it, and to no proxy. It
// writes to no topic.
func TestNobodyElseIsCalled(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shop.trade(200)
	s := newService(t)
	addr, calls := trap(t)
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	source := "postgres://shop:shop@" + addr + "/shop"
	h.env = []string{"PGHOST=" + host, "PGPORT=" + port, "PGDATABASE=shop", "DATABASE_URL=" + source, "BANYAN_SOURCE=" + source, "BANYAN_STORE=" + source,
		"HTTP_PROXY=http://" + addr, "HTTPS_PROXY=http://" + addr, "ALL_PROXY=http://" + addr, "http_proxy=http://" + addr}
	if help := h.must(0, "run", "--help").Out; strings.Contains(help, "--source") {
		t.Errorf("a run has a flag for the shop's database:\n%s", help)
	}
	before := h.ends()
	caught := make(chan struct{}) // a call waits until its connection has been seen
	s.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		select {
		case <-caught:
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
	r := h.start("--candidate", s.url(), "--from", "start", "--live", "127.0.0.1:0", "--timeout", "9s")
	live := strings.TrimPrefix(r.Listening(), "http://")
	db, err := url.Parse(h.url)
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{"tcp " + db.Host: true, "tcp " + s.addr: true}
	for _, b := range h.broker.Addrs {
		allowed["tcp "+b] = true
	}
	seen := map[string]bool{}
	var once sync.Once
	h.eventually("history is compared", func() bool {
		for peer := range peers(r.PID()) {
			if seen[peer] = true; peer == "tcp "+s.addr {
				once.Do(func() { close(caught) })
			}
		}
		return h.consumed() == h.shop.orders
	})
	h.unwritten(before)
	r.StopWithin(quick)
	for _, args := range [][]string{{"report", "--out", "out"}, {"list"}, {"aa", "--candidate", s.url()}} {
		h.must(0, args...)
	}
	h.unwritten(before)
	for peer := range allowed {
		if !seen[peer] {
			t.Errorf("%s was not seen: this test sees nothing", peer)
		}
	}
	for peer := range seen {
		if !allowed[peer] && !strings.HasSuffix(peer, ":0") {
			t.Errorf("a run with its page at %s talks to %s", live, peer)
		}
	}
	if n := calls.Load(); n > 0 {
		t.Errorf("%d calls at an address that is the shop's, or a proxy's", n)
	}
}

func TestNoSecretInAnyOutput(t *testing.T) {
	t.Parallel()
	const secret, written, key = "s3cr:et/p@ss word", "s3cr%3Aet%2Fp%40ss%20word", "q3y-of-candidate"
	server := pgtest.NewServer(t, pgtest.ServerOptions{HBA: "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"})
	h := newHouse(t)
	h.db = server.NewDB(t)
	h.db.Exec(t, `CREATE ROLE service LOGIN SUPERUSER PASSWORD '`+secret+`'`)
	h.url = h.db.UserURL("service", secret)
	clean := func(what, text string) {
		t.Helper()
		for _, s := range []string{secret, written, key, "s3cr", "p@ss", "p%40ss", "ss word"} {
			if at := strings.Index(text, s); at >= 0 {
				t.Errorf("%q stands in %s: ...%.200s", s, what, text[max(0, at-100):])
				return
			}
		}
	}
	do := func(code int, args ...string) {
		t.Helper()
		a := h.do(append(args, "-v")...)
		clean("the output of shadow "+args[0], a.Out+a.Err)
		if a.Code != code {
			t.Errorf("want exit %d from shadow %s: %s", code, args[0], a)
		}
	}
	s := newService(t)
	var logins atomic.Int64
	s.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		user, password, ok := r.BasicAuth()
		if !ok || user != "me" || password != secret || r.URL.Query().Get("key") != key {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		logins.Add(1)
		next.ServeHTTP(w, r)
	})
	candidate := "http://me:" + written + "@" + s.addr + "/quotes?key=" + key
	h.shop.trade(100)
	for _, format := range []string{"text", "json"} {
		do(0, "run", "--candidate", candidate, "--from", "start", "--until-caught-up", "-o", format, "--out", "out")
		do(0, "report", "-o", format, "--out", "out")
		do(0, "list", "-o", format)
		do(0, "aa", "--candidate", candidate, "-o", format)
		do(0, "replay", h.query(`SELECT 'shop.orders/' || part || '/' || off FROM ` + h.schema() + `.journal LIMIT 1`)[0], "--candidate", candidate, "-o", format)
		do(1, "replay", "shop.orders/0/99999", "--candidate", candidate, "-o", format)
		addr, _ := trap(t)
		for _, u := range []string{"http://me:" + written + "@" + addr + ":bad/quotes", "http://me:" + secret + "@" + addr + "/quotes", "ftp://me:" + written + "@x/?key=" + key,
			"http://me:" + written + "@/quotes?key=" + key, "http://me:" + written + "@" + s.addr + "/quotes#" + key} {
			do(2, "run", "--candidate", u, "--until-caught-up", "-o", format)
			do(2, "run", "--candidate", u, "--candidate-topic", "shadow.x", "-o", format)
			do(2, "aa", "--candidate", u, "-o", format)
		}
		for _, u := range []string{"postgres://me:" + written + "@" + addr + "/x?sslmode=nonsense", "postgres://me:" + secret + "@" + addr + ":bad:port/x"} {
			do(2, "report", "--db", u, "-o", format)
		}
		do(3, "report", "--db", h.db.UserURL("service", secret+"!"), "-o", format)
		do(2, "parity", "--control", "http://me:"+secret+"@x", "--candidate", "http://me:"+written+"@x", "--replay", "GET /", "-o", format)
		do(2, "parity", "--control", "http://x", "--candidate", "http://x", "--replay", "GET /", "--send", "Authorization Bearer "+key+secret, "-o", format)
		do(1, "parity", "--control", "http://me:"+written+"@"+s.addr, "--candidate", "http://me:"+written+"@"+addr, "--replay", "GET /x", "--send", "Authorization: Bearer "+key, "-o", format)
	}
	for _, file := range []string{"report.html", "report.json", "report.md", "lines.csv"} {
		clean(file, h.read("out", file))
	}
	if logins.Load() == 0 {
		t.Error("nobody has logged in: this test sees nothing")
	}
	// What the shadow says while the candidate is away, or sends it elsewhere.
	r := h.start("--candidate", candidate, "-v", "--live", "127.0.0.1:0")
	live := r.Listening()
	s.misbehave(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, "http://me:"+written+"@127.0.0.1:1/?key="+key, http.StatusFound)
	})
	h.shop.trade(30)
	for _, why := range []string{"redirect", "connect"} {
		h.eventually("/readyz says why: "+why, func() bool {
			_, body := h.ask(live + "/readyz")
			clean("/readyz", body)
			return strings.Contains(body, why)
		})
		for _, path := range []string{"/", "/metrics", "/healthz"} {
			_, body := h.ask(live + path)
			clean(path, body)
		}
		s.down()
	}
	r.StopWithin(quick)
	clean("the log", r.Log())
	for _, sql := range []string{`SELECT row_to_json(v)::text FROM banyan.version v`, `SELECT row_to_json(l)::text FROM banyan.lease l`,
		`SELECT convert_from(data, 'UTF8') FROM ` + h.schema() + `.state`} {
		for _, row := range h.query(sql) {
			clean("the database", row)
		}
	}
}

// reasonsOf looks an order's reason up in the journal.
func (h *house) reasonsOf(want compare.Reason) func(l *sold) compare.Reason {
	h.t.Helper()
	is := map[string]bool{}
	for _, event := range h.query(`SELECT convert_from(data, 'UTF8')::jsonb ->> 'event' FROM `+h.schema()+`.journal WHERE convert_from(data, 'UTF8') LIKE $1`, `%"reason":"`+string(want)+`"%`) {
		is[event] = true
	}
	return func(l *sold) compare.Reason {
		if is[l.event] {
			return want
		}
		return ""
	}
}

// A sample keeps whole customers, always the same, whatever is restarted.
func TestSampleKeepsWholeCustomers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := newService(t)
	args := []string{"--candidate", s.url(), "--from", "start", "--sample", "40"}
	for range 3 {
		h.shop.trade(150)
		h.books(h.caughtUp(0, args...), h.reasonsOf(compare.Sampled))
	}
	sampled, kept := map[int]bool{}, map[int]bool{}
	reason := h.reasonsOf(compare.Sampled)
	for i := range h.shop.lines {
		switch l := &h.shop.lines[i]; {
		case l.customer == 0 || l.own != "": // a guest is another one each time
		case reason(l) == "":
			kept[l.customer] = true
		default:
			sampled[l.customer] = true
		}
	}
	for c := range kept {
		if sampled[c] {
			t.Errorf("customer %d is compared in part", c)
		}
	}
	if len(kept) < 8 || len(kept) > 45 || len(sampled) < 10 {
		t.Errorf("%d of %d customers are in a sample of 40 %%", len(kept), len(kept)+len(sampled))
	}
}

// The kill switch stops all calls at once, those that are under way too; without it the
// shadow goes on where it was.
func TestKillFile(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shop.trade(200)
	s := newService(t)
	args := []string{"--candidate", s.url(), "--from", "start", "--kill-file", "stop", "--timeout", "9s"}
	r := h.start(append(args, "--live", "127.0.0.1:0", "--rate", "15")...)
	live := r.Listening()
	h.eventually("the candidate is asked", func() bool { return s.asked.Load() > 2 })
	gone := make(chan struct{}, 100)
	s.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		s.hang(w, r, next)
		gone <- struct{}{}
	})
	before := s.asked.Load()
	h.eventually("a call hangs", func() bool { return s.asked.Load() > before })
	h.write("stop", "")
	<-gone
	h.eventually("/readyz says why", func() bool { _, body := h.ask(live + "/readyz"); return strings.Contains(body, "kill switch is on") })
	s.misbehave(nil)
	before = s.asked.Load()
	for range 40 {
		if _, body := h.ask(live + "/"); !strings.Contains(body, "kill switch") {
			t.Error("the live page does not say that the kill switch is on")
		}
	}
	if n := s.asked.Load() - before; n > 0 {
		t.Errorf("%d calls were made with the kill switch on", n)
	}
	r.StopWithin(quick)
	r = h.start(append(args, "--live", "127.0.0.1:0")...)
	live = r.Listening()
	h.eventually("/readyz says why again", func() bool { _, body := h.ask(live + "/readyz"); return strings.Contains(body, "kill switch is on") })
	if n := s.asked.Load() - before; n > 0 {
		t.Errorf("%d calls were made after a restart with the kill switch on", n)
	}
	if err := os.Remove(h.dir + "/stop"); err != nil {
		t.Fatal(err)
	}
	h.eventually("all is compared", func() bool { return h.consumed() == h.shop.orders })
	r.StopWithin(quick)
	h.books(h.caughtUp(0, args...), nil)
}

// From now: what lies before is known and not compared, and now stays where it was.
func TestFromNow(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shop.trade(100)
	s := newService(t)
	old := len(h.shop.lines)
	a := h.must(0, "run", "--until-caught-up", "--candidate", s.url())
	if !strings.Contains(a.Out, "before-start") && !strings.Contains(a.Out, "set aside") {
		t.Errorf("it does not say that nothing is compared: %s", a)
	}
	early := map[string]bool{}
	for _, l := range h.shop.lines[:old] {
		early[l.event] = true
	}
	reason := func(l *sold) compare.Reason {
		if early[l.event] {
			return compare.BeforeStart
		}
		return ""
	}
	for range 2 {
		h.shop.trade(60)
		h.books(h.caughtUp(0, "--candidate", s.url()), reason)
	}
}

// Mappings: one that leaves returns out, and one with a mistake that only the events
// can show.
func TestMappings(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shop.trade(150)
	h.write("plain.yaml", "returns: {topic: ''}\n")
	r := h.caughtUp(0, "--candidate", "builtin:demand", "--mapping", "plain.yaml")
	h.sound(r)
	for _, m := range r.Currencies {
		if m.Returns.Linked.Lines+m.Returns.Unlinked.Lines != 0 {
			t.Errorf("returns were read: %+v", m.Returns)
		}
	}
	h.write("wrong.yaml", "orders: {line: {number: line_no, product: prodact, quantity: quantity, price: unit_price}}\n")
	r = h.caughtUp(1, "--candidate", "builtin:demand", "--name", "wrong", "--mapping", "wrong.yaml")
	if r.Verdict.Rung != compare.Unhealthy || r.Window.Compared != 0 {
		t.Errorf("a mapping that is wrong: %+v, %d compared", r.Verdict, r.Window.Compared)
	}
	h.write("nowhere.yaml", "orders: {topic: shop.oders}\n")
	if a := h.do("run", "--until-caught-up", "--candidate", "builtin:demand", "--name", "nowhere", "--mapping", "nowhere.yaml"); a.Code < 2 || !strings.Contains(a.Err, "shop.oders") {
		t.Errorf("a topic that is not there: %s", a)
	}
}

// Business times far off: the orders are compared all the same.
func TestClocksFarOff(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shop.trade(100)
	for _, at := range []string{"9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "1970-01-01T00:00:00+14:00", "nonsense", ""} {
		h.shop.placeAt(at)
	}
	h.shop.trade(50)
	h.books(h.caughtUp(0, "--candidate", newService(t).url(), "--from", "start", "--out", "out"), nil)
	h.must(0, "report", "--out", "out")
}

func TestParity(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shop.trade(100)
	paths := regexp.MustCompile(`^/orders/\d+$`)
	serve := func(odd string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !paths.MatchString(r.URL.Path) || r.Method != http.MethodGet {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"id": %q, "total": {"amount": 10%s}}`, r.URL.Path, odd)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	control, same, other := serve(""), serve(""), serve("5")
	before := h.ends()
	from := []string{"parity", "--from", "topic:shop.orders", "--no-tokens", "--control", control}
	if a := h.must(0, append(from, "--candidate", same)...); !strings.Contains(a.Out, "OK: 0 of ") {
		t.Errorf("parity: %s", a)
	}
	a := h.must(1, append(from, "--candidate", other)...)
	if !strings.Contains(a.Out, "$.total.amount") || !strings.Contains(a.Out, "/orders/") {
		t.Errorf("parity does not say where the answers differ: %s", a)
	}
	h.must(0, append(from, "--candidate", other, "--ignore", "$.total")...)
	h.must(1, "parity", "--no-tokens", "--control", control, "--candidate", other, "--replay", "GET /orders/1")
	h.write("requests.txt", "GET /orders/1\nGET /orders/2\n")
	h.must(0, "parity", "--no-tokens", "--control", control, "--candidate", same, "--from", "requests.txt")
	h.unwritten(before)
}
