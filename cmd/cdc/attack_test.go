package main_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
)

// folderSQL and folderRules are two tables and rules that leave gaps: a row
// without a parent, and a table that only a rule's reach makes known.
const folderSQL = `
CREATE TABLE folders (id int PRIMARY KEY, title text NOT NULL, mark int);
CREATE TABLE notes (id int PRIMARY KEY, folder_id int NOT NULL, body text NOT NULL);
CREATE TABLE pages (id int PRIMARY KEY, note_id int NOT NULL);
CREATE TABLE scans (id int PRIMARY KEY, folder_id int NOT NULL);
INSERT INTO folders SELECT i, 'folder ' || i FROM generate_series(1, 5) i;
INSERT INTO notes SELECT i, i, 'note ' || i FROM generate_series(1, 5) i;
`

const folderRules = `version: 1
source:
  name: attack
  slot: banyan_SLOT
  publication: banyan_attack
unknown: park
tables:
  public.folders: {columns: [id, title, mark]}
  public.notes: {columns: [id, folder_id, body]}
  public.pages: {columns: [id, note_id]}
  public.scans: {columns: [id, folder_id]}
aggregates:
  Folder:
    table: public.folders
    key: [id]
    topic: attack.folders
    state: [id, title]
    children:
      - table: public.notes
        as: notes
        key: [id]
        parent: {folder_id: id}
        state: [id, body]
        children:
          - {table: public.pages, as: pages, key: [id], parent: {note_id: id}, state: [id]}
    events:
      - {type: FolderMade, on: insert, when: new.title != "odd", absorb: [public.notes, public.pages]}
      - type: FolderScanned
        on: update
        when: len(scans) > 0
        reach: {scans: {table: public.scans, key: {folder_id: new.id}}}
        absorb: [public.scans]
      - {type: FolderNamed, on: update, when: new.title != old.title}
      - {type: FolderGone, on: delete, absorb: [public.notes, public.pages]}
      - {type: NoteAdded, on: {table: public.notes, op: insert}}
      - {type: NoteChanged, on: {table: public.notes, op: update}}
      - {type: PageAdded, on: {table: public.pages, op: insert}}
      - {type: NoteGone, on: {table: public.notes, op: delete}}
`

// folders is a house with these tables and rules, set up.
func folders(t *testing.T, h *house) *house {
	t.Helper()
	h.source.Exec(t, folderSQL)
	yaml := strings.ReplaceAll(folderRules, "SLOT", strings.ToLower(h.source.Name))
	if err := os.WriteFile(filepath.Join(h.dir, "banyan.yaml"), []byte(yaml), 0o644); err != nil {
		t.Fatal(err)
	}
	h.must(0, "setup", "--apply")
	return h
}

// What is parked without an aggregate can be discarded like all else; the run
// lives on.
func TestDiscardOfWhatBelongsToNoAggregate(t *testing.T) {
	t.Parallel()
	h := folders(t, newHouse(t, ""))
	r := h.start()
	r.Await("streaming")
	h.source.Exec(t, `INSERT INTO pages VALUES (100, 999)`)
	h.source.Exec(t, `INSERT INTO scans VALUES (1, 1)`) // no event takes it
	h.source.Exec(t, `UPDATE folders SET title = 'last' WHERE id = 5`)
	h.cdc("verify", "--wait", "2m") // waits until all of it has come
	list := h.must(1, "parked", "list")
	if !strings.Contains(list.Out, "public.scans/") || !strings.Contains(list.Out, "Folder/%3F,") {
		t.Fatalf("want a scan and a page without a note in %s", list)
	}
	h.must(0, "parked", "discard", "--all", "--wait", "2m")
	h.must(0, "parked", "list")
	h.source.Exec(t, `UPDATE folders SET title = 'after' WHERE id = 5`)
	h.proved()
	r.Stop()
}

