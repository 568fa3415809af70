package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banyan/cmd/internal/clitest"
	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
)

// road is the whole way from a REST call to a table of another service: a real
// shop, a real cdc, a real projector.
type road struct {
	*house
	source *pgtest.DB
	store  *pgtest.DB
}

// begin begins a program of another command, built from its folder.
func (r *road) begin(folder string, args ...string) *clitest.Process {
	r.t.Helper()
	cmd := r.program(folder, args...)
	cmd.Env = append(cmd.Env, "BANYAN_SOURCE="+r.source.URL, "BANYAN_STORE="+r.store.URL)
	return clitest.Start(r.t, cmd)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func newRoad(t *testing.T) *road {
	t.Helper()
	db := pgtest.New(t)
	r := &road{house: &house{t: t, dir: t.TempDir(), db: db, url: db.URL, broker: kafkatest.New(t)}, source: pgtest.New(t), store: pgtest.New(t)}
	copyFile(t, filepath.Join("..", "..", "scenarios", "shop.yaml"), filepath.Join(r.dir, "banyan.yaml"))
	for _, p := range []string{"shipping_addresses", "customer_360"} {
		copyFile(t, filepath.Join("..", "..", "scenarios", "projections", p+".yaml"), filepath.Join(r.dir, p+".yaml"))
	}
	return r
}

// post sends JSON and gives the header of the answer.
func post(t *testing.T, url, body string, into any) http.Header {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		t.Fatalf("POST %s: %s", url, res.Status)
	}
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
	return res.Header
}

// Who writes over REST and shows the token of the answer to another service reads
// there what was written, however fresh it is and whatever was killed meanwhile.
func TestTokenOfARestAnswer(t *testing.T) {
	t.Parallel()
	road := newRoad(t)
	old := road.begin("../legacy-shop", "serve", "--database", road.source.URL, "--listen", "127.0.0.1:0")
	old.Listening() // the tables are made
	old.Stop()
	setup := road.begin("../cdc", "setup", "--apply")
	if code := setup.End(); code != 0 {
		t.Fatalf("cdc setup exits with %d:\n%s", code, setup.Log())
	}
	start := func() (*clitest.Process, string) {
		cdc := road.begin("../cdc", "run")
		url := cdc.Listening()
		cdc.Await("streaming")
		return cdc, url
	}
	cdc, follows := start()
	shop := road.begin("../legacy-shop", "serve", "--database", road.source.URL, "--listen", "127.0.0.1:0", "--token-from", follows)
	target := shop.Listening()
	run := road.start("--instance", "only")
	reads := run.Listening()
	run.Await("running: customer_360")

	registered := 0
	register := func() (id int, name, token string) {
		registered++
		name = fmt.Sprintf("Ann the %d.", registered)
		var made struct{ ID int }
		header := post(t, target+"/customers", fmt.Sprintf(`{"name":%q,"country":"EIRE"}`, name), &made)
		return made.ID, name, header.Get("Banyan-Token")
	}
	// Where the shop has to wait too long for a token, its answer goes out without one.
	tokened := func() (id int, name, token string) {
		t.Helper()
		road.eventually("the shop gives a token", func() bool {
			id, name, token = register()
			return token != ""
		})
		return id, name, token
	}
	read := func(id int, name, token string) {
		t.Helper()
		for _, path := range []string{"/in/shipping_addresses/customers/", "/in/customer_360/customers/"} {
			code, header, body := ask(t, reads+path+fmt.Sprint(id), "Banyan-Token", token, "Banyan-Wait", "30s")
			if code != 200 || !strings.Contains(body, name) {
				t.Errorf("GET %s%d with token %s: %d %s (the answer is of %s)", path, id, token, code, body, header.Get("Banyan-Token"))
			}
		}
	}
	for range 30 {
		read(tokened())
	}
	// A token outlives the death of everybody on the road.
	id, name, token := tokened()
	run.Kill()
	run = road.start("--instance", "only")
	reads = run.Listening()
	read(id, name, token)
	cdc.Kill()
	id, name, token = register() // without cdc there may be no token: then there is nothing to wait for
	cdc, _ = start()
	if token != "" {
		read(id, name, token)
	}
	if token != "" {
		// The same in SQL, for readers that never heard of us.
		if got := road.one(`SELECT banyan.wait('shipping_addresses', $1, '30 s')`, token); got != "passed" {
			t.Errorf("banyan.wait says %q", got)
		}
		if got := road.one(`SELECT name FROM shipping_addresses.addresses WHERE customer_id = $1`, id); got != name {
			t.Errorf("in SQL the customer is %q, not %q", got, name)
		}
		road.must(0, "wait", "customer_360", token)
	}
	for _, p := range []string{"shipping_addresses", "customer_360"} {
		road.must(0, "verify", p)
	}
	run.Stop()
	cdc.Stop()
	shop.Stop()
}
