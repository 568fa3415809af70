package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banyan/pricing"
	"banyan/quote"
)

// write writes a file of rules.
func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestBadInput(t *testing.T) {
	wrong := write(t, "rules:\n  - {name: A, kind: round, step: 0}\n  - {name: b, kind: chrage}\n")
	for _, tc := range []struct {
		args []string
		says []string
	}{
		{[]string{"run", "--topic", "shop.prices"}, []string{`--topic "shop.prices": want a name that begins with "shadow."`}},
		{[]string{"run", "--topic", "shadow."}, []string{`--topic "shadow."`}},
		{[]string{"run", "--topic", "shadowprices", "--source", "", "--every", "1h"}, []string{`--topic "shadowprices"`, `--source ""`, "--every 1h0m0s: want 10ms to 1m"}},
		{[]string{"run", "--source", "shadow"}, []string{`--source "shadow"`}},
		{[]string{"run", "--rules", "/nowhere/rules.yaml"}, []string{"--rules: open /nowhere/rules.yaml", "no such file"}},
		{[]string{"serve", "--rules", wrong}, []string{`rules[0].name: value "A"`, `rules[0].step: value "0"`, `:3:21: rules[1].kind: value "chrage"`, "want tier, demand, round, margin, bounds or change"}},
		{[]string{"serve", "--listen", ""}, []string{"--listen is empty"}},
		{[]string{"serve", "--listen", "nowhere:none"}, []string{"--listen nowhere:none"}},
		{[]string{"quote"}, []string{`there is no command "quote"`}},
		{[]string{"rules", "more"}, []string{"usage: pricing rules"}},
	} {
		said := invoke(t, tc.args...)
		for _, want := range tc.says {
			if said.code != 2 || said.out != "" || !strings.Contains(said.err, want) {
				t.Errorf("%v: want exit 2 and %q, got %+v", tc.args, want, said)
			}
		}
	}
}

func TestRulesCommand(t *testing.T) {
	said := invoke(t, "rules", "--print")
	if said.code != 0 || said.out != pricing.DefaultText {
		t.Errorf("--print: %+v", said)
	}
	d, err := pricing.New(pricing.Default())
	if err != nil {
		t.Fatal(err)
	}
	if said = invoke(t, "rules", "--rules", write(t, said.out)); said.code != 0 || !strings.Contains(said.out, d.Build()) || !strings.Contains(said.out, "margin_floor") {
		t.Errorf("of a file: %+v", said)
	}
	var as struct{ Build string }
	if said = invoke(t, "rules", "-o", "json"); json.Unmarshal([]byte(said.out), &as) != nil || as.Build != d.Build() {
		t.Errorf("as JSON: %+v", said)
	}
	if said = invoke(t, "rules", "--print", "-o", "json"); json.Unmarshal([]byte(said.out), &as) != nil {
		t.Errorf("--print as JSON: %+v", said)
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"run", "--help"}, {"serve", "--help"}, {"rules", "--help"}, {}} {
		if said := invoke(t, args...); said.code != 0 || !strings.Contains(said.out, "pricing") {
			t.Errorf("%v: %+v", args, said)
		}
	}
}

// TestServe asks the service what the description's example asks.
func TestServe(t *testing.T) {
	r := start(t, "serve", "--listen", "127.0.0.1:0", "-o", "json")
	poll(t, "server", func() bool { return strings.Contains(r.out.String(), "listening") })
	var s stage
	if err := json.Unmarshal([]byte(r.out.String()), &s); err != nil {
		t.Fatal(err)
	}
	request, want := example(t)
	resp, err := http.Post(s.URL+"/quotes", "application/json", bytes.NewReader(request))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	got, err := quote.DecodeResponse(body)
	if err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("it answers other than openapi.json says: -openapi.json +it\n%s", diff)
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/openapi.json"} {
		resp, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	if said := r.stop(); said.code != 0 {
		t.Errorf("told to stop: %+v", said)
	}
}

// example gives request and response of the description.
func example(t *testing.T) (request []byte, response quote.Response) {
	t.Helper()
	var doc struct {
		Paths map[string]struct {
			Post struct {
				RequestBody struct {
					Content map[string]struct{ Example json.RawMessage }
				}
				Responses map[string]struct {
					Content map[string]struct {
						Examples map[string]struct{ Value json.RawMessage }
					}
				}
			}
		}
	}
	if err := json.Unmarshal(quote.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	post := doc.Paths["/quotes"].Post
	response, err := quote.DecodeResponse(post.Responses["200"].Content["application/json"].Examples["priced"].Value)
	if err != nil {
		t.Fatal(err)
	}
	return post.RequestBody.Content["application/json"].Example, response
}