// A commit that waits for a synchronous standby is in the stream, and stored,
// before anybody can see it. A look at the tables that does not see it yet would
// undo it in the topics, and nobody would ever tell it again.
func TestDiscardSeesWhatTheStreamHasBrought(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	h := &house{t: t, dir: t.TempDir(), source: server.NewDB(t), store: pgtest.New(t), broker: kafkatest.New(t)}
	h.url = h.source.URL
	folders(t, h)
	r := h.start()
	r.Await("streaming")
	h.source.Exec(t, `INSERT INTO pages VALUES (1, 1)`)
	h.source.Exec(t, `DELETE FROM pages`) // which no rule knows
	h.entries("Folder/1", 1)
	h.source.Exec(t, `ALTER SYSTEM SET synchronous_standby_names = 'nobody'`)
	h.source.Exec(t, `SELECT pg_reload_conf()`)
	held := make(chan error, 1)
	go func() {
		conn, err := pgx.Connect(context.Background(), h.source.URL)
		if err == nil {
			defer conn.Close(context.Background())
			_, err = conn.Exec(context.Background(), `SET synchronous_commit = on; UPDATE folders SET title = 'held' WHERE id = 1`)
		}
		held <- err
	}()
	h.entries("Folder/1", 2)
	a := h.cdc("parked", "discard", "Folder/1", "--wait", "2m")
	conn, err := pgx.Connect(t.Context(), h.source.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, sql := range []string{`SET synchronous_commit = local`, `ALTER SYSTEM RESET synchronous_standby_names`, `SELECT pg_reload_conf()`} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-held; err != nil {
		t.Fatal(err)
	}
	if a.Code == 1 && strings.Contains(a.Err, "open for too long") {
		h.must(0, "parked", "discard", "Folder/1", "--wait", "2m")
	} else if a.Code != 0 {
		t.Errorf("want a discard that waits, or says why it cannot, from %s", a)
	}
	h.proved()
	r.Stop()
}

// entries waits until a chain has so many entries.
func (h *house) entries(key string, n int) {
	h.t.Helper()
	h.eventually(fmt.Sprintf("%d entries of %s", n, key), func() bool {
		return strings.Count(h.cdc("parked", "show", key, "-o", "json").Out, `"reason"`) >= n
	})
}

// A truncate reaches an aggregate that was parked at its birth, of which the
// store keeps no state.
func TestTruncateReachesWhatWasParkedAtBirth(t *testing.T) {
	t.Parallel()
	h := folders(t, newHouse(t, ""))
	r := h.start()
	r.Await("streaming")
	h.source.Exec(t, `INSERT INTO folders VALUES (50, 'odd')`) // which no rule knows
	h.entries("Folder/50", 1)
	h.source.Exec(t, `TRUNCATE folders, notes, pages`)
	h.source.Exec(t, `INSERT INTO folders VALUES (60, 'after')`)
	h.cdc("verify", "--wait", "2m") // waits until all of it has come
	r.Stop()
	h.edit(` when: new.title != "odd",`, "")
	r = h.start()
	r.Await("streaming")
	h.must(0, "parked", "release", "--all", "--wait", "2m")
	h.proved()
	r.Stop()
}

// The same for a table that is read again, and does not have the key any more.
func TestResnapshotRemovesWhatWasParkedAtBirth(t *testing.T) {
	t.Parallel()
	h := folders(t, newHouse(t, ""))
	r := h.start()
	r.Await("streaming")
	h.source.Exec(t, `INSERT INTO folders VALUES (50, 'odd'), (51, 'odd')`)
	h.entries("Folder/50", 1)
	r.Stop()
	h.source.Exec(t, `DELETE FROM folders WHERE id = 50`)
	h.edit(` when: new.title != "odd",`, "")
	h.edit(`state: [id, title]`, `state: [id, title, mark]`) // which the store lacks
	r = h.start()
	r.Await("streaming")
	h.must(0, "parked", "release", "--all", "--wait", "2m")
	h.proved()
	r.Stop()
}

// A re-snapshot that was cut short has told some states already, by rules that
// must be known, and others not: the next start begins it anew, also when the
// file is what it was before.
func TestResnapshotCutShortBeginsAnew(t *testing.T) {
	t.Parallel()
	h := folders(t, newHouse(t, ""))
	h.must(0, "run", "--until-caught-up")
	// What a kill leaves behind.
	h.store.Exec(t, `INSERT INTO banyan.snapshot (n, kind, generation, lsn) VALUES (7, 'request', 1, 0)`)
	h.must(0, "run", "--until-caught-up")
	h.proved()
}

// Killed in the middle of a re-snapshot, with the old file put back: the topics
// agree with the tables and name rules that are known.
func TestKilledResnapshotWithTheOldFile(t *testing.T) {
	t.Parallel()
	h := folders(t, newHouse(t, ""))
	h.source.Exec(t, `INSERT INTO folders SELECT i, 'more ' || i FROM generate_series(1000, 30000) i`)
	h.must(0, "run", "--until-caught-up")
	h.edit(`state: [id, title]`, `state: [id, title, mark]`)
	r := h.start()
	told := func() int64 { return h.number(h.store, `SELECT count(*)::text FROM banyan.state WHERE rules = 2`) }
	h.eventually("something is recorded by the new rules", func() bool { return told() > 0 })
	r.Signal(syscall.SIGKILL)
	r.End()
	t.Logf("%d states were recorded before the end", told())
	h.edit(`state: [id, title, mark]`, `state: [id, title]`)
	h.must(0, "run", "--until-caught-up")
	h.proved()
}

// A password that breaks its URL does not get out in pieces.
func TestBrokenURLKeepsItsPassword(t *testing.T) {
	t.Parallel()
	h := &house{t: t, dir: t.TempDir(), source: &pgtest.DB{}, store: &pgtest.DB{}, broker: &kafkatest.Broker{}}
	for _, url := range []string{
		`postgres://u:hunter/2@127.0.0.1:1/db`, `postgres://u:hunter#2@127.0.0.1:1/db`, `postgres://u:hunter?2@127.0.0.1:1/db`,
		`postgres://u:hun%terhunter@127.0.0.1:1/db`, `postgres://u:hunter 2@127.0.0.1:1/db`, `postgres://u:"hunter/2@127.0.0.1:1/db`,
	} {
		a := h.must(2, "doctor", "--source", url)
		if strings.Contains(a.Out+a.Err, "hunter") || strings.Contains(a.Err, "%te") {
			t.Errorf("%s: a part of the password got out: %s", url, a)
		}
	}
}

// Under another replica identity a changed key comes without the old one: the
// run stops, and nothing is proved of an aggregate that cannot be looked at.
func TestReplicaIdentityThatLosesTheKeyStops(t *testing.T) {
	t.Parallel()
	h := folders(t, newHouse(t, ""))
	r := h.start()
	r.Await("streaming")
	h.source.Exec(t, `CREATE UNIQUE INDEX by_title ON folders (title)`)
	h.source.Exec(t, `ALTER TABLE folders REPLICA IDENTITY USING INDEX by_title`)
	h.source.Exec(t, `UPDATE folders SET id = 77 WHERE id = 1`)
	if code := r.End(); code != 1 || !strings.Contains(r.Log(), "no longer in the table's replica identity") {
		t.Errorf("want exit 1 and the reason, got %d:\n%s", code, r.Log())
	}
	if a := h.must(1, "verify", "--wait", "1s"); !strings.Contains(a.Err, "nothing can be proved") {
		t.Errorf("want a verify that says why it cannot, got %s", a)
	}
	h.source.Exec(t, `ALTER TABLE folders REPLICA IDENTITY DEFAULT`)
	h.must(0, "repair")
	h.proved()
}
