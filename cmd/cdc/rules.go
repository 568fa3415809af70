package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"banyan/cmd/internal/cli"
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
		return nil, nil, cli.BadInput("%w", err)
	}
	for _, w := range warnings {
		a.Log.Warn(w.Error())
	}
	for _, t := range cat.Tables {
		var names []string
		for _, c := range t.Columns {
			names = append(names, c.Name)
		}
		for _, c := range rules.Lacks(t.FullName(), names) {
			a.Log.Warn("a column is neither kept nor left out by the rules; its values are not read", "table", t.FullName(), "column", c)
		}
	}
	return cat, rules, nil
}

func compileAgainst(cfg *translate.Config, cat *wal.Catalog, version int) (*translate.Rules, []translate.Warning, error) {
	tables, err := tablesOf(cfg, cat)
	if err != nil {
		return nil, nil, err
	}
	return translate.Compile(cfg, tables, version)
}

// tablesOf finds the tables that the configuration names, as they are today.
// Those that are not there are left to the compiler, which knows the line.
func tablesOf(cfg *translate.Config, cat *wal.Catalog) ([]*wal.Table, error) {
	var tables []*wal.Table
	for _, t := range cfg.Tables {
		if cat.Find(t.Name) == nil {
			continue
		}
		table, err := cat.Table(t.Name, nil)
		if err != nil {
			return nil, err
		}
		tables = append(tables, table)
	}
	return tables, nil
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

// typesMark begins the last line of the text that the store keeps of a rule
// set: the types of the captured columns that the rules were checked against.
const typesMark = "# types: "

func (n recordedRules) types() string {
	b, err := json.Marshal(n.rules.Types())
	if err != nil {
		return "{}" // cannot happen: plain text
	}
	return string(b)
}

// typesOf reads them back; nil where the text has none.
func typesOf(yaml string) (types map[string]map[string]string) {
	if _, line, ok := strings.Cut(yaml, "\n"+typesMark); ok {
		_ = json.Unmarshal([]byte(line), &types) // then nothing is known of them
	}
	return types
}

// digest tells rule sets apart: the same file means something else where a
// column has another type.
func (n recordedRules) digest() string {
	sum := sha256.Sum256([]byte(n.rules.Digest() + n.types()))
	return hex.EncodeToString(sum[:])
}

// put records the rules in a commit and gives the engine their version.
func (n recordedRules) put(ctx context.Context, engine *translate.Engine) func(*outbox.Tx) error {
	topics := map[string]string{}
	for _, t := range n.rules.Topics() {
		topics[t.Aggregate] = t.Name
	}
	return func(tx *outbox.Tx) error {
		version, err := tx.PutRules(ctx, n.digest(), n.yaml+"\n"+typesMark+n.types()+"\n", topics)
		if err == nil {
			engine.Rules = versioned(n.rules, version)
		}
		return err
	}
}

// adoptRules brings a changed rule file into effect before the stream goes on.
// Where the stored states lack what the new rules name, those aggregates are
// read again first.
func (c *capture) adoptRules(ctx context.Context, n recordedRules) error {
	if err := c.slotAsLeft(ctx); err != nil {
		return err
	}
	set, err := c.owner.Store().CurrentRules(ctx)
	if err != nil {
		return err
	}
	cut, err := c.resnapshotCutShort(ctx)
	if err != nil {
		return err
	}
	version := set.Version
	if set.Digest != n.digest() {
		version++
	} else if !cut {
		return c.patiently(ctx, c.owner.Position(), n.put(ctx, c.engine)) // the topics of keys that park before their first event
	}
	c.engine.Rules = versioned(n.rules, version)
	list, err := c.toRead(ctx, n, set, version, cut)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		err = c.patiently(ctx, c.owner.Position(), n.put(ctx, c.engine))
	} else {
		err = c.resnapshot(ctx, list, n.put(ctx, c.engine))
	}
	if err != nil {
		return fmt.Errorf("bring rule set %d into effect: %w", version, err)
	}
	if version != set.Version {
		c.log.Info("the rules have changed; they take effect from the next transaction", "rules", c.engine.Rules.Version, "position", wal.LSN(c.owner.Position().End))
	}
	return nil
}

