package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"banyan/cmd/internal/clitest"
	"banyan/internal/pgtest"
)

func TestExitCodes(t *testing.T) {
	db := pgtest.New(t)
	const away = clitest.Away
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"help", []string{"serve", "--help"}, exitDone, "Examples:"},
		{"unknown flag", []string{"serve", "--nothing"}, exitBadInput, "unknown flag"},
		{"unknown command", []string{"sell"}, exitBadInput, "unknown command"},
		{"no database", []string{"serve"}, exitBadInput, "--database"},
		{"bad URL", []string{"serve", "--database", "postgres://u:sesame@h:port/d"}, exitBadInput, "--database"},
		{"database away", []string{"serve", "--database", "postgres://u:sesame@" + away + "/d?connect_timeout=5"}, exitSurroundings, "database"},
		{"bad address of cdc", []string{"serve", "--database", db.URL, "--token-from", "http://u:sesame@"}, exitBadInput, "--token-from"},
		{"bad address", []string{"serve", "--database", db.URL, "--listen", "nowhere"}, exitSurroundings, "listen"},
		{"nothing to replay", []string{"replay", "--target", "http://" + away}, exitBadInput, "--data FILE or --generate"},
		{"all faults at once", []string{"replay", "--target", "x", "--generate", "1", "--speed", "fast", "--workers", "0"}, exitBadInput, "--speed"},
		{"no file", []string{"replay", "--target", "http://" + away, "--data", "none.csv"}, exitBadInput, "none.csv"},
		{"no shop", []string{"replay", "--target", "http://" + away, "--generate", "1"}, exitSurroundings, "call the shop"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			code := run(ctx, c.args, noEnvironment, &stdout, &stderr)
			said := stdout.String() + stderr.String()
			if code != c.code || !strings.Contains(said, c.says) {
				t.Errorf("%d %s, want %d and %q", code, said, c.code, c.says)
			}
			if strings.Contains(said, "sesame") {
				t.Errorf("the password is printed: %s", said)
			}
		})
	}
}

func TestFlagsComeFromTheEnvironmentToo(t *testing.T) {
	var stdout, stderr bytes.Buffer
	environment := func(name string) string {
		return map[string]string{"BANYAN_SHOP_TARGET": "http://127.0.0.1:1", "BANYAN_SHOP_WORKERS": "0", "BANYAN_SHOP_GENERATE": "9999"}[name]
	}
	code := run(context.Background(), []string{"replay", "--generate", "1"}, environment, &stdout, &stderr)
	if code != exitBadInput || !strings.Contains(stderr.String(), "--workers") || strings.Contains(stderr.String(), "--target") || strings.Contains(stderr.String(), "--generate") {
		t.Errorf("%d %s", code, stderr.String())
	}
}

func TestAStopLetsTheRequestsAtWorkFinish(t *testing.T) {
	db := pgtest.New(t)
	cmd := exec.Command(os.Args[0], "serve", "--listen", "127.0.0.1:0", "--stop-timeout", "1m")
	cmd.Env = append(clitest.Environ(), runAsShop+"=1", "BANYAN_SHOP_DATABASE="+db.URL)
	program := clitest.Start(t, cmd)
	s := &testShop{t: t, url: program.Listening(), pool: db.Pool(t)}
	s.stocked()

	ctx := context.Background()
	holder, err := s.pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(ctx, `SELECT FROM products FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	answered := make(chan answer, 1)
	go func() {
		a, err := s.try("POST", "/orders", `{"country":"EIRE","lines":[{"stockCode":"HEART","quantity":1}]}`)
		if err != nil {
			t.Errorf("the order at work: %v", err)
		}
		answered <- a
	}()
	until(t, "the order waits for the lock", func() bool {
		return s.sql(`SELECT count(*) FROM pg_locks WHERE NOT granted`) == "1"
	})
	program.Signal(syscall.SIGTERM)
	until(t, "no new connections are taken", func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if err := holder.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if a := <-answered; a.status != 201 {
		t.Errorf("the order at work was answered %d %s", a.status, a.body)
	}
	if code := program.End(); code != 0 {
		t.Errorf("serve ended with %d: %s", code, program.Log())
	}
	s.want("1", `SELECT count(*) FROM orders`)
	s.want("POST /orders 201", `SELECT method || ' ' || path || ' ' || status FROM access_log WHERE path = '/orders'`)
}

// until polls a condition of another process, which sends no signal.
func until(t *testing.T, what string, reached func() bool) {
	t.Helper()
	clitest.Eventually(t, 30*time.Second, what, reached)
}

func TestAStartLeavesTablesThatAreThere(t *testing.T) {
	db := pgtest.New(t)
	serveShop(t, db.URL)
	db.Exec(t, `ALTER TABLE orders ADD COLUMN extra text`)
	db.Exec(t, `INSERT INTO access_log VALUES (now() - interval '40 days', 'GET', '/old', 200, 1), (now(), 'GET', '/new', 200, 1)`)
	s := &testShop{t: t, url: serveShop(t, db.URL), pool: db.Pool(t)}
	s.want("1", `SELECT count(*) FROM information_schema.columns WHERE table_name = 'orders' AND column_name = 'extra'`)
	s.want("/new", `SELECT path FROM access_log WHERE path IN ('/old', '/new')`)
	s.must(200, "GET", "/healthz", "", nil)
}

func TestAmountsAreExact(t *testing.T) {
	for text, want := range map[string]amount{"2.55": 2550, "0.001": 1, "-11062.06": -11062060, "9.9": 9900, "7": 7000, "0.0": 0, "1.2500": 1250, "999999999.999": maxAmount} {
		got, err := parseAmount(text)
		if err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
		if again, err := parseAmount(got.String()); err != nil || again != got {
			t.Errorf("%s prints as %s, which reads as %d, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "-", ".", "1.", ".5", "1.2345", "1e3", "+1", "--1", "1,5", "0x1", "1 ", "1000000000", "1.-5", "1_0"} {
		if got, err := parseAmount(text); err == nil {
			t.Errorf("%q was read as %s", text, got)
		}
	}
}
