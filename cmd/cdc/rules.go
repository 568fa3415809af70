package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"banyan/outbox"
	"banyan/translate"
	"banyan/wal"
)

// compile checks the configuration against the real tables of the source.
func (a *app) compile(ctx context.Context, cfg *translate.Config) (*wal.Catalog, *translate.Rules, error) {
	cat, err := a.inspect(ctx, cfg.Source.URL)
	if err != nil {
		return nil, nil, err
	}
	rules, warnings, err := compileAgainst(cfg, cat, 1)
	if err != nil {
		return nil, nil, badInput("%w", err)
	}
	for _, w := range warnings {
		a.log.Warn(w.Error())
	}
	for _, t := range cat.Tables {
		var names []string
		for _, c := range t.Columns {
			names = append(names, c.Name)
		}
		for _, c := range rules.Lacks(t.FullName(), names) {
			a.log.Warn("a column is neither kept nor left out by the rules; its values are not read", "table", t.FullName(), "column", c)
		}
	}
	return cat, rules, nil
}

func compileAgainst(cfg *translate.Config, cat *wal.Catalog, version int) (*translate.Rules, []translate.Warning, error) {
	var tables []*wal.Table
	for _, t := range cfg.Tables {
		if cat.Find(t.Name) == nil {
			continue // Compile says so, with the line
		}
		table, err := cat.Table(t.Name, nil)
		if err != nil {
			return nil, nil, err
		}
		tables = append(tables, table)
	}
	return translate.Compile(cfg, tables, version)
}

// recordedRules are the rules of this run and the text they were read from.
type recordedRules struct {
	rules  *translate.Rules
	yaml   string
	source string // URL
	app    *app
}

func (r *running) recorded() recordedRules {
	b, err := os.ReadFile(r.app.flags.config)
	if err != nil {
		b = nil // read a moment ago; PutRules then keeps the digest alone
	}
	return recordedRules{rules: r.rules, yaml: string(b), source: r.cfg.Source.URL, app: r.app}
}

// versioned gives rules the version under which the store knows them.
func versioned(r *translate.Rules, version int) *translate.Rules {
	v := *r
	v.Version = version
	return &v
}

// put records the rules in a commit and gives the engine their version.
func (n recordedRules) put(ctx context.Context, engine *translate.Engine) func(*outbox.Tx) error {
	topics := map[string]string{}
	for _, t := range n.rules.Topics() {
		topics[t.Aggregate] = t.Name
	}
	return func(tx *outbox.Tx) error {
		version, err := tx.PutRules(ctx, n.rules.Digest(), n.yaml, topics)
		if err == nil {
			engine.Rules = versioned(n.rules, version)
		}
		return err
	}
}

// old compiles the rule set that the store has, against today's tables.
func (n recordedRules) old(ctx context.Context, set outbox.RuleSet) (*translate.Rules, error) {
	cfg, err := translate.Load("rule set", []byte(set.YAML))
	if err != nil {
		return nil, err
	}
	cat, err := n.app.inspect(ctx, n.source)
	if err != nil {
		return nil, err
	}
	rules, _, err := compileAgainst(cfg, cat, set.Version)
	return rules, err
}

// adoptRules brings a changed rule file into effect before the stream goes on.
// Where the stored states lack what the new rules name, those aggregates are
// read again first.
func (c *capture) adoptRules(ctx context.Context, n recordedRules) error {
	set, err := c.owner.Store().CurrentRules(ctx)
	if err != nil {
		return err
	}
	cut, err := c.resnapshotCutShort(ctx)
	if err != nil {
		return err
	}
	version := set.Version
	if set.Digest != n.rules.Digest() {
		version++
	} else if !cut {
		return c.patiently(ctx, c.owner.Position(), n.put(ctx, c.engine)) // the topics of keys that park before their first event
	}
	c.engine.Rules = versioned(n.rules, version)
	var aggregates []string
	if cut {
		c.log.Info("an earlier look at the tables was cut short; every aggregate is read again")
		aggregates = n.aggregates()
	} else if aggregates, err = c.needed(ctx, n, set); err != nil {
		return err
	}
	if len(aggregates) == 0 {
		err = c.patiently(ctx, c.owner.Position(), n.put(ctx, c.engine))
	} else {
		err = c.resnapshot(ctx, aggregates, n.put(ctx, c.engine))
	}
	if err != nil {
		return fmt.Errorf("bring rule set %d into effect: %w", version, err)
	}
	if version == set.Version {
		return nil
	}
	c.log.Info("the rules have changed; they take effect from the next transaction", "rules", c.engine.Rules.Version, "position", wal.LSN(c.owner.Position().End))
	return nil
}

// resnapshotCutShort says whether a re-snapshot has begun and not ended. What it
// has told is as new as the tables were then, and nothing remembers which
// transactions that were; so it begins anew, whatever the file says now.
func (c *capture) resnapshotCutShort(ctx context.Context) (bool, error) {
	last, err := c.owner.Store().LastSnapshot(ctx)
	return err == nil && last.Number > 0 && last.Running() && last.Kind == outbox.SnapshotRequest, err
}

// aggregates are all that the rules have.
func (n recordedRules) aggregates() (all []string) {
	for _, u := range n.rules.Units() {
		all = append(all, u.Aggregate)
	}
	return all
}

// needed names the aggregates to be read again for the new rules. Old rules
// that today's tables do not fit any more are no guide: then it is all.
func (c *capture) needed(ctx context.Context, n recordedRules, set outbox.RuleSet) ([]string, error) {
	old, err := n.old(ctx, set)
	if err != nil {
		c.log.Warn("the former rules do not fit the tables any more; every aggregate is read again", "rules", set.Version, "error", err)
		return n.aggregates(), ctx.Err()
	}
	var list []string
	for _, r := range translate.Diff(old, n.rules) {
		c.log.Info("the new rules need data that the store lacks; the aggregate is read again", "aggregate", r.Aggregate, "reason", r.Reason)
		if !slices.Contains(list, r.Aggregate) {
			list = append(list, r.Aggregate)
		}
	}
	return list, nil
}

// firstSnapshotDue says whether the first snapshot of this generation is not
// complete.
func (c *capture) firstSnapshotDue(ctx context.Context) (bool, error) {
	f, err := c.owner.Frontier(ctx)
	return !f.Complete, err
}
