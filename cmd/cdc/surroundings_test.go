package main_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
)

func TestFullOutboxHoldsTheSourceBack(t *testing.T) {
	t.Parallel()
	h, name := ruled(t, shopSQL, strings.Replace(shopRules, "unknown: park\n", "unknown: park\nstore: {max_bytes: 2MiB}\n", 1))
	r := h.start()
	url := r.Listening()
	r.AwaitNext("streaming")
	h.status(0)
	h.broker.Stop(t)
	wide := strings.Repeat("wide ", 200)
	orders := func(from, n int) []string {
		return []string{fmt.Sprintf(`INSERT INTO orders (id, customer_id, status, total) SELECT i, 1, 'placed', 1 FROM generate_series(%d, %d) i`, from, from+n-1),
			fmt.Sprintf(`UPDATE customers SET name = '%s' || id || %d`, wide, from)}
	}
	next := 10_000
	var st account
	h.eventually("the outbox is full", func() bool {
		h.work(orders(next, 2000))
		next += 2000
		h.decode(0, &st, "status")
		return st.Outbox.Full
	})
	if a := h.must(0, "status"); !strings.Contains(a.Out, "full: the source waits") {
		t.Errorf("status says %s", a)
	}
	h.eventually("/readyz says backpressure", func() bool { code, why := get(t, url+"/readyz"); return code == 503 && why != "" })
	resident := rss(t, r.PID())
	stored := st.Outbox.Events
	for range 5 {
		h.work(orders(next, 5000))
		next += 5000
	}
	if now := rss(t, r.PID()); now > resident+150<<20 {
		t.Errorf("memory grows from %d to %d MiB while the source waits", resident>>20, now>>20)
	}
	h.decode(0, &st, "status")
	if !st.Outbox.Full || st.Outbox.Events > stored+20_000 {
		t.Errorf("it goes on filling: %+v", st.Outbox)
	}
	h.broker.Start(t)
	h.must(0, "status", "--wait", "2m")
	h.proved()
	if n := len(h.tail(name + ".orders")); n < 40+next-10_000 {
		t.Errorf("%d events of orders, want %d", n, 40+next-10_000)
	}
	h.uniqueIDs()
	r.Stop()
}

// rss is the memory that a process has in use, in bytes.
func rss(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
}

func TestTopicOfSomebodyElseIsRefused(t *testing.T) {
	t.Parallel()
	h, name := ruled(t, shopSQL, shopRules)
	h.must(0, "run", "--until-caught-up")
	w := &kafka.Writer{Addr: kafka.TCP(h.broker.Addrs...), Topic: name + ".orders", Balancer: kafka.Murmur2Balancer{}, BatchTimeout: time.Millisecond, RequiredAcks: kafka.RequireAll}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.WriteMessages(ctx, kafka.Message{Key: []byte("1"), Value: []byte(`{"state":{}}`)}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	h.work([]string{`UPDATE orders SET status = 'paid' WHERE id = 4`})
	a := h.cdc("run", "--until-caught-up")
	if a.Code != 1 || !strings.Contains(a.Err, name+".orders") || !strings.Contains(a.Err, "somebody else") && !strings.Contains(a.Err, "another writer") && !strings.Contains(a.Err, "foreign") {
		t.Errorf("a topic with a stranger's record: %s", a)
	}
	if v := h.verdict(1); v == "proved" {
		t.Error("verify says proved of a topic with a stranger's record")
	}
}

// authority is a certificate of our own making, for 127.0.0.1 and for signing
// itself. The server, which may run as another user, must be able to read the
// key.
func authority(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "banyan-tls-") // t.TempDir lets no other user in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	keyMode := os.FileMode(0o600)
	if os.Geteuid() == 0 {
		keyMode = 0o640 // what Postgres allows for a key that belongs to root
	}
	for _, f := range []struct {
		name  string
		mode  os.FileMode
		block *pem.Block
	}{{certFile, 0o644, &pem.Block{Type: "CERTIFICATE", Bytes: der}}, {keyFile, keyMode, &pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}}} {
		if err := os.WriteFile(f.name, pem.EncodeToMemory(f.block), f.mode); err != nil {
			t.Fatal(err)
		}
		if os.Geteuid() == 0 {
			if err := os.Chown(f.name, 0, 65534); err != nil {
				t.Fatal(err)
			}
		}
	}
	return certFile, keyFile
}

// The whole path over TLS, with the server's certificate checked and the role's
// password asked for.
func TestWholePathOverTLS(t *testing.T) {
	t.Parallel()
	cert, key := authority(t)
	srv := pgtest.NewServer(t, pgtest.ServerOptions{
		Settings: map[string]string{"ssl": "on", "ssl_cert_file": cert, "ssl_key_file": key, "password_encryption": "scram-sha-256"},
		HBA:      "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n",
	})
	h := &house{t: t, dir: t.TempDir(), source: srv.NewDB(t, pgtest.Options{SQL: shopSQL}), store: srv.NewDB(t), broker: kafkatest.New(t)}
	const secret = "a secret: 'of' the role\\"
	file := filepath.Join(h.dir, "pw")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	over := func(url, ca string) string {
		return strings.Replace(url, "sslmode=disable", "sslmode=verify-full&sslrootcert="+ca, 1)
	}
	h.env = []string{"BANYAN_STORE=" + over(h.store.URL, cert)}
	h.url = over(h.source.URL, cert)
	h.must(0, "init", "--name", "tls")
	h.must(0, "setup", "--apply", "--role-password-file", file)

	role := h.source.UserURL("banyan_tls", secret)
	h.url = role
	if a := h.must(3, "run"); !strings.Contains(a.Err, "no encryption") {
		t.Errorf("without TLS it says %s", a)
	}
	stranger, _ := authority(t)
	h.url = over(role, stranger)
	if a := h.must(3, "run"); !strings.Contains(a.Err, "certificate") {
		t.Errorf("a server with another authority's certificate: %s", a)
	}
	h.url = over(h.source.UserURL("banyan_tls", "another"), cert)
	if a := h.must(3, "run"); !strings.Contains(a.Err, "password authentication failed") {
		t.Errorf("with another password it says %s", a)
	}
	h.url = over(role, cert)
	r := h.start()
	r.Await("streaming")
	h.work([]string{`UPDATE orders SET status = 'paid' WHERE id = 4`, `INSERT INTO orders (customer_id, status, total) VALUES (1, 'placed', 1)`})
	h.proved()
	var n int
	if err := h.source.Pool(t).QueryRow(context.Background(), `SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'banyan_tls' AND NOT ssl`).Scan(&n); err != nil || n > 0 {
		t.Errorf("%d sessions of the role are not encrypted, %v", n, err)
	}
	r.Stop()

	// The password may come from a file, as with every Postgres tool.
	pass := filepath.Join(h.dir, "pgpass")
	line := "127.0.0.1:*:*:banyan_tls:" + strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace(secret)
	if err := os.WriteFile(pass, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.url = over(h.source.UserURL("banyan_tls", ""), cert)
	h.env = append(h.env, "PGPASSFILE="+pass)
	h.must(0, "run", "--until-caught-up")
	h.proved()
}
