package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// shopRules are the shop's business events. `cdc init` drafts a file like it;
// this one is what a team would make of the draft.
//
//go:embed shop.yaml
var shopRules []byte

// tour is one telling of the story.
type tour struct {
	out   io.Writer
	days  int
	seed  uint64
	began time.Time

	dir       string
	cdc       string
	shop      string
	projector string
	shadow    string
	pricing   string
	postgres  *url.URL // of the server; each service has a database of its own there
	source    string   // URL of the shop's database
	target    string   // URL of the shop
	follows   string   // URL of cdc run
	reads     string   // URL of the read API
	candidate string   // URL where the candidate gives quotes
	report    string   // folder of the report, which outlives the story
	embedded  bool
	running   []*process
	step      int
	order     int    // the example order
	event     string // the id of its first event
}

// notProved is a proof that does not hold.
type notProved struct{ report string }

func (n *notProved) Error() string { return "the proof does not hold:\n" + n.report }

// replayed is what `legacy-shop replay --output json` says of itself.
type replayed struct {
	Seconds        float64 `json:"seconds"`
	Calls          int     `json:"calls"`
	Orders         int     `json:"orders"`
	Rejected       int     `json:"rejected"`
	Returns        int     `json:"returns"`
	ExampleOrderID int     `json:"exampleOrderId"`
}

func (t *tour) tell(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		t.build, t.servers, t.monolith, t.examine, t.point, t.addServices, t.addCandidate, t.week, t.life, t.explain,
		t.readOwnWrite, t.catchThief, t.recreate, t.compareBooks, t.proveServices, t.prove, t.weigh, t.leave,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// title begins a step.
func (t *tour) title(format string, args ...any) {
	t.step++
	fmt.Fprintf(t.out, "\n%d. %s\n", t.step, fmt.Sprintf(format, args...))
}

func (t *tour) env() []string {
	env := []string{"BANYAN_SOURCE=" + t.source, "BANYAN_DATA_DIR=" + filepath.Join(t.dir, "banyan-data"), "BANYAN_CONFIG=" + filepath.Join(t.dir, "banyan.yaml")}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "BANYAN_") {
			env = append(env, e)
		}
	}
	return env
}

func (t *tour) build(ctx context.Context) error {
	t.title("Build the shop, cdc, projector, shadow and pricing")
	dir, err := os.MkdirTemp("", "banyan-scenarios-")
	if err != nil {
		return err
	}
	// An embedded Postgres that drops its root rights must be able to enter.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	t.dir = dir
	bin := filepath.Join(dir, "bin")
	t.cdc, t.shop, t.projector = filepath.Join(bin, "cdc"), filepath.Join(bin, "legacy-shop"), filepath.Join(bin, "projector")
	t.shadow, t.pricing = filepath.Join(bin, "shadow"), filepath.Join(bin, "pricing")
	began := time.Now()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", bin+string(filepath.Separator), "./cmd/cdc", "./cmd/legacy-shop", "./cmd/projector", "./cmd/shadow", "./cmd/pricing")
	cmd.Dir = sourceDir()
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, msg)
	}
	say(t.out, fmt.Sprintf("built in %s", time.Since(began).Round(100*time.Millisecond)))
	return nil
}

// sourceDir is the repository, found from where this file was compiled, so that
// the story runs from any directory.
func sourceDir() string {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "."
	}
	return filepath.Dir(filepath.Dir(file))
}

