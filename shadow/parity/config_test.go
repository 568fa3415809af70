package parity_test

import (
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/compare/structure"
	"banyan/shadow/parity"
	"banyan/token"
)

func TestFaultsOfConfigAreToldTogether(t *testing.T) {
	c := parity.Config{
		Control: "", Candidate: "ftp://me:s3cret@new", Methods: []string{"get", ""}, Send: http.Header{"X-Shadow": {"0"}, "a b": {"x"}, "X-Ok": {"a\nb"}, "banyan-token": {"x"}},
		Headers: []string{"Cache Control"}, ControlToken: "always", Wait: time.Second, Timeout: time.Second, Concurrency: 1000, PerSecond: -1, Limit: -5, GiveUp: -1,
		Sample: 101, MaxDiffering: math.NaN(), MaxUnanswered: -1, Examples: 1000, Structure: structure.Options{Ignore: []string{"items"}},
	}
	_, err := parity.Run(t.Context(), c, paths(1))
	if err == nil {
		t.Fatal("all is taken")
	}
	for _, want := range []string{"Control is empty", `Candidate "ftp://me:xxxxx@new"`, "http://127.0.0.1:8080", `Methods: "get"`, `Methods: ""`, "Send: X-Shadow is set", `Send: "a b"`, "value of X-Ok", "Send: Banyan-Token is set",
		`Headers: "Cache Control"`, `ControlToken "always"`, "Timeout 1s is not longer than Wait 1s", "Concurrency 1000: want 1 to 256", "PerSecond -1", "Limit -5", "GiveUp -1",
		"Sample 101", "MaxDiffering NaN", "MaxUnanswered -1", "Examples 1000", `Structure: Ignore: "items"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("it does not say %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("it shows a password: %v", err)
	}
	for _, bad := range []string{"http://me:s3cret@h:port", "http://h?x=s3cret", "http://h#s3cret", "ftp://h?x=s3cret", "h:80", "/x"} {
		if err := (parity.Config{Control: bad, Candidate: "http://h"}).Validate(); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := (parity.Config{Control: "http://a/api/", Candidate: "https://b"}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestParseRequests(t *testing.T) {
	got, err := parity.ParseRequests(strings.NewReader(" GET /orders/1?x=a%20b \n#no\n/b\nPOST /q {\"a\": 1}\n"))
	want := []parity.Request{{Method: "GET", Path: "/orders/1?x=a%20b"}, {Method: "GET", Path: "/b"}, {Method: "POST", Path: "/q", Body: []byte(`{"a": 1}`)}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	_, err = parity.ParseRequests(strings.NewReader("GET /a\nget /a\nGET\nGET http://x/\nGET /%zz\nGET /a#b\nGET /\x01\n"))
	if err == nil {
		t.Fatal("all is taken")
	}
	for _, line := range []string{"line 2:", "line 3:", "line 4:", "line 5:", "line 6:", "line 7:", "GET /orders/1"} {
		if !strings.Contains(err.Error(), line) {
			t.Errorf("it does not say %q: %v", line, err)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{"GET /a", "/a?b=%20", "POST /q {\"a\":1}", "GET //h/", "", "G", "/\xff", "GET /a\tb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		r, err := parity.ParseRequest(line)
		if err != nil {
			return
		}
		again, err := parity.ParseRequest(r.String())
		if err != nil || !cmp.Equal(r, again) {
			t.Fatalf("%q is %+v, and that again %+v, %v", line, r, again, err)
		}
		// Behind a base URL it stays behind it.
		req, err := http.NewRequest(r.Method, "http://base.example:80/api"+r.Path, nil)
		if err != nil || req.URL.Host != "base.example:80" || !strings.HasPrefix(req.URL.Path, "/api/") || req.URL.User != nil {
			t.Fatalf("%q leads to %v, %v", line, req, err)
		}
	})
}

func TestTemplate(t *testing.T) {
	tmpl, err := parity.ParseTemplate("GET /customers/{customer}/orders/{key}?page={page}")
	if err != nil {
		t.Fatal(err)
	}
	records := []map[string]string{
		{"customer": "a/b c", "key": "1%2", "page": "a&b c", "token": "1:0/2A"},
		{"customer": "..", "key": "1", "page": "1"},
		{"key": "1", "page": "1"},
		{"customer": "1", "key": "1", "page": "1", "token": "soon"},
	}
	var got []parity.Request
	var faults []string
	for r, err := range tmpl.Requests(func(yield func(map[string]string, error) bool) {
		for _, v := range records {
			if !yield(v, nil) {
				return
			}
		}
	}) {
		if err != nil {
			faults = append(faults, err.Error())
			continue
		}
		got = append(got, r)
	}
	want := []parity.Request{{Method: "GET", Path: "/customers/a%2Fb%20c/orders/1%252?page=a%26b+c", Key: "1%2", Token: token.Token{Generation: 1, LSN: 0x2a}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(faults) != 3 || faults[0] != "no request: template" || faults[1] != faults[0] || !strings.Contains(faults[2], `record "1": token "soon"`) {
		t.Errorf("faults: %q", faults)
	}
	for _, bad := range []string{"", "orders", "/a/{", "/a/}", "/a/{}", "/a/{b{c}", "get /a", "/a b"} {
		if _, err := parity.ParseTemplate(bad); err == nil || !strings.Contains(err.Error(), "GET /orders/{key}") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
