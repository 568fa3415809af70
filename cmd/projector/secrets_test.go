package main_test

import (
	"net"
	"net/url"
	"strings"
	"testing"

	"banyan/cmd/internal/clitest"
	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
)

func TestNoPasswordInAnyOutput(t *testing.T) {
	t.Parallel()
	const secret, written, mail = "s3cr:et/p@ss word", "s3cr%3Aet%2Fp%40ss%20word", "m4il-s3cr3t"
	// A server that wants the password, so that it is really used.
	server := pgtest.NewServer(t, pgtest.ServerOptions{HBA: "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"})
	db := server.NewDB(t)
	db.Exec(t, `CREATE ROLE service LOGIN SUPERUSER PASSWORD '`+secret+`'`)
	o := newOutside(t)
	h := furnish(t, db, kafkatest.New(t), strings.NewReplacer("ORDER", "partitioned", "URL", o.url).Replace(mailsYAML))
	h.url = db.UserURL("service", secret)
	h.env = []string{"BANYAN_SMTP=" + o.smtp, "BANYAN_SMTP_TLS=none", "BANYAN_SMTP_USER=shop", "BANYAN_SMTP_PASSWORD=" + mail}
	clean := func(what, text string) {
		t.Helper()
		for _, s := range []string{secret, written, mail, "s3cr", "p@ss", "p%40ss", "ss word"} {
			if strings.Contains(text, s) {
				t.Errorf("%q stands in %s: %s", s, what, text)
				return
			}
		}
	}
	h.shop.trade(100)
	h.shop.settle()
	for _, format := range []string{"text", "json"} {
		do := func(code int, args ...string) {
			t.Helper()
			a := h.must(code, append(args, "-v", "-o", format)...)
			clean("the output of projector "+strings.Join(args, " "), a.Out+a.Err)
		}
		do(0, "check")
		do(0, "run", "--until-caught-up")
		h.shop.trade(50)
		h.projector("run", "--until-caught-up") // mails fail: the server knows no logins
		token := h.shop.settle()
		do(0, "run", "--until-caught-up")
		do(1, "status", "mails") // nobody runs it
		do(0, "lag", "mails")
		do(0, "wait", "mails", token)
		do(0, "parked", "list", "mails")
		do(0, "verify", "mails")
		do(0, "rebuild", "mails", "--plan")
		for _, args := range [][]string{{"lint", "mails"}, {"effects", "list", "mails"}, {"rebuild", "mails"}, {"swap", "mails"}, {"init", "--topics", "shop.orders", "--name", "drafted_" + format}} {
			a := h.projector(append(args, "-v", "-o", format)...)
			clean("the output of projector "+strings.Join(args, " "), a.Out+a.Err)
			if a.Code > 1 {
				t.Errorf("%s", a)
			}
		}
		// What goes wrong is told without it too.
		const away = clitest.Away
		for _, u := range []string{"postgres://me:" + written + "@" + away + "/x", "postgres://me:" + written + "@" + away + "/x?sslmode=nonsense", "host=127.0.0.1 port=1 user=me password='" + secret + "'",
			"postgres://me@" + away + "/x?password=" + written, "postgres://me:" + secret + "@" + away + ":bad:port/x", db.UserURL("nobody_like_that", secret), db.UserURL("service", secret+"!")} {
			for _, args := range [][]string{{"status", "mails"}, {"run", "--until-caught-up"}, {"verify", "mails"}} {
				a := h.projector(append(args, "-v", "-o", format, "--db", u)...)
				if a.Code != 2 && a.Code != 3 {
					t.Errorf("want exit 2 or 3 from %s", a)
				}
				clean("the output of projector "+args[0]+" --db <URL>", a.Out+a.Err)
			}
		}
		a := h.projector("run", "-o", format, "--smtp", "mail.example.com", "--smtp-tls", "perhaps")
		clean("the output of projector run --smtp", a.Out+a.Err)
	}
	r := h.start("-v")
	at := r.Listening()
	r.Await("running")
	h.shop.trade(50)
	h.passed("mails")
	h.eventually("a mail has failed", func() bool {
		return h.one(`SELECT (count(*) > 0)::text FROM banyan.effect WHERE kind = 'mail' AND error <> ''`) == "true"
	})
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/", "/orders/1"} {
		_, header, body := ask(t, at+path)
		clean(path, body+strings.Join(header["Banyan-Token"], ""))
	}
	r.Stop()
	clean("the log", r.Log())
	for _, row := range h.query(`SELECT row_to_json(e)::text || convert_from(payload, 'UTF8') FROM banyan.effect e UNION ALL SELECT row_to_json(v)::text FROM banyan.version v UNION ALL SELECT row_to_json(l)::text FROM banyan.lease l`) {
		clean("the database", row)
	}
}

// The password of a URL that fails only later, when the server is gone, is in no
// error either.
func TestNoPasswordWhenTheServerGoes(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t-of-the-service"
	h := newServerHouse(t, shippingYAML)
	u, err := url.Parse(h.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("postgres", secret)
	h.url = u.String()
	h.shop.trade(20)
	r := h.start("-v")
	r.Await("running")
	h.exact("shipping")
	h.db.Server().Stop(t, pgtest.Immediate)
	h.shop.trade(20)
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	r.AwaitLog(host + ":" + port)
	h.db.Server().Start(t)
	h.exact("shipping")
	r.Stop()
	if strings.Contains(r.Log(), secret) {
		t.Errorf("the password stands in the log:\n%s", r.Log())
	}
}
