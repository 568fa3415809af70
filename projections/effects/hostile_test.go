package effects

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"strings"
	"testing"
)

// What comes out of rows and keys stays what it is: no line of its own in a header,
// and no secret in an error.
func TestCallsWithHostileTexts(t *testing.T) {
	got := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get("Idempotency-Key")
		w.WriteHeader(http.StatusTeapot)
	}))
	defer srv.Close()
	call := Call{URL: srv.URL + "/hooks/s3cret?token=s3cret"}
	outcome, err := (&Transport{}).call(t.Context(), "mails/shipped/0/shop/Customer/a\r\nX-Evil: 1\u00e4%@1:0/1.0", &call)
	if outcome != Refused || err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("%v, %v", outcome, err)
	}
	if key := <-got; key != "mails/shipped/0/shop/Customer/a%0D%0AX-Evil: 1%C3%A4%25@1:0/1.0" {
		t.Errorf("the key arrived as %q", key)
	}
	srv.Close()
	if outcome, err = (&Transport{}).call(t.Context(), "k", &call); outcome != Again || err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("%v, %v", outcome, err)
	}
	bad := Call{URL: "https://crm.example.org", Headers: map[string]string{"X-Name": "a\r\nX-Evil: 1", "X Name": "b", "X-Good": "tab\there"}}
	if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), "X-Name: a line break") || !strings.Contains(err.Error(), `"X Name" is no name`) || strings.Contains(err.Error(), "X-Good") {
		t.Errorf("%v", err)
	}
}

func TestMailsWithHostileTexts(t *testing.T) {
	m := Mail{To: []string{"a@example.org"}, Subject: "hello\r\nBcc: evil@example.org\r\n\r\nanother body", Body: "text\r\n.\r\nMAIL FROM:<evil@example.org>"}
	msg, err := compose(&m, "shop@example.org", "k")
	if err != nil {
		t.Fatal(err)
	}
	var wire bytes.Buffer
	if _, err := msg.WriteTo(&wire); err != nil {
		t.Fatal(err)
	}
	read, err := mail.ReadMessage(&wire)
	if err != nil {
		t.Fatal(err)
	}
	if read.Header.Get("Bcc") != "" || read.Header.Get("From") != "<shop@example.org>" {
		t.Errorf("headers: %v", read.Header)
	}
	m.To = []string{"a@example.org\r\nBcc: evil@example.org"}
	if err := m.Validate(); err == nil {
		t.Error("an address with a line break was taken")
	}
}
