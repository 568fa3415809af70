package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"banyan/money"
)

// shadowName is what the story's shadow is called.
const shadowName = "demand"

// addCandidate lets somebody with an idea run a pricing service in the shadow of the
// shop: nobody in the shop has to be asked for it, and no customer sees its prices.
func (t *tour) addCandidate(ctx context.Context) error {
	t.title("Somebody has an idea for prices: a candidate, in the shadow (shadow run)")
	p, err := t.start("pricing", t.pricing, "serve", "--listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	line, err := t.waitLine(ctx, p, "listening on ")
	if err != nil {
		return err
	}
	address, _, _ := strings.Cut(line, " ")
	t.candidate = address + "/quotes"
	s, err := t.start("shadow", t.shadow, "run", "--name", shadowName, "--candidate", t.candidate, "--from", "start", "--live", "127.0.0.1:0")
	if err != nil {
		return err
	}
	lines, err := t.waitLines(ctx, s, "listening on ", "running: ")
	if err != nil {
		return err
	}
	say(t.out, "stock and recent demand move its prices a little, as airlines do it; each order is priced with what was known before it")
	say(t.out, "a page that follows it: "+lines[0])
	return nil
}

// weighed is what the story shows of `shadow report --output json`.
type weighed struct {
	Verdict struct {
		Rung string `json:"rung"`
	} `json:"verdict"`
	Reconciliation struct {
		OK         bool `json:"ok"`
		Projection struct {
			State string `json:"state"`
		} `json:"projection"`
		Currencies []struct {
			Currency string `json:"currency"`
			Rows     []struct {
				What    string       `json:"what"`
				Lines   int64        `json:"lines"`
				Control money.Amount `json:"control"`
			} `json:"rows"`
		} `json:"currencies"`
	} `json:"reconciliation"`
}

// weigh says in money what the candidate's prices would have changed in the orders of
// this story, and holds the control's side of it against another service's books.
func (t *tour) weigh(ctx context.Context) error {
	t.title("What would its prices have changed, in money? (shadow aa, shadow report)")
	// From where it stands to the end of what there is.
	if err := t.stopNamed("shadow"); err != nil {
		return err
	}
	if _, err := t.command(ctx, t.shadow, []string{"run", "--name", shadowName, "--candidate", t.candidate, "--until-caught-up"}, 1); err != nil {
		return err
	}
	text, err := t.command(ctx, t.shadow, []string{"aa", "--candidate", t.candidate})
	if err != nil {
		return err
	}
	say(t.out, text)
	if t.report, err = t.reportFolder(); err != nil {
		return err
	}
	if text, err = t.command(ctx, t.shadow, []string{"report", "--out", t.report}, 1); err != nil {
		return err
	}
	shown, _, _ := strings.Cut(text, "\nreport.html")
	say(t.out, strings.TrimSpace(shown))
	raw, err := os.ReadFile(filepath.Join(t.report, "report.json"))
	if err != nil {
		return err
	}
	var w weighed
	if err := json.Unmarshal(raw, &w); err != nil {
		return fmt.Errorf("read report.json: %w", err)
	}
	return t.checkBooks(ctx, w)
}

// checkBooks holds what the shadow has consumed against orders_view, which knows of no
// candidate.
func (t *tour) checkBooks(ctx context.Context, w weighed) error {
	if !w.Reconciliation.OK || w.Reconciliation.Projection.State != "equal" {
		return &notProved{"the shadow's books do not add up"}
	}
	token, err := t.token(ctx)
	if err != nil {
		return err
	}
	got, err := t.readAt(ctx, token, "orders_view", `SELECT count(*)::text, sum(amount)::numeric(14,3)::text FROM orders_view.lines`)
	if err != nil {
		return err
	}
	for _, c := range w.Reconciliation.Currencies {
		for _, r := range c.Rows {
			if r.What != "consumed" {
				continue
			}
			exact, err := r.Control.Rescale(3)
			if err != nil {
				return err
			}
			say(t.out, fmt.Sprintf("orders_view says so too: %s lines, %s %s", got[0][0], got[0][1], c.Currency))
			if got[0][0] != fmt.Sprint(r.Lines) || got[0][1] != exact.Number() {
				return &notProved{fmt.Sprintf("the shadow has consumed %d lines and %s, orders_view has %v", r.Lines, exact, got[0])}
			}
		}
	}
	return nil
}

// reportFolder is where the report stays when all else is gone.
func (t *tour) reportFolder() (string, error) {
	if t.report == "" {
		return os.MkdirTemp("", "banyan-report-")
	}
	dir, err := filepath.Abs(t.report)
	if err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755)
}