func (t *tour) servers(ctx context.Context) error {
	t.title("Start a Postgres and a broker of our own (cdc embedded start)")
	t.embedded = true
	if _, err := t.command(ctx, t.cdc, []string{"embedded", "start"}); err != nil {
		return err
	}
	// What cdc prints has no password in it; the file, which only we may read, has.
	b, err := os.ReadFile(filepath.Join(t.dir, "banyan-data", "embedded.json"))
	if err != nil {
		return err
	}
	var st struct {
		Postgres struct{ URL, Version string } `json:"postgres"`
		Broker   struct{ Addrs []string }      `json:"broker"`
	}
	if err := json.Unmarshal(b, &st); err != nil {
		return fmt.Errorf("read embedded.json: %w", err)
	}
	if t.postgres, err = url.Parse(st.Postgres.URL); err != nil {
		return fmt.Errorf("read embedded.json: %w", err)
	}
	conn, err := pgx.Connect(ctx, st.Postgres.URL)
	if err != nil {
		return fmt.Errorf("connect to the embedded Postgres: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "CREATE DATABASE shop"); err != nil {
		return fmt.Errorf("create the shop's database: %w", err)
	}
	t.source = t.database("shop")
	say(t.out, fmt.Sprintf("Postgres %s; broker at %s (kfake, for trying)", st.Postgres.Version, strings.Join(st.Broker.Addrs, ",")))
	return nil
}

// database is the URL of a database of the server.
func (t *tour) database(name string) string {
	u := *t.postgres
	u.Path = "/" + name
	return u.String()
}

func (t *tour) monolith(ctx context.Context) error {
	t.title("Open the monolith: a REST shop that knows nothing of events")
	p, err := t.start("shop", t.shop, "serve", "--database", t.source, "--listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if t.target, err = t.waitLine(ctx, p, "listening on "); err != nil {
		return err
	}
	say(t.out, "listening on "+t.target)
	return nil
}

func (t *tour) examine(ctx context.Context) error {
	t.title("May we read its database? (cdc doctor; it changes nothing)")
	text, err := t.command(ctx, t.cdc, []string{"doctor", "-o", "json"}, 1)
	if err != nil {
		return err
	}
	var r struct {
		Verdict                 string
		Tables                  int
		Errors, Warnings, Infos int
		Findings                []struct{ Severity, Object, Message string }
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return fmt.Errorf("read the answer of cdc doctor: %w", err)
	}
	say(t.out, fmt.Sprintf("%s: %d tables, %d errors, %d warnings, %d remarks", r.Verdict, r.Tables, r.Errors, r.Warnings, r.Infos))
	for _, f := range r.Findings {
		if f.Severity != "info" {
			say(t.out, fmt.Sprintf("%s: %s", f.Severity, f.Message))
		}
	}
	if r.Verdict == "blocked" {
		return errors.New("doctor says blocked")
	}
	return nil
}

func (t *tour) point(ctx context.Context) error {
	t.title("Point cdc at it: rules, role and publication, then run")
	if err := os.WriteFile(filepath.Join(t.dir, "banyan.yaml"), shopRules, 0o644); err != nil {
		return err
	}
	if _, err := t.command(ctx, t.cdc, []string{"setup", "--apply"}); err != nil {
		return err
	}
	p, err := t.start("cdc", t.cdc, "run", "--listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	lines, err := t.waitLines(ctx, p, "listening on ", "streaming")
	if err != nil {
		return err
	}
	t.follows, _, _ = strings.Cut(lines[0], " ")
	say(t.out, "streaming "+lines[1])
	return nil
}

func (t *tour) week(ctx context.Context) error {
	t.title("%d days of customers and staff, over REST, while all of them work", t.days)
	r, err := t.replay(ctx, "--generate", fmt.Sprint(t.days), "--seed", fmt.Sprint(t.seed), "--start", t.firstDay().Format(time.DateOnly))
	if err != nil {
		return err
	}
	say(t.out, fmt.Sprintf("%d REST calls in %.1f s: %d orders, %d of them rejected, %d returns", r.Calls, r.Seconds, r.Orders, r.Rejected, r.Returns))
	t.order = r.ExampleOrderID
	_, header, err := ask(ctx, http.MethodGet, t.reads+"/in/orders_view/orders?limit=1", nil, nil, nil, http.StatusOK)
	if err != nil {
		return err
	}
	say(t.out, fmt.Sprintf("the orders that a service shows now are %s s old", header.Get("Banyan-Age")))
	_, err = t.command(ctx, t.cdc, []string{"status", "--wait", "30s"})
	return err
}

// firstDay is the first one of the generated shop.
func (t *tour) firstDay() time.Time { return time.Date(2011, 10, 3, 0, 0, 0, 0, time.UTC) }

// replay drives the shop over REST.
func (t *tour) replay(ctx context.Context, args ...string) (replayed, error) {
	text, err := t.command(ctx, t.shop, append([]string{"replay", "--target", t.target, "--output", "json"}, args...))
	if err != nil {
		return replayed{}, err
	}
	r, err := object[replayed](text)
	if err != nil {
		return replayed{}, fmt.Errorf("read the answer of the replay: %w", err)
	}
	return r, nil
}