// slotAsLeft checks, before anything is written, that the slot can still be
// read from the stored position: an old copy of the store must not go on.
func (c *capture) slotAsLeft(ctx context.Context) error {
	conn, err := wal.Connect(ctx, c.reader.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	slot, err := wal.SlotInfo(ctx, conn, c.reader.slot)
	if err != nil {
		return err
	}
	if from := wal.LSN(c.owner.Position().End); slot.Confirmed > from {
		return &wal.SlotAheadError{Slot: slot.Name, Confirmed: slot.Confirmed, From: from}
	}
	return nil
}

// resnapshotCutShort says whether a re-snapshot has begun and not ended. What it
// has told is as new as the tables were then, and nothing remembers which
// transactions that were; so it begins anew, whatever the file says now.
func (c *capture) resnapshotCutShort(ctx context.Context) (bool, error) {
	last, err := c.owner.Store().LastSnapshot(ctx)
	return err == nil && last.Number > 0 && last.Running() && last.Kind == outbox.SnapshotRequest, err
}

// toRead names what is to be read again before the rules of this version take
// effect: what they need, and all of it after a re-snapshot that was cut short.
// That one had its rule set recorded already, so the one before says what it
// was for.
func (c *capture) toRead(ctx context.Context, n recordedRules, set outbox.RuleSet, version int, cut bool) (list []again, err error) {
	if cut && version == set.Version && version > 1 {
		if set, err = c.owner.Store().RulesVersion(ctx, version-1); err != nil {
			return nil, err
		}
	}
	if list, err = c.needed(ctx, n, set); err != nil || !cut {
		return list, err
	}
	c.log.Info("an earlier look at the tables was cut short; every aggregate is read again")
	for _, u := range n.rules.Units() {
		if !slices.ContainsFunc(list, func(a again) bool { return a.aggregate == u.Aggregate }) {
			list = append(list, again{aggregate: u.Aggregate})
		}
	}
	return list, nil
}

// again is an aggregate to be read again.
type again struct {
	aggregate string
	// retell also what is equal: the rules that have told it last do not fit
	// today's tables, so that nothing can be proved by them.
	retell bool
}

// needed names the aggregates to be read again for the new rules. Old rules
// that today's tables do not fit any more are no guide: then it is all.
func (c *capture) needed(ctx context.Context, n recordedRules, set outbox.RuleSet) (list []again, err error) {
	cfg, err := translate.Load("rule set", []byte(set.YAML))
	if err != nil {
		return nil, err
	}
	cat, err := n.app.inspect(ctx, n.source)
	if err != nil {
		return nil, err
	}
	reasons, retell := map[string]string{}, map[string]bool{}
	old, _, misfit := compileAgainst(cfg, cat, set.Version)
	if misfit != nil {
		c.log.Warn("the former rules do not fit the tables any more; every aggregate is read again", "rules", set.Version, "error", misfit)
		tables, err := tablesOf(cfg, cat)
		if err != nil {
			return nil, err
		}
		_, gone := translate.CompileStates(cfg, tables, set.Version)
		for _, u := range n.rules.Units() {
			reasons[u.Aggregate] = "the former rules do not fit the tables any more"
			retell[u.Aggregate] = gone[u.Aggregate] != nil
		}
	} else {
		for _, r := range translate.Diff(old, n.rules) {
			reasons[r.Aggregate] = r.Reason
		}
	}
	was, is := typesOf(set.YAML), n.rules.Types()
	for _, u := range n.rules.Units() {
		for table, columns := range n.rules.Uses(u.Aggregate) {
			for _, name := range columns {
				if before := was[table][name]; before != "" && before != is[table][name] {
					reasons[u.Aggregate] = fmt.Sprintf("column %s of %s was %s and is %s", name, table, before, is[table][name])
					retell[u.Aggregate] = true
				}
			}
		}
		if reason := reasons[u.Aggregate]; reason != "" {
			c.log.Info("the new rules need data that the store lacks; the aggregate is read again", "aggregate", u.Aggregate, "reason", reason)
			list = append(list, again{u.Aggregate, retell[u.Aggregate]})
		}
	}
	return list, nil
}

// retellMisfits prepares a whole snapshot under rules that are new: what the
// former ones can prove nothing of any more is told again.
func (c *capture) retellMisfits(ctx context.Context, n recordedRules) error {
	set, err := c.owner.Store().CurrentRules(ctx)
	if err != nil || set.Version == 0 || set.Digest == n.digest() {
		return err
	}
	list, err := c.needed(ctx, n, set)
	if err != nil {
		return err
	}
	c.retell = map[string]bool{}
	for _, a := range list {
		c.retell[a.aggregate] = a.retell
	}
	return nil
}

// firstSnapshotDue says whether the first snapshot of this generation is not
// complete.
func (c *capture) firstSnapshotDue(ctx context.Context) (bool, error) {
	f, err := c.owner.Frontier(ctx)
	return !f.Complete, err
}
